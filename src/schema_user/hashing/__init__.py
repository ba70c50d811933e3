"""Hashes of passwords: made with argon2id, compared with what other systems made, never on the event loop.

``kinds`` reads what is accepted and compares with it, ``hasher`` does that work in a few threads. ``sha_crypt`` is a
process of its own for the two kinds that are computed in Python, since these would hold the interpreter's lock.
"""
