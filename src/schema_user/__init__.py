"""A service for user data: users whose data, contacts and permissions follow JSON Schemas."""
