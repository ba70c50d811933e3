"""The v3alpha REST operations on users and user schemas."""
