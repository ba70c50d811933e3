"""What a caller may change and what follows from it: one command, one function, one durable write."""
