"""What holds in every process at once: four of them on two machines that share nothing but the database.

Each request goes over a connection of which it is known what process took it, so that none is asked by accident only.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx
import psutil
import pytest

from schema_user.store.schemas import HEAD_TTL
from tests.conftest import ANY_TLS, Server, fresh_uri
from tests.faults.load import GENEROUS, eventually, http_of
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

T = TypeVar("T")

_PROCESSES: Final = (3, 1)
"""HTTP processes of the first machine and of the second."""

_LINES: Final = 8
"""Connections to each process."""

_TOKEN_BOUND: Final = 5.0
"""Seconds within which what a token may no longer do is refused everywhere; promised in docs/operations.md."""

_PAUSE: Final = 0.02
"""Seconds between two rounds of a line: there are many, and processes have something else to do, too."""

_SECRET: Final = "a secret of two machines and long enough for both"
_USERS: Final = "/v3alpha/users"
_SCHEMAS: Final = "/v3alpha/user_schemas"
_UNAVOIDABLE: Final = 2
"""Rounds to wait for: the first one that ends may have begun before."""


@dataclass(frozen=True)
class Answer:
    """An answer, whatever it says."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def sequence(self) -> int:
        """The sequence of what was changed."""
        return int(self.body["details"]["sequence"])

    @property
    def reason(self) -> str | None:
        """Why it was refused; None if it was not."""
        return None if self.status < 400 else str(self.body["details"][0]["reason"])


class Line:
    """One connection for good, and so one process: if it is lost, the next call fails. Not for sharing."""

    def __init__(self, machine: Server) -> None:
        """Connect; who took it is known as ``process`` once it has answered."""
        self.machine = machine
        self.process = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", machine.port, timeout=GENEROUS)
        self._connection.connect()
        self._connection.auto_open = 0
        self.port = int(self._connection.sock.getsockname()[1])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answer:
        """Ask, by default with the first token; a header ``if_match`` is sent as ``if-match``."""
        more = {name.replace("_", "-"): text for name, text in headers.items()}
        more["Authorization"] = f"Bearer {token or self.machine.token}"
        if body is not None:
            more["Content-Type"] = "application/json"
        self._connection.request(method, path, None if body is None else json.dumps(body).encode(), more)
        response = self._connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): text for name, text in response.getheaders()},
            json.loads(response.read()),
        )

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask, expect success, and give the answer's JSON."""
        answer = self.call(method, path, body, **headers)
        assert answer.status < 300, f"{method} {path}: {answer}"
        return answer.body


@pytest.fixture(scope="module")
def machines(short_dir: Path, mongod_uri: str) -> Iterator[list[Server]]:
    """Two servers with data directories of their own, one database and one key."""
    shared = {
        "SCHEMA_USER_MONGODB_URI": fresh_uri(mongod_uri),
        "SCHEMA_USER_SECRET_KEY": _SECRET,
    }
    token = secrets.token_urlsafe(32)
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(
                serving(
                    short_dir / f"machine-{number}",
                    token=token,
                    environment={**shared, "SCHEMA_USER_PROCESSES": str(processes)},
                )
            )
            for number, processes in enumerate(_PROCESSES)
        ]
        yield made
        for machine in made:
            assert machine.stop() == 0
            assert "unexpected" not in machine.log(), machine.log()


@pytest.fixture
def lines(machines: list[Server]) -> Iterator[list[Line]]:
    """As many connections to each process of each machine; any few that follow each other lead to different ones."""
    with contextlib.ExitStack() as stack:
        taken = [lines for machine in machines for lines in _taken(machine, stack)]
        mixed = [line for round_ in zip(*taken, strict=True) for line in round_]
        assert len({line.process for line in mixed[: sum(_PROCESSES)]}) == sum(_PROCESSES)
        yield mixed


def _taken(machine: Server, stack: contextlib.ExitStack) -> list[list[Line]]:
    """Connect until each process has taken enough; the system spreads connections as it likes."""
    processes = http_of(machine)
    taken: dict[int, list[Line]] = {process.pid: [] for process in processes}
    deadline = time.monotonic() + GENEROUS
    while any(len(lines) < _LINES for lines in taken.values()):
        assert time.monotonic() < deadline, {process: len(lines) for process, lines in taken.items()}
        opened = [Line(machine) for _ in range(_LINES)]
        for line in opened:
            stack.callback(line.close)
            line.ok("GET", "/health/live")
        holders = {
            connection.raddr.port: process.pid
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == machine.port
        }
        for line in opened:
            line.process = holders[line.port]
            if len(taken[line.process]) < _LINES:
                taken[line.process].append(line)
            else:
                line.close()
    return list(taken.values())


