"""What one update of a user costs, against the driver's own loop on the same database in the same run.

The raw loop reads a document by its id and writes it back guarded by a version, majority and journaled: the least that
a service of this kind must do. The service does the same behind HTTP, with token, schema, validation and permissions.
Figures are per second, the ratio is service to raw loop; a ratio below 1 means that the service is slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern
from rich.console import Console
from rich.table import Table

from bench.served import served
from bench.wire import Wire
from schema_user.store.embedded import socket_uri

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

USERS = 200
SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "n": {"type": "integer"}, "tags": {"items": {"type": "string"}}},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one side: how many at once, per second, and the latencies in milliseconds."""

    side: str
    at_once: int
    per_second: float
    p50: float
    p99: float


def document(number: int) -> dict[str, Any]:
    """Make a document of about 300 bytes that differs from the one before."""
    return {"name": f"User {number}", "n": number, "tags": ["tag of twenty letters"] * 10}


async def measured(side: str, at_once: int, seconds: float, one: Callable[[int, int], Awaitable[None]]) -> Round:
    """Run ``one(client, number)`` over and over from ``at_once`` clients for some seconds."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client(index: int) -> None:
        number = 0
        while (begun := time.perf_counter()) < end:
            number += 1
            await one(index, number)
            latencies.append((time.perf_counter() - begun) * 1000)

    begun = time.perf_counter()
    await asyncio.gather(*(client(index) for index in range(at_once)))
    took = time.perf_counter() - begun
    cuts = statistics.quantiles(latencies, n=100)
    return Round(side, at_once, len(latencies) / took, cuts[49], cuts[98])


async def raw(uri: str, at_once: int, seconds: float) -> Round:
    """Measure the driver's loop."""
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority", journal=True) as client:
        users = client.get_database("bench").get_collection("raw", write_concern=WriteConcern("majority", j=True))
        await users.delete_many({})
        await users.insert_many([{"_id": n, "version": 0, "data": document(0)} for n in range(at_once)])

        async def one(index: int, number: int) -> None:
            found = await users.find_one({"_id": index})
            if found is None:
                raise LookupError(index)
            change = {"$set": {"data": document(number)}, "$inc": {"version": 1}}
            result = await users.update_one({"_id": index, "version": found["version"]}, change)
            assert result.matched_count == 1

        return await measured("driver", at_once, seconds, one)


async def service(port: int, token: str, users: list[str], at_once: int, seconds: float) -> Round:
    """Measure the service over HTTP, each client on a connection and a user of its own."""
    wires = [Wire(port, token) for _ in range(at_once)]

    async def one(index: int, number: int) -> None:
        body = json.dumps({"data": document(number)}).encode()
        answer = await wires[index].call("PUT", f"/v3alpha/users/{users[index]}", body)
        assert answer.status == 200, answer.text

    try:
        return await measured("service", at_once, seconds, one)
    finally:
        for wire in wires:
            await wire.__aexit__(None, None, None)


async def run(port: int, token: str, uri: str, options: argparse.Namespace) -> list[Round]:
    """Measure both sides in turn, round by round."""
    async with Wire(port, token) as wire:
        kind = {"type": f"bench-{time.time_ns()}", "schema": SCHEMA}
        schema = await wire.ok("POST", "/v3alpha/user_schemas", kind)
        body = {"schemaId": schema["id"], "data": document(0)}
        users = [(await wire.ok("POST", "/v3alpha/users", body))["userId"] for _ in range(max(options.at_once))]
    rounds = []
    for at_once in options.at_once:
        for _ in range(options.rounds):
            rounds.append(await raw(uri, at_once, options.seconds))
            rounds.append(await service(port, token, users, at_once, options.seconds))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rounds


def table(rounds: list[Round]) -> Table:
    """Draw the rounds: medians with their least and most, and the ratio of the medians."""
    drawn = Table("at once", "side", "per second (min-max)", "p50 ms", "p99 ms", "service / driver")
    for at_once in sorted({each.at_once for each in rounds}):
        medians = {}
        for side in ("driver", "service"):
            mine = [each for each in rounds if (each.at_once, each.side) == (at_once, side)]
            speeds = [each.per_second for each in mine]
            medians[side] = statistics.median(speeds)
            drawn.add_row(
                str(at_once),
                side,
                f"{medians[side]:,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f})",
                f"{statistics.median(each.p50 for each in mine):.1f}",
                f"{statistics.median(each.p99 for each in mine):.1f}",
                f"{medians[side] / medians['driver']:.2f}" if side == "service" else "",
            )
    return drawn


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--json", action="store_true", help="print the rounds as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="su-") as folder, served(Path(folder), processes=1) as server:
        rounds = asyncio.run(run(server.port, server.token, socket_uri(Path(folder)), options))
    if options.json:
        print(json.dumps([asdict(each) for each in rounds], indent=2))
    else:
        Console().print(table(rounds))


if __name__ == "__main__":
    main()
