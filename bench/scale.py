"""What an update costs among millions of users and thousands of schemas.

    make bench-scale
    .venv/bin/python -m bench.scale --users 1000 100000 --schemas 10 1000 --updates 1000000

Users and schemas are written straight into the database, as finished documents: copies of one that was made through
the API. (Their names are not claimed, which no update of data looks at.) Users are spread over all schemas at random,
and so are updates over all users. All but the largest number of users come with the fewest schemas, then come more
schemas, then the most users with all of them, so that each step but the last changes one thing. At each size the
server is started anew and that is timed. In each round the driver's loop runs on a few documents of its own, whose cost
does not depend on the size: what it takes more or less at another size is the machine's doing, and ``steady`` is the
ratio without it. Five million users take some 10 GB of disk and some minutes to write.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import bson
import uvloop
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.measure import Spread, circumstances, measured, told_in_a_sentence
from bench.report import mongod_version, write_json
from bench.rows import SCHEMA, Stage, Update, document, driver_update, expect, wires
from bench.served import Served, served
from bench.wire import Wire
from schema_user.store.embedded import socket_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH = 5_000
"""Documents in one insert, about 4 MB."""

_STRIDE = 1_009
"""Between the ids of two copies; a few millions of it are less than a second of the time that an id begins with."""

_START_SECONDS = 600.0
_WARM_SECONDS = 2.0
_MEBIBYTE = 1024 * 1024
_TENTHS = 10

_USER_MARK = "bench-000000000000"
_SCHEMA_MARK = "sheet-000000000000"


@dataclass(frozen=True, slots=True)
class Template:
    """A document that the service made, as bytes; copies get another id and name, each of the same length."""

    content: bytes
    own_id: str
    mark: str

    @classmethod
    def of(cls, found: dict[str, Any], mark: str) -> Self:
        """Take a document and the name that it was made with."""
        return cls(bson.encode(found), found["_id"], mark)

    def id(self, number: int) -> str:
        """Give the id of a copy; numbers begin at 1."""
        return str(int(self.own_id) - number * _STRIDE)

    def copy(self, number: int) -> bytes:
        """Make a copy, everything else unchanged."""
        name = f"{self.mark[:-12]}{number:012d}"
        content = self.content.replace(self.own_id.encode(), self.id(number).encode())
        return content.replace(self.mark.encode(), name.encode())


@dataclass(frozen=True, slots=True)
class Size:
    """How many there are."""

    users: int
    schemas: int

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.schemas:,} schemas"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one size cost: times in seconds, microseconds (cost), milliseconds (p50, p99), memory in bytes.

    ``cost`` is the time of an update when ``at_once`` of them are under way; ``driver`` that of the driver's
    loop in the same rounds, ``relative`` the ratio of the two, round by round; ``memory`` that of the HTTP processes
    and the one that keeps them, after each round; ``tenths`` likewise, before and after each tenth of ``--updates``.
    """

    size: Size
    start_seconds: float
    cost: Spread
    driver: Spread
    relative: Spread
    p50: Spread
    p99: Spread
    memory: list[int]
    tenths: list[int]


def sizes(users: list[int], schemas: list[int]) -> list[Size]:
    """Give the sizes in their order: each is no smaller than the one before."""
    *fewer, most = sorted(set(users))
    ordered = sorted(set(schemas))
    first = [Size(number, ordered[0]) for number in fewer or [most]]
    more = [Size((fewer or [most])[-1], number) for number in ordered[1:]]
    return [*first, *more, *([Size(most, ordered[-1])] if fewer else [])]


class Loader:
    """Writes copies into the database of a server, remembering how many are there."""

    def __init__(self, uri: str, user: Template, schema: Template) -> None:
        """Use a database."""
        self.uri = uri
        self.user = user
        self.schema = schema
        self._there = Size(0, 0)

    def grow(self, size: Size, bar: Progress) -> None:
        """Write what is missing; with more schemas the users are written anew, spread over all of them."""
        with MongoClient[dict[str, Any]](self.uri) as client:
            database = client.get_database("schema_user", write_concern=WriteConcern(1, j=False))
            if size.schemas > self._there.schemas:
                database["users"].delete_many({"_id": {"$ne": self.user.own_id}})
                self._there = Size(0, self._there.schemas)
            schemas = map(self.schema.copy, range(self._there.schemas + 1, size.schemas + 1))
            users = (self._user(number, size) for number in range(self._there.users + 1, size.users + 1))
            _insert(database["schemas"], schemas, bar, "writing schemas", size.schemas - self._there.schemas)
            _insert(database["users"], users, bar, "writing users", size.users - self._there.users)
            client.admin.command("fsync")  # or the database would do it while it is measured
        self._there = size

    def _user(self, number: int, size: Size) -> bytes:
        schema = self.schema.id(random.randint(1, size.schemas))
        return self.user.copy(number).replace(self.schema.own_id.encode(), schema.encode())


