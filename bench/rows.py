"""What is measured, and against what: one list, ``ROWS``. A new capability adds its side and its row here.

The driver's loop reads a document by its id and writes it back guarded by a version, majority and journaled: the least
that a service of this kind must do. The service does the same behind HTTP, with token, schema, validation and
permissions. Every client has a connection (of the service) and a user or document of its own, and both sides write
about the same 300 bytes, other ones each time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern

from bench.wire import Wire, WireError
from schema_user.validation.dialect import Dialect
from schema_user.validation.rust import compile_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "n": {"type": "integer"}, "tags": {"items": {"type": "string"}}},
    "additionalProperties": False,
}
_FIRST: Final = 10_000_000
"""Numbers begin here, so that all have as many digits and the length of a request is always the same."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it all happens: a server, its database, and the ids of users, one for each client at least."""

    port: int
    token: str
    uri: str
    users: list[str]


One = Callable[[int], Awaitable[None]]
"""Does it once, as the client of that index."""

Opened = Callable[[Stage, int], AbstractAsyncContextManager[One]]
"""Prepares a side for so many clients at once."""


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do something; each call of what is opened does it ``calls`` times."""

    name: str
    opened: Opened
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """What the median of a ratio over the rounds should reach (or stay under) with so many at once.

    ``figure`` is ``per_second``, ``p50`` or ``p99``.
    """

    at_once: int
    figure: str
    most: bool
    bound: float

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {self.bound:g}"

    def met(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio <= self.bound if self.most else ratio >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """A side with what it is held against in the same round (``base``), at which numbers of clients.

    ``at_once`` None: as many as were asked for on the command line. ``share_of`` names a side: how much of the time
    that one of it takes (at the most clients) is one of this.
    """

    side: Side
    base: Side | None = None
    at_once: tuple[int, ...] | None = None
    goals: tuple[Goal, ...] = ()
    share_of: str = ""


def document(number: int) -> dict[str, Any]:
    """Make a document of about 300 bytes that differs from the one before."""
    return {"name": f"User {number}", "n": number, "tags": ["tag of twenty letters"] * 10}


def _numbers() -> Callable[[], int]:
    return itertools.count(_FIRST + secrets.randbelow(_FIRST)).__next__


@contextlib.asynccontextmanager
async def _raw(stage: Stage, at_once: int) -> AsyncIterator[Any]:
    """Give a collection of the driver with a document for each client.

    Each client has a connection: with fewer, the driver lets some wait for seconds, and its p99 says nothing else.
    """
    async with AsyncMongoClient[dict[str, Any]](
        stage.uri, minPoolSize=at_once, maxPoolSize=max(100, at_once)
    ) as client:
        name = f"raw_{secrets.token_hex(4)}"
        raw = client.get_database("bench").get_collection(name, write_concern=WriteConcern("majority", j=True))
        await raw.insert_many([{"_id": str(n), "version": 0, "data": document(_FIRST)} for n in range(at_once)])
        yield raw
        await raw.drop()


@contextlib.asynccontextmanager
async def driver_update(stage: Stage, at_once: int) -> AsyncIterator[One]:
    """Read by id, write guarded by the version that was read."""
    number = _numbers()
    async with _raw(stage, at_once) as raw:

        async def one(index: int) -> None:
            found = await raw.find_one({"_id": str(index)})
            change = {"$set": {"data": document(number())}, "$inc": {"version": 1}}
            result = await raw.update_one({"_id": str(index), "version": found["version"]}, change)
            assert result.matched_count == 1

        yield one


@contextlib.asynccontextmanager
async def driver_get(stage: Stage, at_once: int) -> AsyncIterator[One]:
    """Read by id."""
    async with _raw(stage, at_once) as raw:

        async def one(index: int) -> None:
            assert await raw.find_one({"_id": str(index)}) is not None

        yield one


@contextlib.asynccontextmanager
async def wires(stage: Stage, at_once: int) -> AsyncIterator[list[Wire]]:
    """Give a connection for each client."""
    opened = [Wire(stage.port, stage.token) for _ in range(at_once)]
    try:
        yield opened
    finally:
        for wire in opened:
            wire.close()


class Update:
    """Makes the bytes of an update of a user; what differs from one to the next is put between parts made before."""

    def __init__(self, wire: Wire, *, keyed: bool) -> None:
        """Ask through a wire; ``keyed``: each request carries an ``Idempotency-Key`` that no other one has."""
        self._parts = json.dumps({"data": document(_FIRST)}).encode().split(b"%d" % _FIRST)
        self._length = sum(map(len, self._parts)) + (len(self._parts) - 1) * len(str(_FIRST))
        self._wire = wire
        self._number = _numbers()
        self._key = f"Idempotency-Key: {secrets.token_hex(12)}".encode() if keyed else b""

    def head(self, user_id: str) -> bytes:
        """Give the part of the request that is the same for every update of a user."""
        return self._wire.head("PUT", f"/v3alpha/users/{user_id}", self._length) + self._key

    def request(self, head: bytes) -> bytes:
        """Make the next request out of such a head."""
        number = b"%d" % self._number()
        end = b"%b\r\n\r\n" % number if self._key else b"\r\n"
        return head + end + number.join(self._parts)


def _service_update(*, keyed: bool) -> Opened:
    @contextlib.asynccontextmanager
    async def opened(stage: Stage, at_once: int) -> AsyncIterator[One]:
        async with wires(stage, at_once) as mine:
            makers = [Update(wire, keyed=keyed) for wire in mine]
            heads = [maker.head(user) for maker, user in zip(makers, stage.users, strict=False)]

            async def one(index: int) -> None:
                status, _, body = await mine[index].exchange(makers[index].request(heads[index]))
                expect(status, body)

            yield one

    return opened


@contextlib.asynccontextmanager
async def service_get(stage: Stage, at_once: int) -> AsyncIterator[One]:
    """Get the user."""
    async with wires(stage, at_once) as mine:
        requests = [mine[n].head("GET", f"/v3alpha/users/{stage.users[n]}") + b"\r\n" for n in range(at_once)]

        async def one(index: int) -> None:
            status, _, body = await mine[index].exchange(requests[index])
            expect(status, body)

        yield one


def expect(status: int, body: bytes) -> None:
    """Stop the bench at an answer that is none.

    Raises:
        WireError: with the answer.
    """
    if status != 200:
        raise WireError(f"{status} {body[:2000].decode(errors='replace')}")


_VALIDATIONS: Final = 100
"""At once, as one takes less than it takes to look at the clock."""


@contextlib.asynccontextmanager
async def validation(_stage: Stage, _at_once: int) -> AsyncIterator[One]:
    """Validate in this process, as the service does."""
    validator, data = compile_schema(SCHEMA, Dialect.DRAFT_2020_12), document(_FIRST)

    async def one(_index: int) -> None:
        for _ in range(_VALIDATIONS):
            assert not validator.violations(data)

    yield one


DRIVER_UPDATE: Final = Side("update: driver", driver_update)
DRIVER_GET: Final = Side("get: driver", driver_get)
KEYED: Final = Side("update with key", _service_update(keyed=True))

ROWS: Final = (
    Row(
        KEYED,
        DRIVER_UPDATE,
        goals=(
            Goal(1, "p50", most=True, bound=1.5),
            Goal(32, "per_second", most=False, bound=3),
            Goal(32, "p99", most=True, bound=0.5),
            Goal(128, "per_second", most=False, bound=3),
            Goal(128, "p99", most=True, bound=0.5),
        ),
    ),
    Row(Side("update", _service_update(keyed=False)), DRIVER_UPDATE),
    Row(
        Side("get", service_get),
        DRIVER_GET,
        at_once=(1, 32),
        goals=(Goal(32, "per_second", most=False, bound=2.5),),
    ),
    Row(Side("validation", validation, calls=_VALIDATIONS), at_once=(1,), share_of=KEYED.name),
)
