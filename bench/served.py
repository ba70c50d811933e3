"""A real server in processes of its own, on a database that nobody used before, and the memory it takes."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 60


class ServedError(Exception):
    """The server did not start, with what it said."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers on a port of 127.0.0.1; ``token`` may do everything.

    ``started`` is the monotonic time in seconds at which its process was made.
    """

    process: subprocess.Popen[bytes]
    port: int
    token: str
    log: Path
    started: float

    def tail(self, lines: int = 20) -> str:
        """Give the end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def memory(self) -> int:
        """Give the resident bytes of its processes, the database's left out."""
        total = 0
        for each in _family(self.process.pid):
            with contextlib.suppress(psutil.Error):
                if each.name() != "mongod":
                    total += each.memory_info().rss
        return total

    def connections(self) -> list[int]:
        """Give the number of open connections of each HTTP process."""
        by_process: Counter[int] = Counter()
        for pid, status in self._sockets():
            by_process[pid] += status == psutil.CONN_ESTABLISHED
        return list(by_process.values())

    def listeners(self) -> int:
        """Count the processes that listen on the port."""
        return len({pid for pid, status in self._sockets() if status == psutil.CONN_LISTEN})

    def _sockets(self) -> Iterator[tuple[int, str]]:
        for each in _family(self.process.pid):
            with contextlib.suppress(psutil.Error):
                for socket_ in each.net_connections("tcp"):
                    if getattr(socket_.laddr, "port", None) == self.port:
                        yield each.pid, socket_.status


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(
    folder: Path, processes: int, *, token: str | None = None, within: float = _START_SECONDS
) -> Iterator[Served]:
    """Run ``schema-user serve`` on its embedded database in ``folder`` for as long as the block lasts.

    A folder that was served before knows the token of that time and no other: give it again.

    Raises:
        ServedError: if not all its HTTP processes are ready ``within`` so many seconds.
    """
    port, token, log = _free_port(), token or secrets.token_urlsafe(32), folder / "server.log"
    settings = {"PORT": port, "DATA_DIR": folder, "BOOTSTRAP_TOKEN": token, "PROCESSES": processes}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "schema_user.cli", "serve"],
            env=inherited | {f"SCHEMA_USER_{name}": str(value) for name, value in settings.items()},
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the caller, which stops it in order
        )
    server = Served(process, port, token, log, started)
    try:
        _await_ready(server, processes, within)
        yield server
    finally:
        _stop(process)


def _await_ready(server: Served, processes: int, within: float) -> None:
    """Wait for every HTTP process: the server says that it is ready once the first of them answers."""
    deadline = time.monotonic() + within
    while b"schema-user ready on " not in server.log.read_bytes() or server.listeners() < processes:
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise ServedError(f"The server did not start:\n{server.tail()}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop it as an operator would; a second Ctrl-C doesn't keep it from ending in order, as that is bounded."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        family = _family(process.pid)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for each in family:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
