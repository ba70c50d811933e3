"""What every test stands on: a real MongoDB, a real server process, and callers with real tokens."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from bson.raw_bson import RawBSONDocument
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient
from xdist.scheduler import LoadFileScheduling

from schema_user.commands.bootstrap import prepare
from schema_user.rooms import wired
from schema_user.settings import Settings
from schema_user.store.connection import Database
from schema_user.store.embedded import EmbeddedMongod, socket_uri
from schema_user.validation.pool import Pool
from schema_user.validation.validators import Validators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

# Half of what hypothesis does by itself: the tests are many, and each run draws others. The machine may be busy.
hypothesis_settings.register_profile("half", max_examples=50, deadline=None)
hypothesis_settings.load_profile("half")

ANY_TLS = ssl.create_default_context()
"""For clients of servers without TLS: one for all, since each takes 40 ms to make."""
_SECRET = "a secret of the tests, long enough for anybody"
_START_SECONDS = 120
_numbers = itertools.count(1)


_TOGETHER = {
    "tests/api/test_isolation.py": "resting",
    "tests/api/test_roles.py": "resting",
    "tests/api/test_oauth.py": "proxied",
    "tests/api/test_verification_page.py": "proxied",
}
"""Files whose tests run in one process because they share a server; any other file goes by itself."""

_FIRST = ("test_published_api.py", "resting", "test_kill.py", "faults", "wire", "browser", "proxied", "property", "api")
"""Files, servers and folders that take longest, so that none of them is left for the end."""


class ByServer(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Tests of one file run in one process, and files that share a server, too."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Choose who runs what."""
    return ByServer(config, log)


