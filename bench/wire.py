"""A client for one thing: JSON over HTTP/1.1 on one connection that stays open.

The load must not be what is measured. With 32 clients on the two cores where this was written, httpx took 5 ms of
processor time for each request (1.8 ms with 8), more than the service that it was to test; this client takes 0.2 ms.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_TIMEOUT = 60
"""Seconds for one request; the service itself gives up sooner."""


class WireError(Exception):
    """A request got no whole answer; what became of it is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``seconds`` from the first byte sent to the last one read, names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """Show the body to a person."""
        return self.body[:2000].decode(errors="replace")


class Wire:
    """One connection to 127.0.0.1, opened at the first request and again after one that failed; not for sharing."""

    def __init__(self, port: int, token: str) -> None:
        """Call with a bearer token."""
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Give the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._drop()

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and give its answer.

        Raises:
            WireError: if the connection failed, or no answer came in a minute.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_TIMEOUT):
                status, headers, answered = await self._exchange(method, path, body)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self._drop()
            raise WireError(f"{method} {path}: {type(error).__name__} {error}") from error
        except BaseException:
            self._drop()
            raise
        if headers.get("connection", "").lower() == "close":
            self._drop()
        return Answer(status, headers, answered, time.perf_counter() - started)

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" not in headers:
            raise ValueError("an answer without a length")
        return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Call, expect success, and give the answer's JSON.

        Raises:
            WireError: for any other answer, too.
        """
        answer = await self.call(method, path, b"" if body is None else json.dumps(body).encode())
        if not 200 <= answer.status < 300:
            raise WireError(f"{method} {path}: {answer.status} {answer.text}")
        return answer.json()
