"""Measure the import of users into the embedded database, against the raw driver with the same finished documents.

    make bench-import

Lines of about 1 KB, each with an address, a name and nested data, are sent as two streams to two HTTP processes, or as
many as are asked for to as many. Then the driver alone inserts the documents that came of them into a collection with
the same indexes, as many at once, as durable. Beside the rates stands the processor time of every process that had a
part in it: on a machine that does other things as well it says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pymongo import MongoClient
from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from bench.measure import told_in_a_sentence
from bench.served import served
from schema_user.commands.imports import BATCH_LINES
from schema_user.store.embedded import socket_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.served import Served

_GOAL = 10_000
_WARM = 3
_TRIES = 100
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "address"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "born": {"type": "string", "format": "date"},
        "address": {
            "type": "object",
            "properties": {
                "street": {"type": "string"},
                "city": {"type": "string"},
                "zip": {"type": "string", "pattern": "^[0-9]{4,5}$"},
            },
        },
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        "points": {"type": "integer", "minimum": 0},
        "notes": {"type": "string", "maxLength": 2000},
    },
}


@dataclass(frozen=True, slots=True)
class Figures:
    """How many a second, and microseconds of processor time for each: of the database, and of all else."""

    per_second: float
    database_us: float
    others_us: float

    def text(self) -> str:
        """Write them down."""
        whole = self.database_us + self.others_us
        return (
            f"{self.per_second:8,.0f} /s   {whole:6.1f} µs of processor time each"
            f" (mongod {self.database_us:.1f}, others {self.others_us:.1f})"
        )


def lines(count: int, schema_id: str) -> Iterator[bytes]:
    """Make the lines, of about 1 KB each."""
    for number in range(count):
        yield (
            json.dumps(
                {
                    "userId": f"imported-{number:09}",
                    "schemaId": schema_id,
                    "contact": {"email": {"address": f"person.{number}@example.com", "isVerified": True}},
                    "data": {
                        "name": f"Person Number {number}",
                        "born": "1984-02-29",
                        "address": {"street": f"{number % 200} Long Street", "city": "Springfield", "zip": "12345"},
                        "tags": ["customer", "newsletter", f"segment-{number % 50}"],
                        "points": number % 10_000,
                        "notes": "A person who was moved here from elsewhere, with some words about them. " * 9,
                    },
                }
            ).encode()
            + b"\n"
        )


def call(server: Served, method: str, path: str, body: Any) -> Any:
    """Call an operation with JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def connected(server: Served, count: int) -> list[socket.socket]:
    """Connect so many times, to as many processes: the system gives a connection to any of those that listen."""
    for _ in range(_TRIES):
        found = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        time.sleep(0.1)  # until they are taken
        if sum(map(bool, server.connections())) == count:
            return found
        for each in found:
            each.close()
    message = f"{count} connections never went to as many processes"
    raise SystemExit(message)


def stream(server: Served, body: bytes, connection: socket.socket) -> list[bytes]:
    """Send lines as one request and give the lines of its answer, which are read while it is sent."""
    head = (
        f"POST /v3alpha/users/import HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with connection:
        sending = threading.Thread(target=lambda: connection.sendall(head.encode() + body))
        sending.start()
        chunks = []
        while chunk := connection.recv(1 << 20):
            chunks.append(chunk)
        sending.join()
    answer = b"".join(chunks)
    return [line for line in answer.partition(b"\r\n\r\n")[2].split(b"\n") if line.startswith(b'{"line"')]


def spent(server: Served) -> tuple[float, float]:
    """Give the seconds of processor time of the database, and of all other processes of the server."""
    database = others = 0.0
    for each in [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]:
        times = each.cpu_times()
        if each.name() == "mongod":
            database += times.user + times.system
        else:
            others += times.user + times.system
    return database, others


def measured(server: Served, count: int, work: Callable[[], object], *, with_own: bool = False) -> Figures:
    """Do the work of ``count`` users; ``with_own``: this process's time counts too, as the driver works in it."""
    before, own, begun = spent(server), time.process_time(), time.perf_counter()
    work()
    took = time.perf_counter() - begun
    time.sleep(3)  # what is done behind it belongs to it
    after = spent(server)
    others = time.process_time() - own if with_own else after[1] - before[1]
    return Figures(count / took, (after[0] - before[0]) / count * 1e6, others / count * 1e6)


def streams(server: Served, bodies: Sequence[bytes]) -> list[bytes]:
    """Send several streams at once, each to another process, and give the lines of all answers."""
    connections = connected(server, len(bodies))
    with ThreadPoolExecutor(len(bodies)) as senders:
        answers = senders.map(lambda body, connection: stream(server, body, connection), bodies, connections)
        return [line for answer in answers for line in answer]


def run(folder: Path, count: int, processes: int) -> dict[str, Figures]:
    """Measure both sides; with several HTTP processes there are as many streams."""
    with served(folder, processes) as server:
        schema_id = call(server, "POST", "/v3alpha/user_schemas", {"type": "person", "schema": _SCHEMA})["id"]
        for number in range(_WARM):
            names = [f"warm-{number}-{process}-".encode() for process in range(processes)]
            streams(server, [b"".join(lines(1_000, schema_id)).replace(b"imported-", name) for name in names])
        time.sleep(2)
        made = list(lines(count, schema_id))
        bodies = [b"".join(made[begin::processes]) for begin in range(processes)]
        answers: list[bytes] = []
        ours = measured(server, count, lambda: answers.extend(streams(server, bodies)))
        failed = sum(b'"error"' in line for line in answers)
        if len(answers) != count or failed:
            message = f"{len(answers)} of {count} lines were answered, {failed} of them as wrong"
            raise SystemExit(message)
        with MongoClient[Any](socket_uri(folder)) as client:
            database = client.schema_user
            documents = list(database.users.find({"_id": {"$gte": "imported-", "$lt": "imported."}}))
            raw = database.get_collection("raw", write_concern=WriteConcern("majority", j=True))
            for name, index in database.users.index_information().items():
                if name != "_id_":
                    options = {key: value for key, value in index.items() if key not in {"key", "v", "ns"}}
                    raw.create_index(index["key"], **options)

            def insert() -> None:
                try:
                    for start in range(0, count, BATCH_LINES):
                        raw.insert_many(documents[start : start + BATCH_LINES], ordered=False)
                except BulkWriteError as error:
                    raise SystemExit(str(error)) from None

            theirs = measured(server, count, insert, with_own=True)
        size = sum(map(len, made)) / count
        print(f"{count} users, {size:.0f} bytes a line, in {processes} streams to as many processes")
        return {"import": ours, "raw driver": theirs}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2, help="HTTP processes, and streams")
    options = parser.parse_args()
    with told_in_a_sentence(), tempfile.TemporaryDirectory(prefix="su-import-") as folder:
        found = run(Path(folder), options.users, options.processes)
    for name, figures in found.items():
        print(f"{name:12} {figures.text()}")
    ratio = found["raw driver"].per_second / found["import"].per_second
    print(f"the import takes {ratio:.2f} times as long; the goal is {_GOAL:,} users a second on two quiet cores")


if __name__ == "__main__":
    main()
