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
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from schema_user.app import STOP_SIGNALS, cancel_on_signals, create_app
from schema_user.domain.contact import read_phone_tables
from schema_user.logs import configure_logging
from schema_user.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_user.api.door import Door
    from schema_user.settings import Settings

log = logging.getLogger("schema_user.http_process")  # this module runs as __main__

DRAIN_SECONDS: Final = 30
"""How long the requests that have begun may take to finish after the signal to stop."""

_LAST_CALL_SECONDS: Final = 0.25
"""How long requests are still read after that signal: a request that was sent before it, but not read yet, would find
its connection closed, and its client could not know what became of it."""

_BACKLOG: Final = 1024


def main() -> int:
    """Serve, and give the exit status."""
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
    leave, begin = cancel_on_signals(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _told, leave, begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    read_phone_tables()  # validation in this process has no time for that later
    with contextlib.suppress(asyncio.CancelledError):
        await begin.wait()
        async with create_app(settings) as door:
            _settle_garbage_collector()
            await _answer(door, settings)


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


async def _answer(door: Door, settings: Settings) -> None:
    """Answer requests until cancelled; then take no new ones and let those finish whose head has been read."""
    server = Server(
        door,
        address=address_of(settings)[1],
        port=settings.port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=_BACKLOG,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.wait({serving})
    finally:
        door.close_soon()
        await asyncio.wait({serving}, timeout=_LAST_CALL_SECONDS)
        server.stop()  # type: ignore[no-untyped-call]
        _, late = await asyncio.wait({serving}, timeout=DRAIN_SECONDS)
        if late:
            log.warning("requests that did not finish within %d s are cut off", DRAIN_SECONDS)
            serving.cancel()
    serving.result()


def address_of(settings: Settings) -> tuple[socket.AddressFamily, str]:
    """Give the family and the address of the host that is set; Granian takes no names.

    Raises:
        OSError: if the name has no address.
    """
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, str(address[0])


if __name__ == "__main__":
    sys.exit(main())
