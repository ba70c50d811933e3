"""A load that keeps books: for every user each update that was sent, and what is known of what became of it.

A number is never used twice, so every update is a change, and what is stored in the end names the update that put it
there. Some users are written by many clients at once, most by few.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psutil

from tests.faults.load import GENEROUS, command_of, eventually, tree
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Api, Server

CLIENTS = 16
USERS = 40
_HOT = 4
"""Users who get every second update; the other half goes to all alike."""

_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["n", "by"],
    "properties": {"n": {"type": "integer"}, "by": {"type": "integer"}},
    "additionalProperties": False,
}
_PAUSE = 0.02
_ANSWER_SECONDS = 30.0  # the server gives up sooner; whoever hears nothing for so long does not know what became of it


@dataclass(frozen=True)
class Answer:
    """An answer that came whole."""

    status: int
    headers: dict[str, str]
    body: Any


class NoAnswerError(Exception):
    """A request was sent, or begun, and no whole answer came: what became of it is not known."""


class Connection:
    """One connection to the server at a time, opened again after one that failed; not for sharing."""

    def __init__(self, server: Server) -> None:
        """Call with the server's first token."""
        self._port = server.port
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> bool:
        """Make sure of a connection; False if it was refused, when nothing can have been sent."""
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close it, if it is open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def put(self, path: str, value: Any, headers: dict[str, str]) -> Answer:
        """Send a request on the open connection and give its answer.

        Raises:
            NoAnswerError: if none came, or only a part.
        """
        assert self._streams is not None
        reader, writer = self._streams
        body = json.dumps(value).encode()
        more = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        head = f"PUT {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(head.encode() + body)
                await writer.drain()
                answer = await _whole(reader)
        except (OSError, EOFError) as error:  # a timeout is an OSError
            self.close()
            raise NoAnswerError from error
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer


async def _whole(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, json.loads(body))


@dataclass
class Account:
    """The books of one user.

    ``authors`` has the client of every update that was sent, ``acknowledged`` the sequence of each that was answered
    200, ``unknown`` those that may or may not have been applied. An update in neither was refused. The creation is
    update 0 and has sequence 1.
    """

    user: str
    authors: dict[int, int] = field(default_factory=lambda: {0: 0})
    acknowledged: dict[int, int] = field(default_factory=lambda: {0: 1})
    unknown: set[int] = field(default_factory=set)
    highest: int = 1
    late: list[str] = field(default_factory=list)

    def acknowledge(self, number: int, sequence: int, seen: int) -> None:
        """Take down a 200; ``seen`` is the highest sequence that had been answered when the update was first sent."""
        if sequence <= seen:
            self.late.append(f"update {number} has sequence {sequence}, but was sent after {seen} had been answered")
        self.unknown.discard(number)
        self.acknowledged[number] = sequence
        self.highest = max(self.highest, sequence)

    def latest(self) -> list[tuple[int, int]]:
        """Give the last two updates with their sequences; to apply the former of them again would change the user."""
        return sorted(self.acknowledged.items(), key=lambda each: each[1])[1:][-2:]

    def breaches(self, found: dict[str, Any]) -> Iterator[str]:
        """Say what is wrong with the user as it is stored, now that nobody writes."""
        yield from self.late
        data, last = found["data"], int(found["details"]["sequence"])
        number = data.get("n")
        if number not in self.authors or data != {"n": number, "by": self.authors[number]}:
            yield f"{data} is stored, which nobody sent as a whole"
        for sequence, times in Counter(self.acknowledged.values()).items():
            if times > 1:
                yield f"sequence {sequence} was acknowledged for {times} updates"
        if self.highest > last:
            yield f"sequence {self.highest} was acknowledged, {last} is stored"
        elif self.highest == last and self.acknowledged.get(number) != last:
            yield f"update {number} is stored as sequence {last}, which was acknowledged for another"
        elif self.highest < last and number not in self.unknown:
            yield f"update {number} is stored as sequence {last}, but its fate is known and another"
        if last < len(self.acknowledged):
            yield f"{len(self.acknowledged)} updates were acknowledged, {last} were applied"
        if last > len(self.acknowledged) + len(self.unknown):
            yield f"{last} updates were applied, {len(self.acknowledged)} acknowledged, {len(self.unknown)} unknown"