def at_once(lines: list[Line], ask: Callable[[Line], T]) -> list[T]:
    """Do the same over all lines, beginning in one moment; the results in the order of the lines."""
    start = threading.Barrier(len(lines))

    def one(line: Line) -> T:
        start.wait(GENEROUS)
        return ask(line)

    with ThreadPoolExecutor(len(lines)) as pool:
        return list(pool.map(one, lines))


class Asking:
    """Over every line a round of requests again and again, for as long as the block lasts."""

    def __init__(self, lines: list[Line], ask: Callable[[Line], None]) -> None:
        """Say what a round is."""
        self._lines = lines
        self._ask = ask
        self._rounds = {line.port: 0 for line in lines}
        self._stop = False
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        """Begin, and come back when a round has ended on every line."""
        self._pool = ThreadPoolExecutor(len(self._lines))
        self._futures = [self._pool.submit(self._run, line) for line in self._lines]
        try:
            self.another_round()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End, and raise what went wrong."""
        self._end()
        for future in self._futures:
            future.result()

    def another_round(self) -> None:
        """Wait until a round that begins from now on has ended on every line."""
        before = dict(self._rounds)

        def ended() -> bool:
            for future in self._futures:
                if future.done():
                    future.result()
            return all(self._rounds[line.port] >= before[line.port] + _UNAVOIDABLE for line in self._lines)

        eventually(ended, "another round")

    def _run(self, line: Line) -> None:
        while not self._stop:
            self._ask(line)
            self._rounds[line.port] += 1
            time.sleep(_PAUSE)

    def _end(self) -> None:
        self._stop = True
        self._pool.shutdown()


@dataclass(frozen=True)
class Sighting:
    """Whether something was accepted, and between what moments."""

    sent: float
    answered: float
    process: int
    wanted: Any
    accepted: bool


@dataclass
class Timeline:
    """States that follow each other, and what processes that may be late by ``bound`` seconds made of them.

    A request may be answered by any state that began before its answer came, and that was not over, by an acknowledged
    change, ``bound`` seconds before it was sent. So no check depends on how fast anything is.
    """

    bound: float
    accepts: Callable[[Any, Any], bool]
    """Whether a state lets something pass."""
    refusal: tuple[int, str]
    """The status and the reason of what does not pass."""
    newest: Any
    seen: list[Sighting] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the first state, which always was."""
        self._states: list[Any] = [self.newest]
        self._began = [-math.inf]
        self._ended: list[float] = []

    def change(self, state: Any, line: Line, method: str, path: str, body: Any = None) -> None:
        """Go over to another state by a request that must be acknowledged."""
        self._began.append(time.monotonic())
        self._states.append(state)
        self.newest = state
        line.ok(method, path, body)
        self._ended.append(time.monotonic())

    def ask(self, wanted: Any, line: Line, method: str, path: str, body: Any = None, token: str | None = None) -> None:
        """Send a request and take down whether it was accepted."""
        sent = time.monotonic()
        answer = line.call(method, path, body, token)
        accepted = answer.status < 300
        assert accepted or (answer.status, answer.reason) == self.refusal, answer
        self.seen.append(Sighting(sent, time.monotonic(), line.process, wanted, accepted))

    def check(self, processes: int) -> None:
        """Assert that no answer is by a state that was over, and that all processes were asked in each state alone."""
        asked: set[tuple[int, int, bool]] = set()
        for each in self.seen:
            possible = [
                number
                for number, began in enumerate(self._began)
                if began <= each.answered and each.sent < self._over(number)
            ]
            passes = {self.accepts(self._states[number], each.wanted) for number in possible}
            assert each.accepted in passes, f"{each}, in {[self._states[number] for number in possible]}"
            if len(possible) == 1:
                asked.add((possible[0], each.process, each.accepted))
        for number, state in enumerate(self._states):
            expected = {self.accepts(state, each.wanted) for each in self.seen}
            for accepted in expected:
                by = [process for at, process, was in asked if (at, was) == (number, accepted)]
                assert len(by) == processes, f"state {state}, accepted {accepted}: asked were {by}"

    def _over(self, number: int) -> float:
        return self._ended[number] + self.bound if number < len(self._ended) else math.inf


