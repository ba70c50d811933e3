"""What the measuring itself must get right: its client refuses what it does not understand, its plan is complete."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from bench.measure import Spread
from bench.report import clients, plan
from bench.rows import ROWS, Goal, Update
from bench.scale import Size, Template, sizes
from bench.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[int]:
    """Answer every request with these bytes, piece by piece, and give the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if not pieces:
                    break
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class TestWire:
    async def test_an_answer_may_come_in_pieces(self) -> None:
        """Status, headers and body are put together, and the connection serves the next request."""
        pieces = (b"HTTP/1.1 200 OK\r\nETag: ", b'"7"\r\nContent-Le', b'ngth: 11\r\n\r\n{"a"', b": [1]}\n")
        async with answering(*pieces) as port, Wire(port, "t") as wire:
            for _ in range(2):
                answer = await wire.call("GET", "/")
                assert (answer.status, answer.json(), answer.headers["etag"]) == (200, {"a": [1]}, '"7"')

    @pytest.mark.parametrize(
        "piece",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: none\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n12",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
            b"x" * 70_000,
        ],
        ids=["chunked", "no number", "too long", "another version", "interim", "endless head"],
    )
    async def test_what_it_does_not_understand_is_an_error(self, piece: bytes) -> None:
        """Nothing is guessed."""
        async with answering(piece) as port, Wire(port, "t") as wire:
            with pytest.raises(WireError, match="GET /x"):
                await wire.call("GET", "/x")

    async def test_a_connection_that_ends_is_an_error(self) -> None:
        """No answer is none."""
        async with answering() as port, Wire(port, "t") as wire:
            with pytest.raises(WireError, match="IncompleteReadError"):
                await wire.call("GET", "/x")


class TestRows:
    def test_each_side_is_measured_once_for_each_number(self) -> None:
        """A base that several rows share is measured once in a round."""
        planned = [(side.name, number) for side, number in plan([1, 32])]
        assert len(planned) == len(set(planned))
        for row in ROWS:
            for number in clients(row, [1, 32]):
                assert (row.side.name, number) in planned
                assert row.base is None or (row.base.name, number) in planned

    def test_no_two_updates_are_alike(self) -> None:
        """Key and data differ, the length is the one that the head says."""
        update = Update(Wire(1, "t"), keyed=True)
        head = update.head("7")
        made = [update.request(head).split(b"\r\n\r\n") for _ in range(2)]
        assert made[0][0] != made[1][0]
        assert json.loads(made[0][1]) != json.loads(made[1][1])
        assert b"Content-Length: %d\r\n" % len(made[0][1]) in made[0][0]

    def test_goals_know_their_direction(self) -> None:
        """A bound is met by what is on its good side."""
        assert Goal(1, "p50", most=True, bound=1.5).met(1.4)
        assert not Goal(1, "per_second", most=False, bound=3).met(2.9)
        assert Spread.of([3, 1, 2]) == Spread(1, 2, 3)


class TestScale:
    def test_sizes_grow_one_thing_at_a_time(self) -> None:
        """More users, then more schemas, then the most of both."""
        assert sizes([5, 1, 9], [2, 3]) == [Size(1, 2), Size(5, 2), Size(5, 3), Size(9, 3)]
        assert sizes([5], [2]) == [Size(5, 2)]

    def test_copies_differ_in_id_and_name_alone(self) -> None:
        """A copy is as long as its template."""
        template = Template.of({"_id": "455968120957596418", "name": "bench-000000000000"}, "bench-000000000000")
        copy = template.copy(12)
        assert len(copy) == len(template.content)
        assert template.id(12).encode() in copy
        assert b"bench-000000000012" in copy
