"""What a transport says when it could not hand a message over."""

from __future__ import annotations


class Undelivered(Exception):
    """The message was not taken.

    ``reason`` is stored and logged, so it never holds an address, a code or words of the message. With ``permanent``
    another try would end the same way.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        """Keep the reason and whether it will pass."""
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent
