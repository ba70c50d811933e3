"""What is true of users, schemas, contacts and codes: pure values, no I/O, no clock, no framework."""
