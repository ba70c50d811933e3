"""The serving process: it keeps the local database, starts the HTTP processes, and ends them in the right order.

The HTTP processes are started first and the database next, as both take long to read what they need; so this module
imports little at its top, and the rest when they are on their way.

A signal to stop raises ``SystemExit`` in the main thread, wherever that is, so that the blocks which it stands in undo
in their order what they began: first the HTTP processes, which finish their requests, then the database.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from schema_user.process import DRAIN_SECONDS, MULTIPROCESS_DIR, STOP_SIGNALS, address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from schema_user.settings import Settings

log = logging.getLogger(__name__)

_DATABASE_WAIT: Final = 120.0
"""Seconds to wait for a database that is not there at the start, as when everything starts together."""

_PORT_WAIT: Final = 2.0
"""Seconds to wait for the port: after a kill -9 of the server its HTTP processes need a moment to notice."""

_STOP_WAIT: Final = DRAIN_SECONDS + 20
"""Seconds for the HTTP processes to finish what they have begun: requests first, then messages on their way."""

_POLL: Final = 0.02
_WATCH: Final = 0.2
"""Seconds between looks at whether an HTTP process has ended: another one takes longer to start."""
_QUICK: Final = 10.0
"""An HTTP process that ends within this many seconds of its start is replaced after a pause, not at once."""

_LONGEST_PAUSE: Final = 5.0
_HOPELESS: Final = 3
"""HTTP processes that end quickly before any has answered: another one would not."""


def serve(settings: Settings, require_usable: Callable[[], None]) -> None:
    """Serve until a signal says stop.

    ``require_usable`` raises what refuses the settings; it is called when the HTTP processes are on their way.

    Raises:
        LocalDatabaseFault: if the local database cannot be started or kept alive.
        Unavailable: if the database does not answer in two minutes.
        SystemExit: at a signal (status 0), or, with a sentence, if requests cannot be answered at all.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _leave)
    with _metrics_directory(settings), _http_processes(settings) as processes:
        require_usable()
        with _local_database(settings):
            try:
                _require_port(settings.host, settings.port)
                if settings.grpc_port is not None:
                    _require_port(settings.host, settings.grpc_port)
                token = _prepared(settings)
                _announce_token(settings, token)
                _serve_http(settings, processes)
            finally:
                processes.stop()  # before the database


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End in good order, once: a second signal must not cut short what the first one began."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    raise SystemExit(0)


@contextlib.contextmanager
def _local_database(settings: Settings) -> Iterator[None]:
    """Run the local database for as long as the block lasts, if no other is set."""
    if not settings.embedded:
        yield
        return
    from schema_user.store.embedded import EmbeddedMongod, LocalDatabaseFault

    lost: list[str] = []

    def end(sentence: str) -> None:
        """End the server: without a database there is nothing left to serve."""
        lost.append(sentence)
        os.kill(os.getpid(), signal.SIGTERM)

    mongod = EmbeddedMongod(settings.data_dir, on_lost=end)
    try:
        mongod.start(meanwhile=_read_modules)
        yield
    finally:
        mongod.stop()
        if lost:
            raise LocalDatabaseFault(lost[0])


def _read_modules() -> None:
    """Read what ``_prepared`` needs, which takes as long as the database does to read its files."""
    import schema_user.commands.bootstrap
    import schema_user.rooms  # noqa: F401 -- only read


@contextlib.contextmanager
def _metrics_directory(settings: Settings) -> Iterator[None]:
    """Give several processes a directory to share their metrics in, emptied at each start."""
    if settings.processes == 1:
        yield
        return
    folder = settings.data_dir / "metrics" / str(settings.port)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    os.environ[MULTIPROCESS_DIR] = str(folder)
    yield


def _require_port(host: str, port: int) -> None:
    """Raise SystemExit unless the port is free.

    Granian sets SO_REUSEPORT, so it would not be refused but share the port with another server of the same user.
    """
    deadline = time.monotonic() + _PORT_WAIT
    while True:
        try:
            family, address = address_of(host, port)
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_POLL)
                continue
            why = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
            sentence = f"schema-user: cannot listen on port {port} of {host}: {why}"
            raise SystemExit(sentence) from None
        return


