"""Clients that write while things go wrong, remember what was acknowledged, and see how each answer ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psutil

from schema_user.rooms import wired
from schema_user.settings import Settings
from schema_user.store.embedded import connect_or_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.conftest import Server

GENEROUS = 120.0  # seconds; only a broken thing takes as long


def eventually(truth: Callable[[], object], what: str = "it") -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + GENEROUS
    while not truth():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    """An answer that came whole."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass
class Load:
    """Users who each count upwards in their own data, one step after the other, as fast as the server answers.

    ``ends`` counts the connections that were refused, closed or reset instead of an answer, or cut within one;
    ``dropped`` has the time at which each request was sent that got no byte of an answer.
    """

    server: Server
    clients: int
    acknowledged: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    dropped: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the users."""
        for user in make_users(self.server, self.clients):
            self.acknowledged[user] = self.tried[user] = 0
            self.sequences[user] = 1

    def __enter__(self) -> Self:
        """Begin, and come back when every client has been answered."""
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        eventually(lambda: all(self.acknowledged.values()), "an answer to every client")
        return self

    def __exit__(self, *_: object) -> None:
        """End: each client waits for its last answer."""
        self._stop = True
        self._thread.join()

    def counts(self, status: int) -> int:
        """How often that was answered so far."""
        return sum(answer.status == status for answer in list(self.answers))

    def goes_on(self) -> None:
        """Wait until every client has been acknowledged again."""
        before = dict(self.acknowledged)
        eventually(lambda: all(self.acknowledged[user] > before[user] for user in before), "another acknowledgement")

    async def _run(self) -> None:
        await asyncio.gather(*(self._count(user, keep=index % 2 == 0) for index, user in enumerate(self.tried)))

    async def _count(self, user: str, *, keep: bool) -> None:
        """Update one user until the end; every second client comes with a new connection each time."""
        while not self._stop:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            except OSError:
                self.ends["refused"] += 1
                await asyncio.sleep(0.02)
                continue
            with contextlib.closing(writer):
                more = True
                while more and not self._stop:
                    more = await self._update(user, reader, writer) and keep

    async def _update(self, user: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Try one update; whether the connection can be used again."""
        self.tried[user] += 1
        started = time.monotonic()
        got = False
        try:
            writer.write(update_request(self.server, user, {"count": self.tried[user]}))
            head = await reader.readuntil(b"\r\n\r\n")
            got = True
            answer = await _whole(head, reader, started)
        except asyncio.IncompleteReadError as cut:
            return self._unanswered("cut" if got or cut.partial else "closed", started)
        except ConnectionError:
            return self._unanswered("cut" if got else "reset", started)
        self.answers.append(answer)
        if answer.status == 200:
            self.acknowledged[user] = self.tried[user]
            self.sequences[user] = int(answer.body["details"]["sequence"])
        return answer.headers.get("connection") != "close"

    def _unanswered(self, how: str, started: float) -> bool:
        self.ends[how] += 1
        self.dropped.append(started)
        return False

    def kept(self) -> None:
        """Assert, once the load has ended, that what was acknowledged is there, and nothing that nobody asked for."""
        with self.server.client() as admin:
            for user in self.tried:
                found = admin.ok("GET", f"/v3alpha/users/{user}")["user"]
                assert self.acknowledged[user] <= found["data"]["count"] <= self.tried[user]
                assert int(found["details"]["sequence"]) >= self.sequences[user]


def make_users(server: Server, number: int) -> list[str]:
    """Make users whose data may be anything."""
    with server.client() as admin:
        schema = admin.ok("POST", "/v3alpha/user_schemas", {"type": f"load {time.time_ns()}", "schema": {}})["id"]
        body = {"schemaId": schema, "data": {"count": 0}}
        return [admin.ok("POST", "/v3alpha/users", body)["userId"] for _ in range(number)]


def update_request(server: Server, user: str, data: Any) -> bytes:
    """Give the bytes of a request that replaces the data of a user."""
    body = json.dumps({"data": data}).encode()
    head = (
        f"PUT /v3alpha/users/{user} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _whole(head: bytes, reader: asyncio.StreamReader, started: float) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(first.split()[1]), headers, json.loads(body), time.monotonic() - started)


def stored_counts(data_dir: Path, users: Iterable[str]) -> dict[str, int]:
    """Read from the database of a server that has stopped how far each user has counted."""

    async def read() -> dict[str, int]:
        with connect_or_start(data_dir):
            async with wired(Settings(data_dir=data_dir)) as rooms:
                found = {user: await rooms.wiring.users.read(user) for user in users}
                return {user: stored.data["count"] for user, stored in found.items() if stored is not None}

    return asyncio.run(read())


# -- the processes of a server -----------------------------------------------------------------------------------------


def tree(server: Server) -> list[psutil.Process]:
    """Give the server's process and all below it."""
    assert server.process is not None
    supervisor = psutil.Process(server.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def mongod_of(server: Server) -> psutil.Process:
    """Give the process of the local database."""
    return next(process for process in tree(server) if "mongod" in command_of(process)[0])


def http_of(server: Server) -> list[psutil.Process]:
    """Give the processes that answer requests."""
    return [process for process in tree(server) if "schema_user.http_process" in command_of(process)]


def command_of(process: psutil.Process) -> list[str]:
    """Give the command line; that of a process which has ended is empty."""
    try:
        return process.cmdline() or [""]
    except psutil.NoSuchProcess:
        return [""]


def gone(process: psutil.Process) -> bool:
    """Whether it ended; a zombie that nobody waits for has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
