"""Pages for the people whom a message reaches; they need no token."""