def _prepared(settings: Settings) -> str | None:
    """Prepare the database, waiting for it if it is not there yet; gives the first token if one was made."""
    import asyncio

    from schema_user.commands.bootstrap import prepare
    from schema_user.errors import Unavailable
    from schema_user.rooms import wired

    async def once() -> str | None:
        async with wired(settings) as rooms:
            return await prepare(rooms.wiring, rooms.instance)

    deadline = time.monotonic() + _DATABASE_WAIT
    while True:
        try:
            return asyncio.run(once())
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the database")
            time.sleep(1)


def _announce_token(settings: Settings, token: str | None) -> None:
    """Show the first token to a person at a terminal; anywhere else, where output is kept, only where it lies."""
    if token is None:
        return
    if sys.stdout.isatty():
        print(f"admin token (shown this once): {token}", flush=True)
        return
    path = settings.data_dir / "admin-token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # one of an earlier database, whatever its mode
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    print(f"admin token: in {path}", flush=True)


def _serve_http(settings: Settings, processes: _HttpProcesses) -> NoReturn:
    answered = threading.Event()
    threading.Thread(target=_announce_ready, args=(settings, answered), daemon=True, name="announce-ready").start()
    processes.keep(answered)


@contextlib.contextmanager
def _http_processes(settings: Settings) -> Iterator[_HttpProcesses]:
    """Start the HTTP processes; they read their modules, and wait to be told that the database is ready."""
    processes = _HttpProcesses(settings.processes)
    try:
        processes.start()
        yield processes
    finally:
        processes.stop()


class _HttpProcesses:
    """As many HTTP processes as are set, each replaced when it ends by itself."""

    def __init__(self, number: int) -> None:
        """Say how many; none is started yet."""
        self._number = number
        self._started_at: dict[subprocess.Popen[bytes], float] = {}
        self._waiting: set[subprocess.Popen[bytes]] = set()

    def start(self) -> None:
        """Start those that are not there."""
        while len(self._started_at) < self._number:
            self._start()

    def _begin(self) -> None:
        """Tell those that wait to answer requests."""
        while self._waiting:
            process = self._waiting.pop()
            with contextlib.suppress(BrokenPipeError):  # it ended; whoever looks after it will see
                os.write(process.stdin.fileno(), b".")  # type: ignore[union-attr]

    def keep(self, answered: threading.Event) -> NoReturn:
        """Let them answer, and replace whichever ends, until an exception (a signal makes one) ends it all.

        Raises:
            SystemExit: with a sentence, if they keep ending and none has ``answered`` yet.
        """
        quick = 0
        while True:
            self.start()
            self._begin()
            time.sleep(_WATCH)
            for process, started_at in list(self._started_at.items()):
                if (status := process.poll()) is None:
                    continue
                del self._started_at[process]
                log.error("HTTP process %d ended unexpectedly (status %d) and is replaced", process.pid, status)
                quick = quick + 1 if time.monotonic() - started_at < _QUICK else 0
                if quick >= _HOPELESS and not answered.is_set():
                    raise SystemExit("schema-user: the HTTP processes end as soon as they start; the log says why")
                time.sleep(min(0.1 * 2**quick, _LONGEST_PAUSE) if quick else 0)

    def _start(self) -> None:
        """Start one. Signals wait until it can heed them, and its standard input ends when this process does."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            command = [sys.executable, "-P", "-m", "schema_user.http_process"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 -- this very interpreter
            self._started_at[process] = time.monotonic()
            self._waiting.add(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def stop(self) -> None:
        """Let them finish what they have begun, all at once; who takes too long is killed, which loses no commit."""
        for process in self._started_at:
            process.terminate()
        deadline = time.monotonic() + _STOP_WAIT
        for process in self._started_at:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("HTTP process %d did not stop within %d s and is killed", process.pid, _STOP_WAIT)
                process.kill()
                process.wait()
        self._started_at.clear()


def _announce_ready(settings: Settings, answered: threading.Event) -> None:
    """Say that requests are answered, once they are."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 -- a comparison
    while not _answers(host, settings.port):
        time.sleep(_POLL)
    answered.set()
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    print(f"schema-user ready on {url}", flush=True)
    if sys.stdout.isatty():
        print(f"docs: {url}/docs", flush=True)
        if settings.embedded:
            print(f"mailbox: {url}/ui/mailbox", flush=True)


def _answers(host: str, port: int) -> bool:
    """Whether it answers that it is ready; asked without the proxies that the environment may name."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
