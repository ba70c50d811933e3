"""The only wiring: settings become stores, stores become an application."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from litestar.datastructures import State

from schema_user.api.door import Door
from schema_user.api.metrics import Metrics
from schema_user.api.openapi import build
from schema_user.api.router import ROUTES, make_router
from schema_user.authentication import Gatekeeper
from schema_user.delivery.transports import make_transports
from schema_user.delivery.worker import Worker
from schema_user.domain.keyring import Keyring
from schema_user.errors import Unavailable
from schema_user.store import embedded
from schema_user.store.claims import ClaimStore
from schema_user.store.connection import Database, connected
from schema_user.store.history import HistoryStore
from schema_user.store.instance import InstanceStore
from schema_user.store.organizations import OrganizationStore
from schema_user.store.outbox import OutboxStore
from schema_user.store.quotas import QuotaStore
from schema_user.store.relay import Relay
from schema_user.store.requests import RequestStore
from schema_user.store.schemas import SchemaStore
from schema_user.store.tokens import TokenStore
from schema_user.store.users import UserStore
from schema_user.validation.pool import Pool
from schema_user.validation.validators import Validators
from schema_user.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schema_user.settings import Settings

_CLAIM_KEY_BYTES: Final = 32
_DATABASE_PAUSE: Final = 1.0
"""Seconds between looks at whether the database is there."""

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def mongodb_uri(settings: Settings) -> str:
    """Give the database's URI: the one that is set, or that of the local server in the data directory."""
    return settings.mongodb_uri or embedded.socket_uri(settings.data_dir)


def keyring_of(settings: Settings) -> Keyring:
    """Make the keyring of the secrets that are set, or of the one kept in the data directory of the local default."""
    return Keyring(settings.secret_keys or (local_secret(settings),))


def local_secret(settings: Settings) -> str:
    """Read the secret of the local default; made at the first start, readable by its owner only."""
    path = settings.data_dir / "secret-key"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(path, "x", opener=_private, encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text(encoding="ascii").strip()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Rooms]:
    """Connect to the database and wire everything up, for as long as the block lasts.

    Validation workers are started when they are first needed.

    Raises:
        Unavailable: if the database does not answer.
        SealError: if the secrets that are set are not those of this database.
    """
    database = Database(mongodb_uri(settings), settings.mongodb_driver, settings.mongodb_timeout)
    pool = Pool(settings.validation_workers_here, settings.validator)
    try:
        keyring = keyring_of(settings)
        instance = InstanceStore(database, keyring)
        instance_id = str(await instance.once("id", str(secrets.randbits(62))))
        claim_key = await instance.claim_key(secrets.token_bytes(_CLAIM_KEY_BYTES))
        relay = Relay(database)
        wiring = Wiring(
            settings=settings,
            keyring=keyring,
            instance_id=instance_id,
            users=UserStore(database, keyring, relay),
            schemas=SchemaStore(database, keyring),
            organizations=OrganizationStore(database, keyring),
            tokens=TokenStore(database, keyring),
            outbox=OutboxStore(database, keyring),
            history=HistoryStore(database),
            relay=relay,
            requests=RequestStore(database),
            claims=ClaimStore(database, claim_key),
            quotas=QuotaStore(database, claim_key),
            validators=Validators(
                pool, cache_bytes=settings.validator_cache_bytes, max_schema_bytes=settings.schema_max_bytes
            ),
        )
        yield Rooms(wiring, database, instance, pool)
    finally:
        await pool.close()
        await database.close()


@dataclass(frozen=True, slots=True)
class Rooms:
    """What ``wired`` opens."""

    wiring: Wiring
    database: Database
    instance: InstanceStore
    pool: Pool


@contextlib.asynccontextmanager
async def create_app(settings: Settings) -> AsyncIterator[Door]:
    """Make the application of one process: connected, and its worker running, for as long as the block lasts."""
    metrics = Metrics()
    api = build(ROUTES, version("schema-user"), settings.public_url)
    state = State({"metrics": metrics, "openapi": api, "stopping": False})
    router = make_router(state, lambda app: _serving(settings, app.state))
    async with router.lifespan():
        yield Door(router, metrics)


@contextlib.asynccontextmanager
async def _serving(settings: Settings, state: State) -> AsyncIterator[None]:
    """Keep the application's rooms open, and its worker running, from its start to its end."""
    await _database_there(settings)
    async with wired(settings) as rooms:
        rooms.pool.start()
        state.wiring, state.database = rooms.wiring, rooms.database
        state.gatekeeper = Gatekeeper(rooms.wiring)
        worker = Worker(rooms.wiring, make_transports(rooms.wiring)) if settings.worker else None
        delivery = asyncio.create_task(worker.run()) if worker else None
        if worker:
            rooms.wiring.relay.wakes(worker.wake)
        async with relaying(rooms.wiring.relay):
            try:
                yield
            finally:
                if worker and delivery:
                    await worker.stop()
                    await delivery


@contextlib.asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[None]:
    """Keep a relay at work for as long as the block lasts, and until everything it knows of is moved."""
    stopping = asyncio.Event()
    moving = asyncio.create_task(relay.run(stopping), name="relay")
    try:
        yield
    finally:
        stopping.set()
        relay.ring()
        await moving


async def _database_there(settings: Settings) -> None:
    """Wait until the database answers: a process that is started while it is away must not fail again and again."""
    async with connected(mongodb_uri(settings), settings.mongodb_driver, settings.mongodb_timeout) as database:
        while True:
            try:
                await database.ping()
            except Unavailable:
                await asyncio.sleep(_DATABASE_PAUSE)
            else:
                return


async def run_worker(settings: Settings) -> None:
    """Deliver messages until a signal says stop; for a process of its own, beside servers elsewhere."""
    cancel_on_signals()
    with contextlib.suppress(asyncio.CancelledError):
        await _database_there(settings)
        async with wired(settings) as rooms:
            worker = Worker(rooms.wiring, make_transports(rooms.wiring))
            rooms.wiring.relay.wakes(worker.wake)
            delivery = asyncio.create_task(worker.run())
            async with relaying(rooms.wiring.relay):
                try:
                    await asyncio.wait({delivery})
                finally:
                    await worker.stop()
                    await delivery


def cancel_on_signals() -> Callable[[], None]:
    """Cancel the current task at the first SIGTERM or SIGINT, and pay no heed to more; gives what the signals call.

    A second Ctrl-C, or one signal to the group and to the process, must not cut short what the first one began.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    waiting = [task] if task else []

    def leave() -> None:
        if waiting:
            waiting.pop().cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, leave)
    return leave
