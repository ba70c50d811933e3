"""A stream cut into lines, whatever the pieces that it comes in."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from schema_user.api.ndjson import LineCutter

LONGEST = 5


def lines_of(pieces: list[bytes]) -> list[tuple[int, bytes | None]]:
    """Cut pieces into lines."""
    cutter = LineCutter(LONGEST)
    found = [line for piece in pieces for line in cutter.cut(piece)] + cutter.end()
    return [(line.number, line.raw) for line in found]


def test_lines() -> None:
    """Lines end with LF or CR LF, empty ones count and are left out, one that is too long is known as that."""
    text = b'{"a"}\r\n\n  \n12345\n123456\n 1 \n1234567890123456789\nlast'
    expected = [(1, b'{"a"}'), (4, b"12345"), (5, None), (6, b"1"), (7, None), (8, b"last")]
    assert lines_of([text]) == expected
    assert lines_of([text[index : index + 1] for index in range(len(text))]) == expected


@given(st.lists(st.text("a\n\r ", max_size=12).map(str.encode), max_size=6))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    """However a stream is cut into pieces, its lines are the same, and none is held beyond its limit."""
    assert lines_of(pieces) == lines_of([b"".join(pieces)])
    cutter = LineCutter(LONGEST)
    for piece in pieces:
        cutter.cut(piece)
        assert len(cutter._begun) <= LONGEST + 1


def test_a_line_without_an_end_takes_no_memory() -> None:
    """What is beyond the limit is not kept."""
    cutter = LineCutter(LONGEST)
    for _ in range(1000):
        assert cutter.cut(b"x" * 1000) == []
    assert len(cutter._begun) == 0
    assert [line.raw for line in cutter.cut(b"\n1\n")] == [None, b"1"]


async def test_empty_lines_leave_others_their_turns() -> None:
    """A piece of nothing but line breaks takes milliseconds, with pauses in between, and is no progress."""
    cutter, turns, told = LineCutter(LONGEST), 0, list[None]()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    piece = b"\n" * 1_000_000
    assert [part async for part in cutter.parts(piece, lambda: told.append(None))] == []
    assert turns >= 20
    assert not told
    numbers = [line.number async for part in cutter.parts(b"1\n", lambda: told.append(None)) for line in part]
    assert numbers == [1_000_001]
    assert told
    task.cancel()