def _only(number: int) -> dict[str, Any]:
    """A schema that no data passes but its own revision's."""
    return {"type": "object", "required": ["only"], "properties": {"only": {"const": number}}}


def _make_schema(line: Line, schema: dict[str, Any] | None = None) -> str:
    body = {"type": f"shared {time.time_ns()}", "schema": schema or {}}
    return str(line.ok("POST", _SCHEMAS, body)["id"])


def _make_user(line: Line, schema_id: str, data: dict[str, Any]) -> str:
    return str(line.ok("POST", _USERS, {"schemaId": schema_id, "data": data})["userId"])


def _users_of(line: Line, schema_id: str) -> list[dict[str, Any]]:
    """All users of a schema, by a search."""
    found: list[dict[str, Any]] = []
    body: dict[str, Any] = {"query": {"limit": 1000}, "queries": [{"schemaIdQuery": {"id": schema_id}}]}
    page: dict[str, Any] = {"nextPageToken": None}
    while "nextPageToken" in page:
        page = line.ok("POST", _USERS + "/search", {**body, "pageToken": page["nextPageToken"]})
        found += page["result"]
    return found


class TestSchema:
    def test_revision(self, lines: list[Line]) -> None:
        """A new revision holds everywhere after the bound; what is stored always passes the revision it names."""
        author, *others = lines
        schema = _make_schema(author, _only(1))
        users = [_make_user(author, schema, {"only": 1, "n": 0}) for _ in range(sum(_PROCESSES))]
        numbers = itertools.count(1)
        timeline = Timeline(HEAD_TTL, lambda state, wanted: bool(state == wanted), (400, "DATA_INVALID"), 1)

        def write_and_read(line: Line) -> None:
            newest = timeline.newest
            for wanted in (newest, newest - 1):
                number = next(numbers)
                user, data = f"{_USERS}/{users[number % len(users)]}", {"only": wanted, "n": number}
                timeline.ask(wanted, line, "PUT", user, {"data": data})
                timeline.ask(wanted, line, "POST", _USERS, {"schemaId": schema, "data": data})
                stored = line.ok("GET", user)["user"]
                assert stored["data"]["only"] == stored["schema"]["revision"]

        with Asking(others[: 2 * sum(_PROCESSES)], write_and_read) as asking:
            for revision in range(2, 5):
                publisher = lines[-revision]  # another process each time
                timeline.change(revision, publisher, "PUT", f"{_SCHEMAS}/{schema}", {"schema": _only(revision)})
                time.sleep(HEAD_TTL)
                asking.another_round()

        timeline.check(sum(_PROCESSES))
        stored = _users_of(author, schema)
        assert {user["schema"]["revision"] for user in stored} == {1, 2, 3, 4}
        assert [user for user in stored if user["data"]["only"] != user["schema"]["revision"]] == []

    def test_state(self, lines: list[Line]) -> None:
        """After the bound an inactive schema takes no data in any process, and a reactivated one does in all."""
        author, *others = lines
        schema = _make_schema(author)
        user = _make_user(author, schema, {"n": 0})
        numbers = itertools.count(1)
        timeline = Timeline(HEAD_TTL, lambda active, _: bool(active), (400, "SCHEMA_INACTIVE"), newest=True)

        def write(line: Line) -> None:
            body = {"data": {"n": next(numbers)}}
            timeline.ask("update", line, "PUT", f"{_USERS}/{user}", body)
            timeline.ask("create", line, "POST", _USERS, {"schemaId": schema, **body})

        with Asking(others[: 2 * sum(_PROCESSES)], write) as asking:
            for number, word in enumerate(["deactivate", "reactivate", "deactivate"]):
                timeline.change(word == "reactivate", lines[-1 - number], "POST", f"{_SCHEMAS}/{schema}/{word}")
                time.sleep(HEAD_TTL)
                asking.another_round()
        timeline.check(sum(_PROCESSES))