def _insert(collection: Any, copies: Iterator[bytes], bar: Progress, what: str, total: int) -> None:
    task = bar.add_task(what, total=total)
    while batch := [RawBSONDocument(each) for each in itertools.islice(copies, _BATCH)]:
        collection.insert_many(batch, ordered=False)
        bar.advance(task, len(batch))
    bar.remove_task(task)


async def templates(server: Served, uri: str) -> tuple[Template, Template]:
    """Make a schema and a user through the API and take them out of the database."""
    async with Wire(server.port, server.token) as wire:
        kind = {"type": _SCHEMA_MARK, "schema": {"title": _SCHEMA_MARK, **SCHEMA}}
        schema = await wire.ok("POST", "/v3alpha/user_schemas", kind)
        email = {"address": f"{_USER_MARK}@example.com", "isVerified": True}
        body = {"schemaId": schema["id"], "username": _USER_MARK, "data": document(0), "contact": {"email": email}}
        user = await wire.ok("POST", "/v3alpha/users", body)
    with MongoClient[dict[str, Any]](uri) as client:
        database = client.get_database("schema_user")
        found = [
            database["users"].find_one({"_id": user["userId"]}),
            database["schemas"].find_one({"_id": schema["id"]}),
        ]
    assert found[0] is not None
    assert found[1] is not None
    return Template.of(found[0], _USER_MARK), Template.of(found[1], _SCHEMA_MARK)


async def updates(server: Served, loader: Loader, size: Size, options: argparse.Namespace, bar: Progress) -> Measured:
    """Measure updates at a size; the server has just been started."""
    start_seconds = time.monotonic() - server.started
    stage = Stage(server.port, server.token, loader.uri, [])
    async with wires(stage, options.at_once) as mine, driver_update(stage, options.at_once) as control:
        maker = Update(mine[0], keyed=True)

        async def one(index: int) -> None:
            user = loader.user.id(random.randint(1, size.users))
            status, _, body = await mine[index].exchange(maker.request(maker.head(user)))
            expect(status, body)

        await measured(one, options.at_once, min(_WARM_SECONDS, options.seconds))
        await measured(control, options.at_once, min(_WARM_SECONDS, options.seconds))
        rounds, controls, memory = [], [], []
        task = bar.add_task(str(size), total=options.rounds)
        for _ in range(options.rounds):
            bar.refresh()  # by hand, as drawing takes processor time from what is measured
            controls.append(await measured(control, options.at_once, options.seconds / 2))
            rounds.append(await measured(one, options.at_once, options.seconds))
            memory.append(server.memory())
            bar.advance(task)
        bar.remove_task(task)
        last = size == sizes(options.users, options.schemas)[-1]
        tenths = await _tenths(server, one, options, bar) if options.updates and last else []
    return Measured(
        size,
        start_seconds,
        Spread.of(1e6 / each.per_second for each in rounds),
        Spread.of(1e6 / each.per_second for each in controls),
        Spread.of(other.per_second / each.per_second for each, other in zip(rounds, controls, strict=True)),
        Spread.of(each.p50 for each in rounds),
        Spread.of(each.p99 for each in rounds),
        memory,
        tenths,
    )


