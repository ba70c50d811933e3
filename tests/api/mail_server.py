"""A mail server on this machine, which takes, refuses, delays, drops and encrypts, and what is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from schema_user.delivery.email import MailWriter, SmtpTransport
from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.wording import Voice

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

NOW = datetime.now(UTC).replace(microsecond=0)
MAIL = Message(
    message_id="user:1",
    kind=VERIFY,
    channel=Channel.EMAIL,
    user_id="user",
    organization_id="default",
    recipient="minnie@example.com",
    created_at=NOW,
    code="ACDEF3",
    code_digest=b"digest",
    expires_at=NOW + timedelta(hours=1),
)
VOICE = Voice("Example", "Example", "no-reply@example.com")


@dataclass
class Inbox:
    """What the server does with mail, and what it got."""

    port: int = 0
    refuse_sender: str | None = None
    refuse_recipient: str | None = None
    refuse_mail: str | None = None
    delay: float = 0
    mails_each: int = 1000
    hole: str | None = None
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    farewells: int = 0
    data: int = 0
    mails: Counter[Session] = field(default_factory=Counter)
    encrypted: bool = False
    logins: list[tuple[bytes, bool]] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_MAIL(  # noqa: N802 -- the name is the server's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender, or not; with so many mails a connection is at its end."""
        self.mails[session] += 1
        if self.mails[session] > self.mails_each:
            return "421 4.7.0 too many mails in this connection"
        if self.refuse_sender is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.refuse_sender or "250 OK"

    async def handle_RCPT(  # noqa: N802 -- likewise
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or not; of the black hole nothing is heard until it is filled."""
        if address == self.hole:
            await self.filled.wait()
        if self.refuse_recipient is None:
            envelope.rcpt_tos.append(address)
        return self.refuse_recipient or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Take the mail after a while, or not."""
        self.data += 1
        await asyncio.sleep(self.delay)
        self.encrypted = session.ssl is not None
        if self.refuse_mail is None:
            self.envelopes.append(envelope)
        return self.refuse_mail or "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Count who says goodbye."""
        self.farewells += 1
        return "221 Bye"

    def serve(self, **options: Any) -> SMTP:
        """Begin a connection."""
        self.connections += 1
        return SMTP(self, hostname="mail.test", authenticator=self.login, **options)

    def login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Let anybody in who knows the password."""
        self.logins.append((data.password, session.ssl is not None))
        return AuthResult(success=data.password == b"p@ss", handled=False)


@contextlib.asynccontextmanager
async def serving(inbox: Inbox, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Inbox]:
    """Run a server on this machine, with what ``options`` say of encryption and logins."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: inbox.serve(loop=loop, **options), "127.0.0.1", 0, ssl=tls)
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        server.close()


@contextlib.asynccontextmanager
async def transport(url: str) -> AsyncIterator[SmtpTransport]:
    """Make the transport of a URL."""
    made = SmtpTransport(url, MailWriter("https://users.example.com", Texts()), lambda: NOW)
    try:
        yield made
    finally:
        await made.close()


async def send(url: str, message: Message = MAIL) -> None:
    """Send one mail over a transport of its own."""
    async with transport(url) as made:
        await made.send(message, VOICE)


async def refused(url: str, message: Message = MAIL) -> Undelivered:
    """Send, and give why it was not taken."""
    with pytest.raises(Undelivered) as caught:
        await send(url, message)
    assert "minnie" not in caught.value.reason
    assert "ACDEF3" not in caught.value.reason
    return caught.value
