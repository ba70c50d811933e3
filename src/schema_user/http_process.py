"""One HTTP process: it answers requests until it is told to stop, or until the server that started it is gone.

``server.py`` starts it, with SIGTERM and SIGINT held back until they can be heeded, and with a pipe as its standard
input: the one byte in it says that the database is ready, and its end is the end of the server. So its modules are read
while the database starts.

Granian runs embedded in this process's own event loop. The processes that it starts itself do not survive a signal
that comes three times, as one to the whole process group does after an impatient second Ctrl-C (2.8.7: the event loop
stops, and with it every request in flight), and two crashes within seconds end its server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvloop
from granian.constants import Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from schema_user.logs import configure_logging
from schema_user.process import DRAIN_SECONDS, STOP_SIGNALS, address_of
from schema_user.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import Server as GrpcServer

    from schema_user.api.door import Door
    from schema_user.settings import Settings

log = logging.getLogger("schema_user.http_process")  # this module runs as __main__

_LAST_CALL_SECONDS: Final = 0.25
"""How long requests are still read after that signal: a request that was sent before it, but not read yet, would find
its connection closed, and its client could not know what became of it."""

_BACKLOG: Final = 1024

_CONNECTIONS, _OTHER_FILES = 8192, 512
"""Connections that are held at once; the next ones wait. It is much, as one that never says a word is held for as long
as its client likes: only a proxy or a firewall can tell those from others (granian 2.8.7 looks for the preface of
HTTP/2 first, without a limit of time)."""

_HEAD_BYTES: Final = 64 * 1024
_HTTP1: Final = HTTP1Settings(header_read_timeout=30_000, max_buffer_size=_HEAD_BYTES)
"""In milliseconds: for a head to arrive, and for the next request of a connection."""

_HTTP2: Final = HTTP2Settings(max_headers_size=_HEAD_BYTES, keep_alive_interval=30_000, keep_alive_timeout=20)
"""A peer that does not answer a ping in 20 s is gone."""


def main() -> int:
    """Serve, and give the exit status."""
    gc.disable()  # what is read at the start stays: looking for cycles in it again and again took a fifth of the time
    settings = read_settings()
    configure_logging(settings.log_level)
    try:
        uvloop.run(_run(settings))
    except Exception:
        log.exception("the HTTP process cannot serve")
        return 1
    return 0


async def _run(settings: Settings) -> None:
    """Serve until told to stop; whatever comes first, a signal or the end of the server, counts."""
    from schema_user.app import cancel_on_signals, create_app
    from schema_user.domain.contact import read_phone_tables

    leave, begin = cancel_on_signals(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _told, leave, begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    read_phone_tables()  # validation in this process has no time for that later
    app = create_app(settings)
    gc.freeze()
    gc.enable()
    with contextlib.suppress(asyncio.CancelledError):
        await begin.wait()
        async with app as door:
            grpc = await _grpc(door, settings)
            _settle_garbage_collector()
            await _answer(door, settings, grpc)


def _settle_garbage_collector() -> None:
    """Look for cycles rarely: requests make few, and looking through all that stays was seen to cost a tenth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _told(leave: Callable[[], None], begin: asyncio.Event) -> None:
    if os.read(sys.stdin.fileno(), 1):
        begin.set()
        return
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    log.warning("the server that started this process has ended; stopping")
    leave()


def _connections(ports: int) -> int:
    """Give the number of connections of each port for which the system has files; it is asked for what it allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ports * _CONNECTIONS + _OTHER_FILES
    files = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return max(_BACKLOG // 2, (files - _OTHER_FILES) // ports)


async def _grpc(door: Door, settings: Settings) -> GrpcServer | None:
    """Answer plain gRPC from now on, if it has a port."""
    if settings.grpc_port is None:
        return None
    # Else it writes a line of no JSON for each request that is none, by whomever; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from schema_user.rpc.grpc_port import listening  # few deployments need it

    family, address = address_of(settings.host, settings.grpc_port)
    shown = f"[{address}]" if family is socket.AF_INET6 else address
    return await listening(
        door,
        f"{shown}:{settings.grpc_port}",
        shared=settings.processes > 1,
        body_max_bytes=settings.body_max_bytes,
        connections=_connections(2),
    )


async def _answer(door: Door, settings: Settings, grpc: GrpcServer | None) -> None:
    """Answer requests until cancelled; then take no new ones and let those finish whose head has been read."""
    server = Server(
        door,
        address=address_of(settings.host, settings.port)[1],
        port=settings.port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_connections(1 if grpc is None else 2),
        http1_settings=_HTTP1,
        http2_settings=_HTTP2,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.wait({serving})
    finally:
        door.close_soon()
        await asyncio.wait({serving}, timeout=_LAST_CALL_SECONDS)
        server.stop()  # type: ignore[no-untyped-call]
        draining = {serving}
        if grpc is not None:
            draining.add(asyncio.create_task(grpc.stop(DRAIN_SECONDS)))
        _, late = await asyncio.wait(draining, timeout=DRAIN_SECONDS)
        if late:
            log.warning("requests that did not finish within %d s are cut off", DRAIN_SECONDS)
            for each in late:
                each.cancel()
    serving.result()


if __name__ == "__main__":
    sys.exit(main())
