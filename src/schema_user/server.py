"""The serving process: it keeps the local database, starts the HTTP processes, and ends them in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

from granian import Granian
from granian.constants import Interfaces, Loops

from schema_user.api.metrics import MULTIPROCESS_DIR
from schema_user.app import wired
from schema_user.commands.bootstrap import prepare
from schema_user.errors import Unavailable
from schema_user.store.embedded import EmbeddedMongod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.settings import Settings

log = logging.getLogger(__name__)

_DATABASE_WAIT: Final = 120.0
"""Seconds to wait for a database that is not there at the start, as when everything starts together."""

_STOP_WAIT: Final = 35
"""Seconds for the HTTP processes to finish what they have begun: 30 for requests, the rest for the worker."""

_READY_POLL: Final = 0.05


def serve(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises:
        LocalDatabaseFault: if the local database cannot be started.
        Unavailable: if the database does not answer in two minutes.
    """
    with _local_database(settings), _metrics_directory(settings):
        token = asyncio.run(_prepared(settings))
        _announce_token(settings, token)
        _serve_http(settings)


@contextlib.contextmanager
def _local_database(settings: Settings) -> Iterator[None]:
    """Run the local database for as long as the block lasts, if no other is set."""
    if not settings.embedded:
        yield
        return
    mongod = EmbeddedMongod(settings.data_dir, on_lost=_lost)
    mongod.start()
    try:
        yield
    finally:
        mongod.stop()


def _lost(sentence: str) -> None:
    """End the server: without a database there is nothing left to serve."""
    log.error("%s", sentence)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _metrics_directory(settings: Settings) -> Iterator[None]:
    """Give several processes a directory to share their metrics in, emptied at each start."""
    if settings.processes == 1:
        yield
        return
    folder = settings.data_dir / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    os.environ[MULTIPROCESS_DIR] = str(folder)
    yield


async def _prepared(settings: Settings) -> str | None:
    """Prepare the database, waiting for it if it is not there yet."""
    deadline = time.monotonic() + _DATABASE_WAIT
    while True:
        try:
            async with wired(settings) as rooms:
                return await prepare(rooms.wiring, rooms.instance)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the database")
            await asyncio.sleep(1)


def _announce_token(settings: Settings, token: str | None) -> None:
    """Show the first token to a person at a terminal; anywhere else, where output is kept, only where it lies."""
    if token is None:
        return
    if sys.stdout.isatty():
        print(f"admin token (shown this once): {token}", flush=True)
        return
    path = settings.data_dir / "admin-token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    print(f"admin token: in {path}", flush=True)


def _serve_http(settings: Settings) -> None:
    # Forked children would share the supervisor's threads' locks; spawned ones begin clean.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        "schema_user.app:application",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=settings.processes,
        loop=Loops.uvloop,
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_WAIT,
    )
    threading.Thread(target=_announce_ready, args=(settings,), daemon=True, name="announce-ready").start()
    server.serve()


def _announce_ready(settings: Settings) -> None:
    """Say that requests are answered, once they are."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 -- a comparison
    url = f"http://{host}:{settings.port}"
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(url + "/health/ready", timeout=5).close()  # noqa: S310 -- this server's own door
            break
        time.sleep(_READY_POLL)
    print(f"schema-user ready on {url}", flush=True)
    if sys.stdout.isatty():
        print(f"docs: {url}/docs", flush=True)
        if settings.embedded:
            print(f"mailbox: {url}/ui/mailbox", flush=True)
