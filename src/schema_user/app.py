"""The application of one process: routes over what is wired, its deliveries and its relay."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from litestar.datastructures import State

from schema_user.api.door import Door
from schema_user.api.metrics import Metrics
from schema_user.api.openapi import build
from schema_user.api.router import ROUTES, make_router
from schema_user.api.stream import Streams
from schema_user.authentication import Gatekeeper
from schema_user.delivery.preview import Previews
from schema_user.delivery.transports import make_transports
from schema_user.delivery.webhook import WebhookWorker
from schema_user.delivery.worker import Worker
from schema_user.errors import Unavailable
from schema_user.jobs.kinds import KINDS
from schema_user.jobs.runner import running_jobs
from schema_user.process import STOP_SIGNALS
from schema_user.rate_limits import RateLimits
from schema_user.rooms import mongodb_uri, wired
from schema_user.rpc.services import SERVICES
from schema_user.rpc.wires import Wires
from schema_user.store.connection import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schema_user.issuers.verifier import Issuers
    from schema_user.settings import Settings
    from schema_user.store.relay import Relay
    from schema_user.wiring import Wiring

_DATABASE_PAUSE: Final = 1.0
"""Seconds between looks at whether the database is there."""


def create_app(settings: Settings) -> contextlib.AbstractAsyncContextManager[Door]:
    """Make the application of one process; it connects, and its worker runs, for as long as the block lasts.

    What takes long, its routes, is made here and needs no database yet; their documentation when it is first read.
    """
    metrics = Metrics()
    openapi = partial(build, ROUTES, version("schema-user"), settings.public_url)
    state = State({"metrics": metrics, "openapi": openapi, "stopping": False})
    router = make_router(state, lambda app: _serving(settings, app.state))
    rpc = Wires(SERVICES, router.state, settings.body_max_bytes)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Door]:
        async with router.lifespan():
            yield Door(
                router,
                metrics,
                body_seconds=settings.request_timeout.total_seconds(),
                cors_origins=settings.cors_origins,
                https=settings.public_url.startswith("https:"),
                rpc=rpc,
            )

    return opened()


@contextlib.asynccontextmanager
async def _serving(settings: Settings, state: State) -> AsyncIterator[None]:
    """Keep the application's rooms open, and its worker running, from its start to its end."""
    await _database_there(settings)
    async with wired(settings) as rooms, issuers_of(settings) as issuers:
        rooms.pool.start()
        state.wiring, state.database = rooms.wiring, rooms.database
        state.gatekeeper = Gatekeeper(rooms.wiring, issuers=issuers)
        state.rate_limits = RateLimits(rooms.wiring)
        state.previews = Previews(rooms.wiring)
        state.streams = Streams()
        delivery = delivering(rooms.wiring) if settings.worker else contextlib.nullcontext()
        jobs = running_jobs(rooms.wiring, KINDS) if settings.worker else contextlib.nullcontext()
        async with relaying(rooms.wiring.relay), relaying(rooms.wiring.schema_relay), delivery, jobs:
            yield


@contextlib.asynccontextmanager
async def issuers_of(settings: Settings) -> AsyncIterator[Issuers | None]:
    """Know the issuers that are set for as long as the block lasts; None if there are none: then nothing is loaded."""
    if not settings.oidc_issuers:
        yield None
        return
    from schema_user.issuers.verifier import opened_issuers  # noqa: PLC0415 -- few deployments need it

    known = settings.oidc_issuers
    private = settings.private_addresses_allowed
    async with opened_issuers(known, settings.oidc_keys_ttl, allow_private=private) as issuers:
        yield issuers


@contextlib.asynccontextmanager
async def delivering(wiring: Wiring) -> AsyncIterator[set[asyncio.Task[None]]]:
    """Keep the workers that bring messages out at work for as long as the block lasts; gives their tasks."""
    workers = (Worker(wiring, make_transports(wiring)), WebhookWorker(wiring))

    def wake() -> None:
        for worker in workers:
            worker.wake()

    for relay in (wiring.relay, wiring.schema_relay):
        relay.wakes(wake)
    at_work = {asyncio.create_task(worker.run()) for worker in workers}
    try:
        yield at_work
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.gather(*at_work)


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
        async with (
            wired(settings) as rooms,
            relaying(rooms.wiring.relay),
            relaying(rooms.wiring.schema_relay),
            delivering(rooms.wiring) as at_work,
            running_jobs(rooms.wiring, KINDS) as jobs,
        ):
            await asyncio.wait({*at_work, jobs})


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
