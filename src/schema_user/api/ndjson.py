"""JSON texts, one in each line: a stream cut into lines as it arrives, of which one at a time is held unfinished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.slices import Slice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

NDJSON: Final = "application/x-ndjson"
_PART: Final = 8 * 1024
"""Bytes that are cut into lines in one go: a millisecond if all of them are line breaks."""

_WHITE: Final = b" \t\r"


class RawLine(msgspec.Struct, frozen=True):
    """A line that holds something: its place, the first being 1, and its bytes; None if they are too many."""

    number: int
    raw: bytes | None


class LineCutter:
    """Cuts pieces of a stream into lines of at most ``longest`` bytes; what is beyond that in a line is not kept.

    Lines end with LF or CR LF. Empty ones count, and are left out.
    """

    def __init__(self, longest: int) -> None:
        """Begin before the first line."""
        self._longest = longest
        self._begun = bytearray()
        self._too_long = False
        self._number = 1

    def cut(self, piece: bytes) -> list[RawLine]:
        """Take the next piece and give the lines that it ends."""
        if b"\n" not in piece:
            self._keep(piece)
            return []
        first, *whole, rest = piece.split(b"\n")
        self._keep(first)
        found = [self._ended()]
        found.extend(map(self._line, whole))
        self._keep(rest)
        return [line for line in found if line is not None]

    async def parts(self, piece: bytes, progressed: Callable[[], None]) -> AsyncGenerator[list[RawLine], None]:
        """Give the lines that a piece of whatever size ends, some at once, with pauses; ``progressed`` is told of them.

        Thousands of empty lines take time too, though none of them is given.
        """
        turn = Slice()
        for begin in range(0, len(piece), _PART):
            found = self.cut(piece[begin : begin + _PART])
            if found:
                progressed()
                yield found
            await turn.rest()

    def end(self) -> list[RawLine]:
        """Give the last line, if the stream did not end it."""
        last = self._ended()
        return [] if last is None else [last]

    def _keep(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > self._longest + 1:  # one more, which may be the CR of its end
            self._too_long = True
            self._begun.clear()
        if not self._too_long:
            self._begun += piece

    def _ended(self) -> RawLine | None:
        raw = None if self._too_long else bytes(self._begun)
        self._begun.clear()
        self._too_long = False
        return self._line(raw)

    def _line(self, raw: bytes | None) -> RawLine | None:
        number = self._number
        self._number = number + 1
        if raw is None or len(raw.removesuffix(b"\r")) > self._longest:
            return RawLine(number, None)
        text = raw.strip(_WHITE)
        return RawLine(number, text) if text else None
