"""Streams: how many at once, bodies that come and go, and answers that nobody reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.api.ndjson import NDJSON
from schema_user.api.stream import MOST, MOST_OF_TOKEN, Streams, _Ahead, _Answer, _both_ways, _one_way
from schema_user.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def test_a_token_and_a_process_have_so_many_streams() -> None:
    """More are refused, and a place that is given back is free again."""
    streams = Streams()
    with streams.one("a"), streams.one("a"):
        with pytest.raises(Unavailable), streams.one("a"):
            pass
        with streams.one("b"):
            pass
    held = [streams.one(str(number // MOST_OF_TOKEN)) for number in range(MOST)]
    for each in held:
        each.__enter__()
    with pytest.raises(Unavailable), streams.one("another"):
        pass
    for each in held:
        each.__exit__(None, None, None)
    assert streams._of_token.total() == 0


async def pieces(*given: bytes, end: Exception | None = None) -> AsyncIterator[bytes]:
    """Give pieces of an answer, and perhaps an exception behind them."""
    for each in given:
        yield each
    if end is not None:
        raise end


class Client:
    """What an ASGI server does for a client that reads, or reads no more after some messages."""

    def __init__(self, reads: int = 10**9) -> None:
        """Take so many messages."""
        self.reads = reads
        self.got: list[Any] = []

    async def send(self, message: Any) -> None:
        """Take a message."""
        if len(self.got) == self.reads:
            await asyncio.Event().wait()
        self.got.append(message)

    @property
    def body(self) -> bytes:
        """What it read of the answer's body."""
        return b"".join(each.get("body", b"") for each in self.got)


async def never() -> Any:
    """Stand for a client that says nothing more."""
    await asyncio.Event().wait()


async def test_an_answer_is_whole_or_cut() -> None:
    """Whatever ends it early is raised behind what was made before, so that the answer is never ended as if whole."""
    client = Client()
    await _both_ways(pieces(b"a", b"b"), _Answer(client.send, NDJSON), 1)
    assert client.body == b"ab"
    client = Client()
    with pytest.raises(Unavailable):
        await _both_ways(pieces(b"a", b"b", end=Unavailable("X", "x")), _Answer(client.send, NDJSON), 1)
    assert client.body == b"ab"
    assert client.got[-1]["more_body"] is True


@pytest.mark.parametrize("ways", ["one", "both"])
async def test_a_client_that_does_not_read_is_left(ways: str) -> None:
    """After so many seconds in which it takes nothing, with nothing left to send, its place is free again."""
    client = Client(reads=1)
    answer = _Answer(client.send, NDJSON)
    given = pieces(b"a", b"b")
    sending = _one_way(given, answer, never, 0.05) if ways == "one" else _both_ways(given, answer, 0.05)
    with pytest.raises(Malformed) as refused:
        await sending
    assert refused.value.reason == "BODY_TIMEOUT"


async def test_an_export_ends_when_its_client_goes_away() -> None:
    """Nobody reads pages for a client that is gone."""

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x"

    with pytest.raises(Malformed):
        await _one_way(endless(), _Answer(Client().send, NDJSON), gone, 1)


async def test_a_body_is_read_ahead_so_far_and_no_further() -> None:
    """A client that sends for ever waits until what it sent is worked on."""
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": bytes(256 * 1024), "more_body": True}

    ahead = _Ahead(receive)
    reading = asyncio.create_task(ahead.read())
    for _ in range(10):
        await asyncio.sleep(0)
    assert read == 4
    assert await ahead.is_news(1)
    ahead.take()
    for _ in range(10):
        await asyncio.sleep(0)
    assert read == 5
    reading.cancel()
