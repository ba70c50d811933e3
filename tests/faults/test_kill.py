"""Kill -9 of a part, or of almost all, under load: whatever was acknowledged is there, once and whole."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pymongo import MongoClient

from schema_user.store.embedded import socket_uri
from tests.faults.ledger_load import Account, LedgerLoad, family_of, two_processes
from tests.faults.load import eventually, gone, http_of, mongod_of
from tests.faults.test_server import bury

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Server

LINES = 6000


def kill_http(server: Server) -> None:
    """Kill one of the two processes that answer; another takes its place."""
    before = http_of(server)
    before[0].kill()
    eventually(lambda: gone(before[0]) and len(http_of(server)) == len(before), "a replacement")


def kill_family(server: Server) -> None:
    """Kill everything but the database, at once, and start the server again."""
    mongod = mongod_of(server)
    for process in family_of(server):
        process.kill()
    bury(server)
    assert not gone(mongod)
    server.start()


def kill_mongod(server: Server) -> None:
    """Kill the database; the server starts it again by itself."""
    killed = mongod_of(server)
    killed.kill()
    eventually(lambda: gone(killed), "its end")


KILLS = {"http process": kill_http, "server": kill_family, "database": kill_mongod}


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    """One server for all that happens to it here."""
    with two_processes(short_dir / "kill") as made:
        yield made


# The death of the server and all its processes is that of each of them, too.
@pytest.mark.parametrize(
    ("kill", "rounds"),
    [
        pytest.param(kill_family, 2, id="server"),
        *(pytest.param(kill, 3, id=f"{name} thrice", marks=pytest.mark.soak) for name, kill in KILLS.items()),
    ],
)
def test_the_acknowledged_is_there(server: Server, kill: Callable[[Server], None], rounds: int) -> None:
    """After each of several kills under load every user is what its acknowledged updates made it."""
    load = LedgerLoad(server)
    for _ in range(rounds):
        with load:
            kill(server)
            load.goes_on()
        load.check()
    if kill is not kill_mongod:  # the driver may bridge a new database, but nothing can bridge the loss of an answerer
        assert load.doubts


@pytest.mark.soak
def test_a_repetition_under_its_key_is_none(server: Server) -> None:
    """Clients who repeat under the same key what was not answered see each update applied once, whatever is killed."""
    load = LedgerLoad(server, keyed=True)
    for kill in KILLS.values():
        with load:
            kill(server)
            load.goes_on()
        load.exactly_once()
    assert load.repeated


@pytest.mark.parametrize(
    "kill", [pytest.param(kill_family, id="server"), pytest.param(kill_mongod, id="database", marks=pytest.mark.soak)]
)
def test_an_import_goes_on_under_its_key(server: Server, kill: Callable[[Server], None]) -> None:
    """Killed in the middle and sent once more, a stream leaves each user once, and each as nothing changed it."""
    prefix = f"imported-{kill.__name__}-"
    with server.client() as admin:
        schema_id = admin.ok("POST", "/v3alpha/user_schemas", {"type": prefix, "schema": {"type": "object"}})["id"]
    lines = [
        json.dumps({"userId": f"{prefix}{number}", "schemaId": schema_id, "data": {"n": number}}).encode() + b"\n"
        for number in range(LINES)
    ]

    def imported(given: Iterator[bytes]) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": prefix}
        results = []
        with (
            server.client() as admin,
            contextlib.suppress(httpx.TransportError),
            admin.stream("POST", "/v3alpha/users/import", content=given, headers=headers) as response,
        ):
            results += [json.loads(line) for line in response.iter_lines()]
        return results

    def killed_between() -> Iterator[bytes]:
        yield from lines[: LINES // 2]
        with server.client() as admin:
            eventually(lambda: admin.get(f"/v3alpha/users/{prefix}0").status_code == 200, "the first users")
        kill(server)
        yield from lines[LINES // 2 :]

    imported(killed_between())
    results = imported(iter(lines))
    assert [each["line"] for each in results if "error" not in each] == list(range(1, LINES + 1))
    with MongoClient[Any](socket_uri(server.data_dir)) as client:
        database = client.schema_user
        own = {"$gte": prefix, "$lt": prefix + ":"}
        assert database.users.count_documents({"_id": own}) == LINES
        assert database.users.count_documents({"_id": own, "version": 1, "creation": {"$exists": True}}) == LINES
        assert database.history.count_documents({"user_id": own}) == 0


class TestBooks:
    """The books would show it: each way to go wrong is a breach, and the ways to go right are none."""

    @staticmethod
    def breaches(acknowledged: dict[int, int], unknown: set[int], number: int, last: int) -> list[str]:
        """Give what is said of a user with updates 1 to 4 of client 7, after the creation."""
        account = Account("1", authors={0: 0} | dict.fromkeys(range(1, 5), 7), unknown=unknown)
        for each, sequence in acknowledged.items():
            account.acknowledge(each, sequence, 1)
        data = {"n": number, "by": 7 if number else 0}
        return list(account.breaches({"data": data, "details": {"sequence": str(last)}}))

    @pytest.mark.parametrize(
        ("acknowledged", "unknown", "number", "last"),
        [
            pytest.param({}, set(), 0, 1, id="nothing"),
            pytest.param({2: 2, 1: 3}, set(), 1, 3, id="out of turn"),
            pytest.param({1: 2}, {2, 3}, 1, 2, id="unknown and not applied"),
            pytest.param({1: 2}, {2, 3}, 3, 3, id="unknown and applied"),
            pytest.param({1: 3}, {2}, 1, 3, id="unknown and overwritten"),
        ],
    )
    def test_right(self, acknowledged: dict[int, int], unknown: set[int], number: int, last: int) -> None:
        """What can have happened is no breach."""
        assert not self.breaches(acknowledged, unknown, number, last)

    @pytest.mark.parametrize(
        ("acknowledged", "unknown", "number", "last", "said"),
        [
            pytest.param({1: 2, 2: 3}, set(), 1, 2, "3 was acknowledged, 2 is stored", id="lost"),
            pytest.param({1: 2, 2: 3}, set(), 1, 3, "acknowledged for another", id="overwritten"),
            pytest.param({1: 2, 2: 2}, set(), 2, 2, "acknowledged for 2 updates", id="one sequence for two"),
            pytest.param({1: 2}, {2}, 1, 3, "its fate is known", id="applied again"),
            pytest.param({1: 2}, {2}, 2, 4, "4 updates were applied", id="unknown and applied twice"),
            pytest.param({1: 2}, set(), 3, 3, "its fate is known", id="refused and applied"),
            pytest.param({1: 2}, {2}, 9, 3, "nobody sent", id="of nobody"),
            pytest.param({1: 1}, set(), 1, 1, "was sent after 1", id="no change"),
        ],
    )
    def test_wrong(self, acknowledged: dict[int, int], unknown: set[int], number: int, last: int, said: str) -> None:
        """What must not happen is named."""
        assert any(said in breach for breach in self.breaches(acknowledged, unknown, number, last))

    def test_half(self) -> None:
        """Data put together from two updates is one that nobody sent."""
        account = Account("1", authors={0: 0, 1: 7, 2: 8}, unknown={1, 2})
        found = {"data": {"n": 1, "by": 8}, "details": {"sequence": "2"}}
        assert any("nobody sent" in breach for breach in account.breaches(found))
