"""What a transport says when it could not hand a message over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


class Undelivered(Exception):
    """The message was not taken.

    ``reason`` is stored and logged, so it never holds an address, a code or words of the message. With ``permanent``
    another try would end the same way. ``retry_after`` is how long the other side asked to be left alone.
    """

    def __init__(self, reason: str, *, permanent: bool = False, retry_after: timedelta | None = None) -> None:
        """Keep the reason, whether it will pass, and when."""
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent
        self.retry_after = retry_after
