"""A mail server that answers all but the dead, and a wire to it that can be cut wherever something is said."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING

from tests.faults.load import GENEROUS

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Inbox:
    """What came in; recipients whose address begins with ``dead`` get no answer, ever."""

    mails: list[Envelope] = field(default_factory=list)
    hanging: int = 0

    async def handle_RCPT(  # noqa: N802 -- the name is the server's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or never answer."""
        if address.startswith("dead"):
            self.hanging += 1
            await asyncio.sleep(GENEROUS)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Take the mail."""
        self.mails.append(envelope)
        return "250 OK"

    def more_than(self, number: int) -> bool:
        """Whether more mails came in than so many."""
        return len(self.mails) > number

    def to(self, address: str) -> list[Envelope]:
        """Give the mails to an address."""
        return [each for each in self.mails if address in each.rcpt_tos]


def message_id(envelope: Envelope) -> str:
    """Give the Message-ID of a mail."""
    assert isinstance(envelope.content, bytes)
    return str(message_from_bytes(envelope.content, policy=default)["Message-ID"])


def code_in(envelope: Envelope) -> str:
    """Give the code that stands in the text of a mail."""
    assert isinstance(envelope.content, bytes)
    text = message_from_bytes(envelope.content, policy=default).get_body(("plain",))
    assert text is not None
    [code] = [line.strip() for line in text.get_content().splitlines() if line.startswith("    ")]
    return str(code)


@dataclass
class Wire:
    """Passes on what a worker and the mail server say, up to ``cut``; ``reached`` counts the connections cut there.

    ``greeting``: nothing of the server's is passed on. ``data``: of each mail the first bytes only. ``answer``: the
    server's answer to the mail is kept back. None: everything is passed on.
    """

    server_port: int
    cut: str | None = None
    port: int = 0
    reached: int = 0

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side is gone."""
        upstream = await asyncio.open_connection("127.0.0.1", self.server_port)
        in_data = asyncio.Event()
        ways = (self._said(upstream[0], writer, in_data), self._sent(reader, upstream[1], in_data))
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, upstream[1]):
            each.close()

    async def _said(self, server: asyncio.StreamReader, worker: asyncio.StreamWriter, in_data: asyncio.Event) -> None:
        while line := await server.readline():
            if self.cut == "greeting" or (self.cut == "answer" and in_data.is_set()):
                self.reached += 1
                await asyncio.sleep(GENEROUS)
            if line.startswith(b"354"):
                in_data.set()
            worker.write(line)

    async def _sent(self, worker: asyncio.StreamReader, server: asyncio.StreamWriter, in_data: asyncio.Event) -> None:
        while some := await worker.read(65536):
            if self.cut == "data" and in_data.is_set():
                server.write(some[:100])
                self.reached += 1
                while await worker.read(65536):
                    pass
                return
            server.write(some)
