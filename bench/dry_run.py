"""How long a dry run of a schema takes over many users, and what it costs the updates meanwhile.

    make bench-dry-run
    .venv/bin/python -m bench.dry_run --users 1000000 --at-once 16

Users of 1 KB are written straight into the database, as finished documents: copies of one that was made through the
API. Rounds of updates without a dry run and with one take turns, and the median of their ratios counts. Then dry runs
have the server for themselves: of a schema that all users pass, and of one that none does, so that a worker lists what
is wrong with each. What a million users would take is calculated from that.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from pymongo import MongoClient
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.measure import Spread, measured, told_in_a_sentence
from bench.rows import SCHEMA, Stage, Update, expect, wires
from bench.scale import Loader, Size, Template
from bench.served import Served, served
from bench.wire import Wire
from schema_user.store.embedded import socket_uri

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_START_SECONDS = 600.0
_WARM_SECONDS = 2.0
_LOOK = 0.1
_MILLION = 1_000_000
_USER_MARK = "bench-000000000000"
_SCHEMA_MARK = "sheet-000000000000"
_DATA: dict[str, Any] = {"name": "User", "n": 7, "tags": ["tag of twenty letters"] * 38}
"""About 1 KB as JSON."""

_PASSES = {**SCHEMA, "title": "wider"}
_FAILS = {**SCHEMA, "required": ["name", "absent"]}


@dataclass(frozen=True, slots=True)
class Found:
    """Updates a second without a dry run and with one, round by round; users judged a second meanwhile, and alone."""

    without: Spread
    beside: Spread
    ratio: Spread
    p99_ratio: Spread
    judged_beside: Spread
    judged_passing: float
    judged_failing: float


class DryRuns:
    """Starts, looks at and cancels dry runs of one schema."""

    def __init__(self, wire: Wire, schema_id: str) -> None:
        """Ask through a wire."""
        self._wire = wire
        self._path = f"/v3alpha/user_schemas/{schema_id}/dry_run"

    async def start(self, schema: dict[str, Any]) -> str:
        """Start one, and give its path once users are judged."""
        started = await self._wire.ok("POST", self._path, {"schema": schema})
        at = f"{self._path}/{started['jobId']}"
        await self.until(at, lambda seen: seen["done"] > 0)
        return at

    async def look(self, at: str) -> Any:
        """Give how far one is."""
        return await self._wire.ok("GET", at)

    async def until(self, at: str, true: Callable[[Any], bool]) -> Any:
        """Wait until something is true of it."""
        while not true(seen := await self.look(at)):  # noqa: ASYNC110 -- the server tells only who asks
            await asyncio.sleep(_LOOK)
        return seen

    async def alone(self, schema: dict[str, Any]) -> float:
        """Run one to its end, and give the users judged a second."""
        began = time.monotonic()
        seen = await self.until(await self.start(schema), lambda seen: "endDate" in seen)
        assert seen["state"] == "JOB_STATE_DONE", seen
        return float(seen["done"] / (time.monotonic() - began))

    async def beside(self, work: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
        """Do something while one runs; gives what came of it, and the users judged a second meanwhile."""
        at = await self.start(_PASSES)
        before, began = await self.look(at), time.monotonic()
        result = await work()
        after, took = await self.look(at), time.monotonic() - began
        assert after["state"] == "JOB_STATE_RUNNING", "the dry run ended too soon: there must be more users"
        await self._wire.ok("POST", f"{at}/cancel", {})
        await self.until(at, lambda seen: "endDate" in seen)
        return result, (after["done"] - before["done"]) / took


async def made(server: Served, uri: str) -> Loader:
    """Make a schema and a user through the API, and take them out of the database to be copied."""
    async with Wire(server.port, server.token) as wire:
        kind = {"type": _SCHEMA_MARK, "schema": {"title": _SCHEMA_MARK, **SCHEMA}}
        schema = await wire.ok("POST", "/v3alpha/user_schemas", kind)
        body = {"schemaId": schema["id"], "username": _USER_MARK, "data": _DATA}
        user = await wire.ok("POST", "/v3alpha/users", body)
    with MongoClient[dict[str, Any]](uri) as client:
        database = client.get_database("schema_user")
        users, schemas = (
            database["users"].find_one({"_id": user["userId"]}),
            database["schemas"].find_one({"_id": schema["id"]}),
        )
    assert users is not None
    assert schemas is not None
    return Loader(uri, Template.of(users, _USER_MARK), Template.of(schemas, _SCHEMA_MARK))


async def measure(server: Served, loader: Loader, options: argparse.Namespace) -> Found:
    """Measure the updates without and with a dry run, then dry runs alone."""
    stage = Stage(server.port, server.token, loader.uri, [])
    async with wires(stage, options.at_once) as mine, Wire(server.port, server.token) as wire:
        runs, maker = DryRuns(wire, loader.schema.id(1)), Update(mine[0], keyed=False)

        async def one(index: int) -> None:
            user = loader.user.id(random.randint(1, options.users))
            status, _, body = await mine[index].exchange(maker.request(maker.head(user)))
            expect(status, body)

        def updates() -> Awaitable[Any]:
            return measured(one, options.at_once, options.seconds)

        await measured(one, options.at_once, min(_WARM_SECONDS, options.seconds))
        without, beside, judged = [], [], []
        for _ in range(options.rounds):
            without.append(await updates())
            figures, rate = await runs.beside(updates)
            beside.append(figures)
            judged.append(rate)
        pairs = list(zip(without, beside, strict=True))
        return Found(
            Spread.of(each.per_second for each in without),
            Spread.of(each.per_second for each in beside),
            Spread.of(other.per_second / each.per_second for each, other in pairs),
            Spread.of(other.p99 / each.p99 for each, other in pairs),
            Spread.of(judged),
            await runs.alone(_PASSES),
            await runs.alone(_FAILS),
        )


def table(found: Found) -> Table:
    """Draw what was found."""
    drawn = Table("", "least / median / most", title="Dry runs")
    drawn.add_row("updates a second without one", found.without.text(",.0f"))
    drawn.add_row("updates a second beside one", found.beside.text(",.0f"))
    drawn.add_row("ratio (at least 0.8)", found.ratio.text(".2f"))
    drawn.add_row("ratio of p99", found.p99_ratio.text(".2f"))
    drawn.add_row("users judged a second beside updates", found.judged_beside.text(",.0f"))
    for words, rate in (
        ("beside updates", found.judged_beside.median),
        ("alone, all pass", found.judged_passing),
        ("alone, none passes", found.judged_failing),
    ):
        drawn.add_row(f"a million users {words}", f"{_MILLION / rate / 60:.1f} min ({rate:,.0f} a second)")
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and give the exit status: 1 if updates lose more than a fifth."""
    parser = argparse.ArgumentParser(prog="python -m bench.dry_run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=200_000, metavar="N")
    parser.add_argument("--at-once", type=int, default=16, help="clients (16)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round (4)")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    console = Console()
    with told_in_a_sentence(), tempfile.TemporaryDirectory(prefix="su-") as name:
        folder = Path(name)
        uri = socket_uri(folder)
        with served(folder, options.processes) as server, Progress(console=console, transient=True) as bar:
            loader, token = asyncio.run(made(server, uri)), server.token
            loader.grow(Size(options.users, 1), bar)
        with served(folder, options.processes, token=token, within=_START_SECONDS) as server:
            found = uvloop.run(measure(server, loader, options))
    console.print(table(found))
    return 0 if found.ratio.median >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