async def _tenths(server: Served, one: Callable[[int], Any], options: argparse.Namespace, bar: Progress) -> list[int]:
    """Make many updates and look at the memory before, and after each tenth."""
    found = [server.memory()]
    task = bar.add_task(f"{options.updates:,} updates", total=options.updates)
    for tenth in range(_TENTHS):
        numbers = iter(range(options.updates * tenth // _TENTHS, options.updates * (tenth + 1) // _TENTHS))

        async def client(index: int, numbers: Iterator[int] = numbers) -> None:
            for _ in numbers:
                await one(index)

        bar.refresh()
        await asyncio.gather(*map(client, range(options.at_once)))
        bar.update(task, completed=options.updates * (tenth + 1) // _TENTHS)
        found.append(server.memory())
    bar.remove_task(task)
    return found


def run(folder: Path, options: argparse.Namespace, console: Console) -> tuple[list[Measured], str]:
    """Load and measure size after size; gives what each cost, and the version of the database."""
    uri, found = socket_uri(folder), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(
            Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        )
        with served(folder, options.processes) as server:
            token = server.token
            loader = Loader(uri, *asyncio.run(templates(server, uri)))
            version = mongod_version(uri)
        for size in sizes(options.users, options.schemas):
            console.print(f"{size} ...", markup=False, highlight=False)
            with served(folder, options.processes, token=token, within=_START_SECONDS):
                loader.grow(size, bar)
            with served(folder, options.processes, token=token, within=_START_SECONDS) as server:
                found.append(uvloop.run(updates(server, loader, size, options, bar)))
    return found, version


def table(found: list[Measured]) -> Table:
    """Draw what each size cost, and the ratio to the first."""
    drawn = Table(title="Updates spread over all users: least / median / most of the rounds")
    names = (
        "users",
        "schemas",
        "µs per update",
        "ratio",
        "steady",
        "p50 ms",
        "p99 ms",
        "start s",
        "ratio",
        "memory MiB",
    )
    for name in names:
        drawn.add_column(name, justify="right")
    for each in found:
        drawn.add_row(
            f"{each.size.users:,}",
            f"{each.size.schemas:,}",
            each.cost.text(",.0f"),
            f"{each.cost.median / found[0].cost.median:.2f}",
            f"{each.relative.median / found[0].relative.median:.2f}",
            each.p50.text(".1f"),
            each.p99.text(".1f"),
            f"{each.start_seconds:.2f}",
            f"{each.start_seconds / found[0].start_seconds:.2f}",
            Spread.of(memory / _MEBIBYTE for memory in each.memory).text(".0f"),
        )
    return drawn


def tenths_table(tenths: list[int], total: int) -> Table:
    """Draw the memory at each tenth."""
    drawn = Table(title="Memory of the server")
    for name in ("updates", "MiB", "since the first tenth"):
        drawn.add_column(name, justify="right")
    for tenth, memory in enumerate(tenths):
        grown = f"{(memory - tenths[1]) / _MEBIBYTE:+.1f}" if tenth else ""
        drawn.add_row(f"{total * tenth // _TENTHS:,}", f"{memory / _MEBIBYTE:.1f}", grown)
    return drawn


def as_json(found: list[Measured], options: argparse.Namespace, version: str) -> dict[str, Any]:
    """Give everything as JSON; the units are those of ``Measured``."""
    first = found[0]
    measurements = [
        asdict(each)
        | {
            "cost_ratio": each.cost.median / first.cost.median,
            "steady_ratio": each.relative.median / first.relative.median,
            "start_ratio": each.start_seconds / first.start_seconds,
        }
        for each in found
    ]
    settings = {name: getattr(options, name) for name in ("at_once", "rounds", "seconds", "processes", "updates")}
    made: dict[str, Any] = json.loads(json.dumps({**circumstances(version), **settings, "sizes": measurements}))
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[1_000, 100_000, 5_000_000], metavar="N")
    parser.add_argument("--schemas", type=int, nargs="+", default=[10, 1_000, 10_000], metavar="N")
    parser.add_argument("--updates", type=int, default=0, help="then so many at the last size, to see the memory (0)")
    parser.add_argument("--at-once", type=int, default=32, help="clients (32)")
    parser.add_argument("--rounds", type=int, default=5, help="at each size (5)")
    parser.add_argument("--seconds", type=float, default=4, help="of a round (4)")
    parser.add_argument("--processes", type=int, default=1, help="of the server that answer HTTP (1)")
    parser.add_argument("--folder", help="where the database is made for the time (the system's for such things)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too; - is the standard output")
    options = parser.parse_args(arguments)
    if min(*options.users, *options.schemas, options.at_once, options.rounds, options.processes) < 1:
        parser.error("every number but --updates must be 1 or more")
    beside = Console(stderr=True)
    console = beside if options.json == "-" else Console(width=None if sys.stdout.isatty() else 160)
    place = tempfile.TemporaryDirectory(prefix="su-", dir=options.folder, ignore_cleanup_errors=True)
    with told_in_a_sentence(), place as folder:
        found, version = run(Path(folder), options, beside)
    console.print(table(found))
    if found[-1].tenths:
        console.print(tenths_table(found[-1].tenths, options.updates))
    if options.json:
        write_json(as_json(found, options, version), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