def pytest_collection(session: pytest.Session) -> None:
    """Let each process begin to read at another folder: what one has compiled, the others find."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    folders = sorted(str(path) for path in Path(__file__).parent.iterdir() if any(path.glob("test_*.py")))
    first = int(worker["workerid"].removeprefix("gw")) * len(folders) // worker["workercount"]
    session.config.args = folders[first:] + folders[:first]


def pytest_collectstart() -> None:
    """Look for no cycles while thousands of tests are made: what is made then stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave alone what was collected, whenever cycles are looked for."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; the order is the same in each process."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, str]:
    file = item.nodeid.partition("::")[0]
    names = {_TOGETHER.get(file), item.path.name, item.path.parent.name}
    return next((place for place, name in enumerate(_FIRST) if name in names), len(_FIRST)), file


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """Give a directory whose path leaves room for the name of a socket."""
    path = Path(tempfile.mkdtemp(prefix="su-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def mongod_uri(short_dir: Path) -> Iterator[str]:
    """Run one MongoDB for all tests that work on the stores; each gets a database of its own."""
    mongod = EmbeddedMongod(short_dir / "shared", cache_gb=0.5)
    yield mongod.start()
    mongod.stop()


def fresh_uri(uri: str) -> str:
    """Name a database that nobody has used."""
    return uri.replace("/?", f"/test_{os.getpid()}_{next(_numbers)}?")


@pytest.fixture(params=["pymongo", pytest.param("motor", marks=pytest.mark.soak)])
def driver(request: pytest.FixtureRequest) -> str:
    """Run the test once with each driver; with the older one in the soak, unless its file wants both."""
    return str(request.param)


@pytest_asyncio.fixture
async def database(mongod_uri: str, driver: str) -> AsyncIterator[Database]:
    """Give an empty database, through each driver in turn."""
    made = Database(fresh_uri(mongod_uri), driver)
    yield made
    await made.drop()
    await made.close()


def settings_for(uri: str, **changes: Any) -> Settings:
    """Give settings as the tests have them."""
    chosen: dict[str, Any] = {
        "mongodb_uri": uri,
        "secret_keys": (_SECRET,),
        "public_url": "http://127.0.0.1:8080",
        "validation_workers": 1,  # each takes a quarter of a second to start
    } | changes
    return Settings(**chosen)


@contextlib.asynccontextmanager
async def prepared(settings: Settings) -> AsyncIterator[Rooms]:
    """Wire up on a prepared database that goes away afterwards."""
    async with wired(settings) as rooms:
        await prepare(rooms.wiring, rooms.instance)
        try:
            yield rooms
        finally:
            await rooms.database.drop()


@dataclass
class KeptDatabase:
    """The one database of ``rooms``: its collections and indexes take most of a second to make.

    ``documents`` are those of every collection when it was prepared, None until then.
    """

    uri: str
    client: MongoClient[RawBSONDocument]
    documents: dict[str, list[RawBSONDocument]] | None = None

    def remember(self) -> None:
        """Take down what is there."""
        database = self.client.get_default_database()
        self.documents = {name: list(database[name].find()) for name in database.list_collection_names()}

    def restore(self) -> None:
        """Bring back what was taken down, and nothing else."""
        assert self.documents is not None
        database = self.client.get_default_database()
        for name in database.list_collection_names():
            database[name].delete_many({})
            if documents := self.documents.get(name):
                database[name].insert_many(documents)
        # What is written above is there for durable readers only once a later write is.
        self.client.admin.command("appendOplogNote", 1, data={}, writeConcern={"w": "majority"})


@pytest.fixture(scope="session")
def kept_database(mongod_uri: str) -> Iterator[KeptDatabase]:
    """Give the one database of ``rooms``, by a client that does not wait for the journal."""
    uri = fresh_uri(mongod_uri)
    with MongoClient(uri, document_class=RawBSONDocument, w=1, journal=False) as client:
        yield KeptDatabase(uri, client)


@pytest_asyncio.fixture(scope="session")
async def shared_pool() -> AsyncIterator[Pool]:
    """Give validation workers to all tests with ``rooms``: each takes a quarter of a second to start."""
    made = Pool(2)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def emptied(kept_database: KeptDatabase, shared_pool: Pool, **changes: Any) -> AsyncIterator[Rooms]:
    """Wire up as ``prepared()`` does, on a database and validation workers that outlive it: a tenth of the work.

    ``changes`` are settings, of which none changes what is prepared; the database holds nothing that was there before.
    """
    prepared_before = kept_database.documents is not None
    if prepared_before:
        kept_database.restore()
    settings = settings_for(kept_database.uri, **changes)
    validators = Validators(
        shared_pool, cache_bytes=settings.validator_cache_bytes, max_schema_bytes=settings.schema_max_bytes
    )
    async with wired(settings) as own:
        wiring = replace(own.wiring, validators=validators)
        if not prepared_before:
            await prepare(wiring, own.instance)
            kept_database.remember()
        yield replace(own, wiring=wiring, pool=shared_pool)


@pytest_asyncio.fixture
async def rooms(kept_database: KeptDatabase, shared_pool: Pool) -> AsyncIterator[Rooms]:
    """Give everything wired up, on a prepared database that holds nothing else."""
    async with emptied(kept_database, shared_pool) as made:
        yield made


@pytest.fixture
def wiring(rooms: Rooms) -> Wiring:
    """Give the wiring of ``rooms``."""
    return rooms.wiring


def free_port() -> int:
    """Find a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A real ``schema-user serve`` on its embedded database."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    grpc_port: int | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def env(self) -> dict[str, str]:
        """Give the environment of the process, free of settings that the tests' own shell may have."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}
        return inherited | {
            "SCHEMA_USER_PORT": str(self.port),
            "SCHEMA_USER_GRPC_PORT": str(self.grpc_port or ""),
            "SCHEMA_USER_DATA_DIR": str(self.data_dir),
            "SCHEMA_USER_VALIDATION_WORKERS": "1",  # each takes a quarter of a second to start
            "SCHEMA_USER_BOOTSTRAP_TOKEN": self.token,
            **self.environment,
        }

    def start(self) -> Server:
        """Start it and wait until it says that it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = (self.data_dir / "server.log").open("a", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "schema_user.cli", "serve"],
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()
        assert self.process.stdout is not None
        deadline = time.monotonic() + _START_SECONDS
        self.said = []
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("schema-user ready"):
                return self
            if time.monotonic() > deadline:
                break
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        raise AssertionError("the server did not start:\n" + self.log())

    def log(self) -> str:
        """Give what it wrote to standard error so far."""
        return (self.data_dir / "server.log").read_text(encoding="utf-8")

    def stop(self) -> int:
        """Stop it as an operator would, and give its exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(60)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def client(self, token: str | None = None) -> Api:
        """Give a caller; by default the one with the first token."""
        return Api(self.url, token or self.token)


class Api(httpx.Client):
    """A REST client with a bearer token."""

    def __init__(self, url: str, token: str) -> None:
        """Call ``url`` with a token."""
        super().__init__(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30, verify=ANY_TLS)
        self.token = token

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Call, expect success, and give the answer's JSON."""
        response = (
            self.request(method, path, json=body, **options)
            if body is not None
            else self.request(method, path, **options)
        )
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()


@pytest.fixture(scope="session")
def server(short_dir: Path) -> Iterator[Server]:
    """Run one server for all tests of the API; what they must not share, they make for themselves."""
    visited = {"SCHEMA_USER_PAGES_PER_PEER": "100000"}  # browsers and all else come from one address
    running = Server(short_dir / "server", grpc_port=free_port(), environment=visited).start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.fixture(scope="session")
def admin(server: Server) -> Iterator[Api]:
    """Call with the first token, which may do everything."""
    with server.client() as client:
        yield client


@dataclass
class Tenant:
    """An organization of its own, with an owner who may do everything in it and a schema to make users of."""

    organization_id: str
    owner: Api
    schema_id: str
    server: Server
    admin: Api

    def caller(self, *roles: str, user_id: str | None = None) -> Api:
        """Make a caller with roles in this organization, or one that is a user."""
        body: dict[str, Any] = {
            "name": "test",
            "roles": [{"role": role, "organizationId": self.organization_id} for role in roles],
        }
        if user_id is not None:
            body["userId"] = user_id
        return self.server.client(self.admin.ok("POST", "/v3alpha/tokens", body)["token"])

    def user(self, **body: Any) -> str:
        """Make a user with valid data, and give its id."""
        wanted = {"schemaId": self.schema_id, "data": {"name": "Minnie"}, **body}
        return str(self.owner.ok("POST", "/v3alpha/users", wanted)["userId"])


SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 50},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {},
    },
    "additionalProperties": False,
}


