"""Bodies that arrive too slowly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schema_user.api.arrival import Arrival, Arrivals
from schema_user.errors import Malformed

SOON = 0.05


class Server:
    """A server that gives the pieces of a body when they are due, and waits for ever behind them."""

    def __init__(self, *pieces: tuple[float, bool]) -> None:
        """Give pieces, each after some seconds and with whether more follow."""
        self.pieces = list(pieces)

    async def receive(self) -> Any:
        """Give the next piece."""
        if not self.pieces:
            await asyncio.Event().wait()
        seconds, more = self.pieces.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": b"x", "more_body": more}


async def read(server: Server, arrivals: Arrivals) -> int:
    """Read a body to its end; of how many pieces it was."""
    arrival, pieces, more = Arrival(server.receive, arrivals), 0, True
    while more:
        more = (await arrival.receive())["more_body"]
        pieces += 1
    return pieces


async def test_in_time() -> None:
    """A body that arrives in time is given as it came, and nothing of it is left behind."""
    arrivals = Arrivals(60)
    assert await read(Server((0, True), (SOON, True), (SOON, False)), arrivals) == 3
    assert not arrivals._awaited


@pytest.mark.parametrize("pieces", [[], [(0, True)], [(SOON, True)] * 1000], ids=["never", "part", "drops"])
async def test_too_late(pieces: list[tuple[float, bool]]) -> None:
    """The time is for all of it; the task that read it can go on with something else."""
    arrivals = Arrivals(2 * SOON)
    with pytest.raises(Malformed) as refused:
        await read(Server(*pieces), arrivals)
    assert (refused.value.reason, refused.value.metadata) == ("BODY_TIMEOUT", {"limit": "0.1s"})
    await asyncio.sleep(0)
    assert not arrivals._awaited
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_many() -> None:
    """One that is late takes none of the others along."""
    arrivals = Arrivals(1)
    slow = asyncio.create_task(read(Server(), arrivals))
    others = [
        asyncio.create_task(read(Server((SOON, True), (SOON * number / 10, False)), arrivals)) for number in range(50)
    ]
    assert await asyncio.gather(*others) == [2] * 50
    with pytest.raises(Malformed):
        await slow


async def test_cut_off() -> None:
    """A request that is cancelled from outside ends as cancelled."""
    arrivals = Arrivals(60)
    task = asyncio.create_task(read(Server(), arrivals))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not arrivals._awaited


async def test_behind_the_end() -> None:
    """Who has the whole body may wait for the client to leave, for as long as it likes."""
    arrivals = Arrivals(SOON)
    arrival = Arrival(Server((0, False)).receive, arrivals)
    await arrival.receive()
    waiting = asyncio.create_task(arrival.receive())
    await asyncio.sleep(1)
    assert not waiting.done()
    waiting.cancel()