class TestToken:
    def test_revocation(self, lines: list[Line]) -> None:
        """Five seconds after it was revoked, or its organization or user deactivated, no process takes a token."""
        author, *others = lines
        organization = author.ok("POST", "/v3alpha/organizations", {"name": "closes"})["organizationId"]
        user = _make_user(author, _make_schema(author), {"n": 0})
        tokens = {
            body["name"]: author.ok("POST", "/v3alpha/tokens", body)
            for body in (
                {"name": "revoked", "roles": [{"role": "INSTANCE_VIEWER"}]},
                {"name": "closed", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": organization}]},
                {"name": "itself", "userId": user},
            )
        }
        uses = {
            "revoked": ("GET", f"{_USERS}/{user}"),
            "closed": ("POST", f"{_USERS}/search"),
            "itself": ("GET", f"{_USERS}/{user}"),
        }
        ends = {
            "revoked": ("DELETE", f"/v3alpha/tokens/{tokens['revoked']['tokenId']}"),
            "closed": ("POST", f"/v3alpha/organizations/{organization}/deactivate"),
            "itself": ("POST", f"{_USERS}/{user}/deactivate"),
        }
        timelines = {
            name: Timeline(_TOKEN_BOUND, lambda good, _: bool(good), (401, "TOKEN_INVALID"), newest=True)
            for name in tokens
        }

        def use(line: Line) -> None:
            for name, (method, path) in uses.items():
                timelines[name].ask(name, line, method, path, token=tokens[name]["token"])
            time.sleep(0.005)

        with Asking(others[: 2 * sum(_PROCESSES)], use) as asking:
            for name, (method, path) in ends.items():
                timelines[name].change(False, author, method, path)
            time.sleep(_TOKEN_BOUND)
            asking.another_round()
        for timeline in timelines.values():
            timeline.check(sum(_PROCESSES))

    @pytest.mark.soak
    def test_access_tokens(self, lines: list[Line], machines: list[Server]) -> None:
        """Five seconds after the token behind it was revoked, or its user deactivated, no process takes one."""
        author, *others = lines
        user = _make_user(author, _make_schema(author), {"n": 0})
        parents = {
            body["name"]: author.ok("POST", "/v3alpha/tokens", body)
            for body in (
                {"name": "revoked", "roles": [{"role": "INSTANCE_VIEWER"}]},
                {"name": "itself", "userId": user},
            )
        }
        granted = {
            name: httpx.post(
                f"{machine.url}/oauth/v2/token",
                data={"grant_type": "client_credentials", "client_id": made["tokenId"], "client_secret": made["token"]},
                verify=ANY_TLS,
            ).json()["access_token"]
            for machine, (name, made) in zip(machines, parents.items(), strict=True)
        }
        ends = {
            "revoked": ("DELETE", f"/v3alpha/tokens/{parents['revoked']['tokenId']}"),
            "itself": ("POST", f"{_USERS}/{user}/deactivate"),
        }
        timelines = {
            name: Timeline(_TOKEN_BOUND, lambda good, _: bool(good), (401, "TOKEN_INVALID"), newest=True)
            for name in granted
        }

        def use(line: Line) -> None:
            for name, token in granted.items():
                timelines[name].ask(name, line, "GET", f"{_USERS}/{user}", token=token)
            time.sleep(0.005)

        with Asking(others[: 2 * sum(_PROCESSES)], use) as asking:
            for name, (method, path) in ends.items():
                timelines[name].change(False, author, method, path)
            time.sleep(_TOKEN_BOUND)
            asking.another_round()
        for timeline in timelines.values():
            timeline.check(sum(_PROCESSES))


class TestOneUser:
    def test_counter(self, lines: list[Line]) -> None:
        """Increments under If-Match from every process sum up: each is applied once, and on what it was made from."""
        user = _make_user(lines[0], _make_schema(lines[0]), {"n": 0})
        writers, steps = lines[: 2 * sum(_PROCESSES)], 10

        def count(line: Line) -> tuple[list[tuple[int, int]], int]:
            counted: list[tuple[int, int]] = []
            stale = 0
            while len(counted) < steps:
                seen = line.call("GET", f"{_USERS}/{user}")
                after = seen.body["user"]["data"]["n"] + 1
                put = line.call("PUT", f"{_USERS}/{user}", {"data": {"n": after}}, if_match=seen.headers["etag"])
                if put.status == 200:
                    counted.append((after, put.sequence))
                else:
                    assert (put.status, put.body["code"]) in {(412, 10), (409, 10)}, put
                    stale += 1
            return counted, stale

        results = at_once(writers, count)
        total = len(writers) * steps
        counted = sorted(each for counts, _ in results for each in counts)
        assert counted == [(number, number + 1) for number in range(1, total + 1)]
        assert sum(stale for _, stale in results) > 0  # they did meet
        stored = lines[0].ok("GET", f"{_USERS}/{user}")["user"]
        assert (stored["data"], int(stored["details"]["sequence"])) == ({"n": total}, total + 1)

    @pytest.mark.soak
    def test_sequences(self, lines: list[Line]) -> None:
        """Updates without If-Match from every process get a sequence each; that with the highest is what is stored."""
        user = _make_user(lines[0], _make_schema(lines[0]), {"n": 0})
        numbers = itertools.count(1)
        times = 4

        def write(line: Line) -> list[tuple[int, int]]:
            written: list[tuple[int, int]] = []
            while len(written) < times:
                number = next(numbers)
                put = line.call("PUT", f"{_USERS}/{user}", {"data": {"n": number}})
                if put.status == 200:
                    written.append((put.sequence, number))
                else:
                    assert (put.status, put.body["code"]) == (409, 10), put
            return written

        results = at_once(lines, write)
        assert all(written == sorted(written) for written in results)
        written = dict(itertools.chain(*results))
        total = len(lines) * times
        assert sorted(written) == list(range(2, total + 2))
        stored = lines[-1].ok("GET", f"{_USERS}/{user}")["user"]
        assert (stored["data"]["n"], int(stored["details"]["sequence"])) == (written[total + 1], total + 1)


def _persist(line: Line, method: str, path: str, body: Any, key: str) -> Answer:
    """Ask under a key, again whenever another request with it is under way, until there is an outcome."""
    deadline = time.monotonic() + GENEROUS
    while True:
        answer = line.call(method, path, body, idempotency_key=key)
        if (answer.status, answer.body.get("code")) != (409, 10):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(int(answer.headers["retry-after"]))


def _replayed(answer: Answer) -> bool:
    """Whether an answer says that it is one of before."""
    said = answer.headers.get("idempotent-replayed")
    assert said in {None, "true"}
    return said is not None


class TestIdempotencyKey:
    def test_create(self, lines: list[Line]) -> None:
        """The same creation under one key over all processes at once makes one user, and answers all alike."""
        schema = _make_schema(lines[0])
        key, email = secrets.token_hex(), {"address": "minnie@example.com", "returnCode": {}}
        body = {"schemaId": schema, "data": {"n": 1}, "username": f"once-{key}", "contact": {"email": email}}
        answers = at_once(lines, lambda line: _persist(line, "POST", _USERS, body, key))
        assert {answer.status for answer in answers} == {201}
        assert len({json.dumps(answer.body, sort_keys=True) for answer in answers}) == 1
        assert sum(not _replayed(answer) for answer in answers) <= 1
        assert len(answers[0].body["emailCode"]) == 6
        assert [user["userId"] for user in _users_of(lines[0], schema)] == [answers[0].body["userId"]]

        late = [line.call("POST", _USERS, body, idempotency_key=key) for line in lines[: sum(_PROCESSES)]]
        assert all(map(_replayed, late))
        assert all((answer.status, answer.body) == (201, answers[0].body) for answer in late)

    def test_other_keys(self, lines: list[Line]) -> None:
        """The same creation under as many keys as there are requests makes as many users."""
        schema = _make_schema(lines[0])
        body = {"schemaId": schema, "data": {"n": 1}}
        answers = at_once(lines, lambda line: _persist(line, "POST", _USERS, body, secrets.token_hex()))
        assert not any(map(_replayed, answers))
        made = {answer.body["userId"] for answer in answers}
        assert len(made) == len(lines)
        assert {user["userId"] for user in _users_of(lines[0], schema)} == made

    def test_update(self, lines: list[Line]) -> None:
        """The same update under one key over all processes is applied once, whatever others write in between."""
        user = _make_user(lines[0], _make_schema(lines[0]), {"n": 0})
        path, key, body = f"{_USERS}/{user}", secrets.token_hex(), {"data": {"n": -1}}
        numbers = itertools.count(1)
        times = 12
        others = {line.port for line in lines[: 2 * sum(_PROCESSES)]}

        def write(line: Line) -> list[Answer]:
            if line.port not in others:
                return [_persist(line, "PUT", path, body, key) for _ in range(2)]
            bodies = [{"data": {"n": next(numbers)}} for _ in range(times)]
            return [_persist(line, "PUT", path, each, secrets.token_hex()) for each in bodies]

        answers = dict(zip(lines, at_once(lines, write), strict=True))
        alike = [answer for line, given in answers.items() if line.port not in others for answer in given]
        assert {answer.status for given in answers.values() for answer in given} == {200}
        assert len({json.dumps(answer.body, sort_keys=True) for answer in alike}) == 1
        assert sum(not _replayed(answer) for answer in alike) <= 1
        last = len(others) * times + 2
        assert {answer.sequence for given in answers.values() for answer in given} == set(range(2, last + 1))

        lines[0].ok("PUT", path, {"data": {"n": next(numbers)}})
        late = at_once(lines, lambda line: _persist(line, "PUT", path, body, key))
        assert all(map(_replayed, late))
        assert all((answer.status, answer.body) == (200, alike[0].body) for answer in late)
        stored = lines[-1].ok("GET", path)["user"]
        assert (stored["data"]["n"], int(stored["details"]["sequence"])) == (next(numbers) - 1, last + 1)

    @pytest.mark.soak
    def test_nothing_to_write(self, lines: list[Line]) -> None:
        """An update under one key that finds nothing to change is over with that, also while others write."""
        user = _make_user(lines[0], _make_schema(lines[0]), {"n": 0})
        path, others = f"{_USERS}/{user}", {line.port for line in lines[: sum(_PROCESSES)]}
        for number in range(1, 13):
            lines[0].ok("PUT", path, {"data": {"n": 0}})
            before = int(lines[0].ok("GET", path)["user"]["details"]["sequence"])
            key = secrets.token_hex()

            def write(line: Line, number: int = number, key: str = key) -> Answer | None:
                if line.port in others:
                    line.ok("PUT", path, {"data": {"n": number * 100_000 + line.port}})
                    return None
                return _persist(line, "PUT", path, {"data": {"n": 0}}, key)

            alike = [answer for answer in at_once(lines, write) if answer is not None]
            assert {answer.status for answer in alike} == {200}
            assert len({json.dumps(answer.body, sort_keys=True) for answer in alike}) == 1
            assert sum(not _replayed(answer) for answer in alike) <= 1
            after = int(lines[0].ok("GET", path)["user"]["details"]["sequence"])
            assert after - before - len(others) in {0, 1}

    @pytest.mark.soak
    def test_refused_meanwhile(self, lines: list[Line]) -> None:
        """If some of the same creations under one key are refused, the others still make one user and name it."""
        author = lines[0]
        outcomes: set[int] = set()
        for number in range(8):
            schema = _make_schema(author)
            key, body = secrets.token_hex(), {"schemaId": schema, "data": {"n": number}}
            for line in lines[: sum(_PROCESSES)]:
                line.ok("POST", f"{_USERS}?validateOnly=true", body)
            # The process that is told refuses at once, those that have just asked may not know for a while.
            author.ok("POST", f"{_SCHEMAS}/{schema}/deactivate")

            def create(line: Line, body: Any = body, key: str = key) -> list[Answer]:
                time.sleep(0 if line.process == author.process else 0.005)
                return [_persist(line, "POST", _USERS, body, key) for _ in range(3)]

            answers = list(itertools.chain(*at_once(lines, create)))
            assert {(answer.status, answer.reason) for answer in answers} <= {(201, None), (400, "SCHEMA_INACTIVE")}
            outcomes |= {answer.status for answer in answers}
            made = {user["userId"] for user in _users_of(author, schema)}
            assert {answer.body["userId"] for answer in answers if answer.status == 201} == made
            assert len(made) <= 1
        assert outcomes == {201, 400}

    @pytest.mark.soak
    def test_other_body(self, lines: list[Line]) -> None:
        """Of two bodies under one key, sent over all processes at once, one is stored and the other always refused."""
        schema = _make_schema(lines[0])
        key = secrets.token_hex()
        wanted = {line.port: index // sum(_PROCESSES) % 2 for index, line in enumerate(lines)}

        def create(line: Line) -> Answer:
            return _persist(line, "POST", _USERS, {"schemaId": schema, "data": {"n": wanted[line.port]}}, key)

        for _ in range(2):  # at the same moment, and when it is long decided
            answers = dict(zip(lines, at_once(lines, create), strict=True))
            (stored,) = _users_of(lines[0], schema)
            winner = stored["data"]["n"]
            for line, answer in answers.items():
                if wanted[line.port] == winner:
                    assert (answer.status, answer.body["userId"]) == (201, stored["userId"])
                else:
                    assert (answer.status, answer.body["code"]) == (409, 6)
                    assert not _replayed(answer)
