"""From what other services export to the lines of an import: pure, one module for each service."""
