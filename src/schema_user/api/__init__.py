"""The wires: bytes to commands, views to bytes, and no decisions."""
