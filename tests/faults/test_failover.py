"""Three databases as one set, and kill -9 of the primary under load: another takes over, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from schema_user.store.embedded import find_binary
from tests.conftest import free_port
from tests.faults.ledger_load import LedgerLoad, two_processes
from tests.faults.load import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Server

_MEMBERS: Final = 3
_SET: Final = "failover"
_SECRET: Final = "a secret of the tests and long enough for anybody"


@dataclass
class Member:
    """One database of the set, in a directory of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Its name in the set."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it is there when it answers."""
        (self.folder / "db").mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {
            "--dbpath": self.folder / "db",
            "--bind_ip": "127.0.0.1",
            "--port": self.port,
            "--replSet": _SET,
            "--oplogSize": 990,
            "--wiredTigerCacheSizeGB": 0.25,
            "--logpath": self.folder / "mongod.log",
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        options = [str(part) for setting in settings.items() for part in setting]
        self.process = subprocess.Popen(
            [str(find_binary(self.folder)), *options, "--nounixsocket", "--logappend", "--quiet"],
            env={name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill -9 it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: int) -> None:
        """Freeze it or let it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def is_primary(self) -> bool:
        """Whether it takes writes."""
        return bool(self.command("hello").get("isWritablePrimary"))

    def command(self, name: str, *values: Any) -> dict[str, Any]:
        """Ask this one; nothing if it does not answer."""
        options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 1000}
        with MongoClient[dict[str, Any]](self.host, **options) as client, contextlib.suppress(PyMongoError):
            return dict(client.admin.command(name, *values))
        return {}


class ReplicaSet:
    """The members, as one."""

    def __init__(self, folder: Path) -> None:
        """Say where they live; none is started yet."""
        self.members = [Member(folder / str(number)) for number in range(_MEMBERS)]

    def uri(self, database: str) -> str:
        """Where a server finds them."""
        return f"mongodb://{','.join(member.host for member in self.members)}/{database}?replicaSet={_SET}"

    def start(self) -> None:
        """Start all and wait until one is primary and the others follow it."""
        for member in self.members:
            member.start()
        eventually(lambda: all(member.command("ping") for member in self.members), "an answer of every member")
        config = {
            "_id": _SET,
            "members": [{"_id": number, "host": member.host} for number, member in enumerate(self.members)],
            # An election is due after 2 s; a frozen member, which refuses nothing, is not waited for longer either.
            "settings": {"electionTimeoutMillis": 2000, "heartbeatTimeoutSecs": 2},
        }
        assert self.members[0].command("replSetInitiate", config)
        eventually(self.whole, "a whole set")

    def whole(self) -> bool:
        """Whether each member is primary or follows it."""
        said = [member.command("hello") for member in self.members]
        return sorted(bool(each.get("secondary")) for each in said if each.get("primary")) == [False, True, True]

    def primary(self) -> Member:
        """Give the one that takes writes."""
        return next(member for member in self.members if member.is_primary())

    def stop(self) -> None:
        """Kill them all."""
        for member in self.members:
            member.kill()


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A set of three, started for the tests here."""
    made = ReplicaSet(tmp_path_factory.mktemp("set"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, short_dir: Path, replica_set: ReplicaSet) -> Iterator[Server]:
    """A server whose database is the set: one that waits for the outcome of an election, and one that does not."""
    settings = {
        "SCHEMA_USER_MONGODB_URI": replica_set.uri(f"waits_{request.param}"),
        "SCHEMA_USER_MONGODB_TIMEOUT": request.param,
        "SCHEMA_USER_SECRET_KEY": _SECRET,
    }
    with two_processes(short_dir / f"failover-{request.param}", **settings) as made:
        yield made


@pytest.mark.parametrize("server", ["5s"], indirect=True)
def test_a_lost_primary(server: Server, replica_set: ReplicaSet) -> None:
    """The load goes on when another is elected and when the lost one comes back; nothing acknowledged is lost."""
    load = LedgerLoad(server)
    with load:
        lost = replica_set.primary()
        lost.kill()
        load.goes_on()
        lost.start()
        eventually(replica_set.whole, "a whole set")
        load.goes_on()
    load.check()


@pytest.mark.soak
@pytest.mark.parametrize("server", ["1s"], indirect=True)
def test_a_frozen_primary(server: Server, replica_set: ReplicaSet) -> None:
    """A primary that comes back after another was elected takes nothing away, and nobody is told what it believed."""
    load = LedgerLoad(server)
    with load:
        frozen = replica_set.primary()
        frozen.signal(signal.SIGSTOP)
        try:
            load.goes_on()
        finally:
            frozen.signal(signal.SIGCONT)
        eventually(replica_set.whole, "a whole set")
        load.goes_on()
    load.check()


@pytest.mark.soak
@pytest.mark.parametrize("server", ["1s"], indirect=True)
def test_a_repetition_under_its_key_is_none(server: Server, replica_set: ReplicaSet) -> None:
    """Clients who repeat under the same key what was not answered see each update applied once."""
    load = LedgerLoad(server, keyed=True)
    with load:
        lost = replica_set.primary()
        lost.kill()
        load.goes_on()
    lost.start()
    load.exactly_once()
