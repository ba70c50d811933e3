"""MongoDB: the only package that knows the database and its drivers."""
