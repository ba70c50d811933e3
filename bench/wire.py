"""A client for one thing: JSON over HTTP/1.1 on one connection that stays open.

The load must not be what is measured, as it shares the machine with it. So this is a protocol and no stream: a request
is bytes that are written at once, and of the answer only the status and the length are read. It takes answers with a
length and nothing else; whatever else comes is an error, and the connection is given up.

Measured on two cores under uvloop while others used them too, in processor time of this process: 50 to 60 µs for each
request with 8 to 128 connections, half of it the kernel's, and 90 µs under asyncio's own loop (``/health/live``, 5,000
to 7,500 per second). With a server that answers a few hundred per second it is 100 to 150 µs: there is nothing to do at
once for several connections, and caches are cold. `make bench` prints the figure of each of its rows.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_TIMEOUT = 60
"""Seconds for one request; the service itself gives up sooner."""

_HEAD_MAX = 64 * 1024
"""Bytes of status line and headers; an answer that has no end of them by then is none."""


class WireError(Exception):
    """A request got no whole answer; what became of it is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``seconds`` from the first byte sent to the last one read, names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """Show the body to a person."""
        return self.body[:2000].decode(errors="replace")


class _Exchange(asyncio.Protocol):
    """The connection: one request at a time, each answered by status, head (without its empty line) and body."""

    __slots__ = ("_buffer", "_due", "_loop", "_timer", "_transport", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._buffer = b""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport by class
        self._transport = transport
        self._timer = self._loop.call_later(_TIMEOUT, self._look)

    def send(self, request: bytes) -> asyncio.Future[tuple[int, bytes, bytes]]:
        """Send a whole request and give what will be its answer."""
        if self._waiter is not None:
            raise RuntimeError("a wire is not for sharing")
        assert self._transport is not None
        self._waiter = waiter = self._loop.create_future()
        self._due = self._loop.time() + _TIMEOUT
        self._transport.write(request)
        return waiter

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > _HEAD_MAX:
                self.fail(ValueError("an answer without an end of its head"))
            return
        head = buffer[:end]
        lowered = head.lower()
        at = lowered.find(b"\r\ncontent-length:")
        if self._waiter is None or at < 0 or not buffer.startswith(b"HTTP/1.1 "):
            self.fail(ValueError("an answer without a length, or to no request"))
            return
        try:
            status, length = int(head[9:12]), int(head[at + 17 :].split(b"\r\n", 1)[0])
        except ValueError as error:
            self.fail(error)
            return
        missing = end + 4 + length - len(buffer)
        if missing > 0:
            return
        if missing < 0 or status < 200:
            self.fail(ValueError("more than one answer"))
            return
        waiter, self._waiter, self._buffer = self._waiter, None, b""
        if b"\r\nconnection: close" in lowered:
            self.close()
        if not waiter.done():
            waiter.set_result((status, head, buffer[end + 4 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc or asyncio.IncompleteReadError(self._buffer, None))

    def _look(self) -> None:
        """Look once in a while whether the request is late: a timer for each request would cost more than it."""
        now = self._loop.time()
        if self._waiter is not None and now >= self._due:
            self.fail(TimeoutError(f"no answer in {_TIMEOUT} seconds"))
        elif self.is_open:
            due = self._due if self._waiter is not None else now + _TIMEOUT
            self._timer = self._loop.call_at(due, self._look)

    def fail(self, error: Exception) -> None:
        """Give the connection up."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.close()

    def close(self) -> None:
        """Close the connection; nothing is sent or read any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()


class Wire:
    """One connection to 127.0.0.1, opened at the first request and again after one that failed; not for sharing."""

    def __init__(self, port: int, token: str) -> None:
        """Call with a bearer token."""
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._exchange: _Exchange | None = None

    async def __aenter__(self) -> Self:
        """Give the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it, outside of a block."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def head(self, method: str, path: str, length: int = 0) -> bytes:
        """Give the head of a request without its empty line, for a body of ``length`` bytes; headers may follow."""
        return f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {length}\r\n".encode()

    async def exchange(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a whole request and give status, head and body of its answer; the cheapest way.

        Raises:
            WireError: if the connection failed, no answer came in a minute, or one that is not understood.
        """
        try:
            if self._exchange is None or not self._exchange.is_open:
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(_TIMEOUT):
                    _, self._exchange = await loop.create_connection(_Exchange, "127.0.0.1", self._port)
            return await self._exchange.send(request)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise WireError(f"{_first_words(request)}: {type(error).__name__} {error}") from error
        except BaseException:
            self.close()
            raise

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and give its answer.

        Raises:
            WireError: as ``exchange`` does.
        """
        started = time.perf_counter()
        status, head, answered = await self.exchange(self.head(method, path, len(body)) + b"\r\n" + body)
        return Answer(status, _headers(head), answered, time.perf_counter() - started)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Call, expect success, and give the answer's JSON.

        Raises:
            WireError: for any other answer, too.
        """
        answer = await self.call(method, path, b"" if body is None else json.dumps(body).encode())
        if not 200 <= answer.status < 300:
            raise WireError(f"{method} {path}: {answer.status} {answer.text}")
        return answer.json()


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in pairs}


def _first_words(request: bytes) -> str:
    """Give method and path, which name a request without saying its token."""
    return request.split(b" HTTP/", 1)[0][:200].decode("latin-1")
