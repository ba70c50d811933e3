"""An SMS gateway on this machine, which takes, refuses, hangs, drops, and checks signatures by its own reading."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

KEY = b"the key of a gateway that nobody has"
FRAGMENT = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Asked:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """What it says, whether in JSON or as a form."""
        if self.headers["content-type"] == "application/json":
            return dict(json.loads(self.body))
        return dict(parse_qsl(self.body.decode()))

    @property
    def to(self) -> str:
        """The number it is for."""
        fields = self.fields
        return fields.get("to") or fields["To"]

    @property
    def signed(self) -> bool:
        """Whether one of its signatures is right."""
        said = (self.headers["webhook-id"], self.headers["webhook-timestamp"], self.body.decode())
        right = hmac.new(KEY, ".".join(said).encode(), hashlib.sha256).digest()
        given = [each.split(",") for each in self.headers["webhook-signature"].split(" ")]
        return any(version == "v1" and base64.b64decode(each) == right for version, each in given)


@dataclass
class Answer:
    """What the gateway says: a status, headers, a body; or nothing, if it ``drops`` or ``hangs``.

    ``endless`` goes on writing after the headers, ``stalls`` never writes the body that it promised.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    drops: bool = False
    hangs: bool = False
    endless: bool = False
    stalls: bool = False


@dataclass
class Gateway:
    """What came in, and over how many connections; ``answer`` says what goes out."""

    answer: Callable[[Asked], Answer] = lambda _: Answer()
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    poured: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other, until the client leaves."""
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answered(reader, writer):
                pass
        writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        asked = Asked(head.split(" ")[1], headers, await reader.readexactly(int(headers["content-length"])))
        self.asked.append(asked)
        answer = self.answer(asked)
        if answer.hangs:
            await self.released.wait()
        if answer.drops or answer.hangs:
            return False
        length = {} if answer.endless else {"content-length": str(len(answer.body) + answer.stalls)}
        said = "".join(f"{name}: {value}\r\n" for name, value in (length | answer.headers).items())
        writer.write(f"HTTP/1.1 {answer.status} whatever\r\n{said}\r\n".encode() + answer.body)
        while answer.endless and not writer.is_closing():
            writer.write(b"x" * 4096)
            self.poured += 4096
            await writer.drain()
        if answer.stalls:
            await self.released.wait()
        return not answer.endless


@contextlib.asynccontextmanager
async def serving(gateway: Gateway, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gateway]:
    """Run a gateway on this machine."""
    server = await asyncio.start_server(gateway.talk, "127.0.0.1", gateway.port, ssl=tls)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        gateway.released.set()
        server.close()