@dataclass
class LedgerLoad:
    """Clients that update users as fast as they are answered, for as long as the block lasts; it can be entered again.

    With ``keyed`` a client sends each update under an ``Idempotency-Key`` and repeats it until it is acknowledged, so
    that in the end no fate is unknown. ``strange`` has the answers that no fault excuses.
    """

    server: Server
    keyed: bool = False
    accounts: list[Account] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    repeated: int = 0
    doubts: int = 0
    strange: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the users."""
        self._run_id = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._stopped_at: float | None = None
        with self.server.client() as admin:
            body = {"type": f"ledger {self._run_id}", "schema": _SCHEMA}
            schema = admin.ok("POST", "/v3alpha/user_schemas", body)["id"]
            made = {"schemaId": schema, "data": {"n": 0, "by": 0}}
            self.accounts += [Account(admin.ok("POST", "/v3alpha/users", made)["userId"]) for _ in range(USERS)]

    def __enter__(self) -> Self:
        """Begin, and come back when every client has been acknowledged."""
        self._stopped_at = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        try:
            self.goes_on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End: each client waits for its last answer."""
        self._stopped_at = time.monotonic()
        self._thread.join()

    def goes_on(self) -> float:
        """Wait until every client has been acknowledged again, three times; give the seconds that took."""
        started, before = time.monotonic(), dict(self.answered)
        every = range(1, CLIENTS + 1)
        eventually(lambda: all(self.answered[by] >= before.get(by, 0) + 3 for by in every), "an acknowledgement")
        return time.monotonic() - started

    @property
    def acknowledged(self) -> int:
        """How many updates were acknowledged so far."""
        return sum(self.answered.values())

    def check(self) -> None:
        """Assert, once the load has ended, that what is stored is what the books allow."""
        with self.server.client() as admin:
            wrong = [
                f"user {account.user}: {breach}"
                for account in self.accounts
                for breach in account.breaches(_stored(admin, account))
            ]
        assert not self.strange, self.strange[:5]
        assert not wrong, "\n".join(wrong)

    def exactly_once(self) -> None:
        """Assert that each update which was sent under a key was applied, once, and is not applied by a repetition."""
        assert self.keyed
        self.check()
        assert not any(account.unknown for account in self.accounts)
        with self.server.client() as admin:
            for account in self.accounts:
                for number, sequence in account.latest():
                    again = admin.put(
                        f"/v3alpha/users/{account.user}",
                        content=json.dumps(_value(number, account.authors[number])),
                        headers={"Content-Type": "application/json", **self._headers(number)},
                    )
                    assert again.status_code == 200, again.text
                    assert int(again.json()["details"]["sequence"]) == sequence
                assert int(_stored(admin, account)["details"]["sequence"]) == len(account.acknowledged)
        self.check()

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(by) for by in range(1, CLIENTS + 1)))

    async def _client(self, by: int) -> None:
        chance = random.Random(by)
        connection = Connection(self.server)
        with contextlib.closing(connection):
            while self._stopped_at is None:
                if not await connection.open():
                    await asyncio.sleep(_PAUSE)
                    continue
                account = chance.choice(self.accounts[:_HOT] if chance.random() < 0.5 else self.accounts)
                await self._update(connection, account, by)

    async def _update(self, connection: Connection, account: Account, by: int) -> None:
        """Send one new update, with a key as often as it takes."""
        number, seen = next(self._numbers), account.highest
        account.authors[number] = by
        account.unknown.add(number)  # from here on, until an answer says more
        pause = await self._try(connection, account, number, seen)
        while pause is not None:
            await asyncio.sleep(pause)
            if not self.keyed or self._hopeless():
                return
            self.repeated += 1
            pause = await self._try(connection, account, number, seen) if await connection.open() else _PAUSE

    def _hopeless(self) -> bool:
        """Whether the load ended so long ago that no repetition will help; the books will show it."""
        return self._stopped_at is not None and time.monotonic() > self._stopped_at + GENEROUS

    async def _try(self, connection: Connection, account: Account, number: int, seen: int) -> float | None:
        """Send an update; None if it was acknowledged, else the seconds after which it may be repeated."""
        by = account.authors[number]
        try:
            answer = await connection.put(f"/v3alpha/users/{account.user}", _value(number, by), self._headers(number))
        except NoAnswerError:
            self.doubts += 1
            return _PAUSE
        if answer.status == 200:
            account.acknowledge(number, int(answer.body["details"]["sequence"]), seen)
            self.answered[by] += 1
            return None
        if answer.status == 503:  # the database may have taken it without saying so
            self.doubts += 1
        elif answer.status == 409 and answer.body["code"] == 10:
            if not self.keyed:  # with a key, an earlier try may have got further than this one
                account.unknown.discard(number)
        else:
            self.strange.append(f"{answer.status} {answer.body}")
            account.unknown.discard(number)
            return None
        return float(answer.headers["retry-after"]) if self.keyed else _PAUSE

    def _headers(self, number: int) -> dict[str, str]:
        return {"Idempotency-Key": f"{self._run_id}-{number}"} if self.keyed else {}


def _value(number: int, by: int) -> dict[str, Any]:
    return {"data": {"n": number, "by": by}}


def _stored(admin: Api, account: Account) -> dict[str, Any]:
    found: dict[str, Any] = admin.ok("GET", f"/v3alpha/users/{account.user}")["user"]
    return found


# -- the processes -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_processes(folder: Path, **environment: str) -> Iterator[Server]:
    """A server of two HTTP processes; whatever is left of it in the end is killed, its database too."""
    try:
        with serving(folder, environment={"SCHEMA_USER_PROCESSES": "2", **environment}) as server:
            yield server
    finally:
        # A database whose server was killed is nobody's child; it is told by the directory, which is the test's own.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(folder / "db") in command_of(process):
                    process.kill()


def family_of(server: Server) -> list[psutil.Process]:
    """Give the server's processes without the database's."""
    return [process for process in tree(server) if "mongod" not in command_of(process)[0]]
