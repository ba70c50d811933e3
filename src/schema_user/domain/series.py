"""The lines of one import: the ids that they get, and how each is known again when the stream is sent once more."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.repetition import Once

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE_BITS: Final = 15
"""Ids of lines that follow one another differ by so many bits: 64 of them in what an id counts as a millisecond."""

_HALF: Final = 6
"""Bytes of each of the two digests in the nonce of a line's write."""


@dataclass(frozen=True, slots=True)
class Series:
    """The lines of a stream; ``record_id`` stands for its Idempotency-Key, "" without one.

    All ids are counted from ``first_id``: ids that are drawn one by one, thousands in a second, would meet each other.
    """

    first_id: int
    record_id: str = ""

    @property
    def keyed(self) -> bool:
        """Whether a line that had its effect is known again."""
        return bool(self.record_id)

    def user_id(self, number: int, random_bits: Callable[[int], int]) -> str:
        """Make the id of a line's user; under a key at each repetition the same."""
        noise = int.from_bytes(self._place(number)[:2], "big") >> 1 if self.keyed else random_bits(_LINE_BITS)
        return str(self.first_id + (number << _LINE_BITS) + noise)

    def nonce(self, number: int, digest: bytes) -> str | None:
        """Say by what the first write of a line's user is known: by the place of the line, and by what it says."""
        if not self.keyed:
            return None
        return _text(self._place(number)) + _text(digest)

    def is_place(self, nonce: str | None, number: int) -> bool:
        """Whether a user was made by the line at this place, whatever that said."""
        return self.keyed and nonce is not None and nonce.startswith(_text(self._place(number)))

    def once(self, number: int, digest: bytes) -> Once | None:
        """Tell a line from others, where its effect is kept as that of a request."""
        return Once(self._place(number).hex(), digest) if self.keyed else None

    def _place(self, number: int) -> bytes:
        return hashlib.sha256(f"line|{self.record_id}|{number}".encode()).digest()


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest[:_HALF]).decode("ascii")