@pytest.fixture
def tenant(server: Server, admin: Api) -> Iterator[Tenant]:
    """Give a fresh organization."""
    organization_id = admin.ok("POST", "/v3alpha/organizations", {"name": "Test"})["organizationId"]
    made = admin.ok(
        "POST",
        "/v3alpha/tokens",
        {"name": "owner", "roles": [{"role": "ORG_OWNER", "organizationId": organization_id}]},
    )
    with server.client(made["token"]) as owner:
        schema = owner.ok("POST", "/v3alpha/user_schemas", {"type": "person", "schema": SCHEMA})
        yield Tenant(organization_id, owner, schema["id"], server, admin)


def age(server: Server, user_id: str, channel: str, by: timedelta) -> None:
    """Let time pass for what a user has of codes on a channel, in the database itself."""
    with MongoClient[Any](socket_uri(server.data_dir), tz_aware=True) as client:
        users = client.schema_user.users
        (user,) = users.find({"_id": user_id})
        address, resends = user[channel], user.get("resends", [])
        for code in address["codes"]:
            code["expires_at"] -= by
            code["created_at"] -= by
        for each in resends:
            each["at"] -= by if each["channel"] == channel else timedelta(0)
        changed = {f"{channel}.codes": address["codes"], f"{channel}.coded_at": address["coded_at"] - by}
        users.update_one({"_id": user_id}, {"$set": changed | ({"resends": resends} if resends else {})})


def reason(response: httpx.Response) -> str:
    """Give the stable reason of an error."""
    return str(response.json()["details"][0]["reason"])


def violations(response: httpx.Response) -> dict[str, str]:
    """Give the fields of an error's violations, each with its reason."""
    for detail in response.json()["details"]:
        if detail["@type"].endswith("BadRequest"):
            return {each["field"]: each["reason"] for each in detail["fieldViolations"]}
    return {}
