"""A process that compares one password with one hash of sha256-crypt or sha512-crypt, and ends.

It is computed in Python, and would hold the interpreter's lock of the server for as long as a second. Such hashes come
from elsewhere and are replaced when their password is next right, so the start of a process is paid once for each.

Standard input is the encoded hash, a line feed, and the password; standard output is ``1`` if they match, else ``0``.
"""

from __future__ import annotations

import sys

from passlib.handlers.sha2_crypt import sha256_crypt, sha512_crypt


def main() -> int:
    """Compare, say so, and give the exit status."""
    encoded, password = sys.stdin.buffer.read().split(b"\n", 1)
    handler = sha512_crypt if encoded.startswith(b"$6$") else sha256_crypt
    sys.stdout.write("1" if handler.verify(password, encoded) else "0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
