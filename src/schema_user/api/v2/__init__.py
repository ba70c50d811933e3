"""The second generation of the API: people with a fixed profile."""
