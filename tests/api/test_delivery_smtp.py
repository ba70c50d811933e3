"""Mail on its way to a real SMTP server that refuses, delays, drops and encrypts."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import structs

from schema_user.delivery import email as mail_module
from schema_user.delivery.email import MailWriter, SmtpTransport
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import VERIFY, Message
from tests.conftest import SCHEMA, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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
ELSEWHERE = "127.1"
"""A name of this machine that does not look like one, so that the rules for other machines hold."""


@dataclass
class Inbox:
    """What the server does with mail, and what it got."""

    port: int = 0
    refuse_sender: str | None = None
    refuse_recipient: str | None = None
    refuse_mail: str | None = None
    delay: float = 0
    encrypted: bool = False
    logins: list[tuple[bytes, bool]] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_MAIL(  # noqa: N802 -- the name is the server's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender, or not."""
        if self.refuse_sender is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.refuse_sender or "250 OK"

    async def handle_RCPT(  # noqa: N802 -- likewise
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or not."""
        if self.refuse_recipient is None:
            envelope.rcpt_tos.append(address)
        return self.refuse_recipient or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Take the mail after a while, or not."""
        await asyncio.sleep(self.delay)
        self.encrypted = session.ssl is not None
        if self.refuse_mail is None:
            self.envelopes.append(envelope)
        return self.refuse_mail or "250 OK"

    def login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Let anybody in who knows the password."""
        self.logins.append((data.password, session.ssl is not None))
        return AuthResult(success=data.password == b"p@ss", handled=False)


@contextlib.asynccontextmanager
async def serving(inbox: Inbox, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Inbox]:
    """Run a server on this machine, with what ``options`` say of encryption and logins."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(inbox, hostname="mail.test", loop=loop, authenticator=inbox.login, **options),
        "127.0.0.1",
        0,
        ssl=tls,
    )
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        server.close()


def transport(url: str, sender: str = "Example <no-reply@example.com>") -> SmtpTransport:
    """Make the transport of a URL."""
    return SmtpTransport(url, MailWriter(sender, "https://users.example.com"), lambda: NOW)


async def refused(url: str, message: Message = MAIL) -> Undelivered:
    """Send, and give why it was not taken."""
    with pytest.raises(Undelivered) as caught:
        await transport(url).send(message)
    assert "minnie" not in caught.value.reason
    assert "ACDEF3" not in caught.value.reason
    return caught.value


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for this machine, by nobody that anybody trusts, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), NOW, NOW + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(ELSEWHERE)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """Give the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process trust the certificate, as an operator would."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def test_a_mail_arrives_with_its_envelope() -> None:
    """The envelope holds the plain addresses, the mail what the reader sees."""
    async with serving(Inbox()) as inbox:
        await transport(f"smtp://127.0.0.1:{inbox.port}").send(MAIL)
    [envelope] = inbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.com", ["minnie@example.com"])
    assert isinstance(envelope.content, bytes)
    mail = message_from_bytes(envelope.content, policy=default)
    assert mail["From"] == "Example <no-reply@example.com>"
    assert "ACDEF3" in envelope.content.decode()
    assert not inbox.encrypted


@pytest.mark.parametrize(
    ("refusal", "reason", "permanent"),
    [
        ({"refuse_recipient": "550 5.1.1 <minnie@example.com> unknown"}, "SMTPRecipientRefused 550 5.1.1", True),
        ({"refuse_recipient": "451 4.7.1 greylisted"}, "SMTPRecipientRefused 451 4.7.1", False),
        ({"refuse_mail": "554 5.6.0 ACDEF3 is spam"}, "SMTPDataError 554 5.6.0", True),
        ({"refuse_mail": "452 4.2.2 mailbox of minnie full"}, "SMTPDataError 452 4.2.2", False),
        ({"refuse_sender": "550 5.7.1 not you"}, "SMTPSenderRefused 550 5.7.1", False),
        ({"refuse_recipient": "421 4.3.2 going down"}, "SMTPRecipientRefused 421 4.3.2", False),
    ],
    ids=["no such user", "greylisted", "spam", "full", "sender", "going down"],
)
async def test_refusals_for_good_are_told_from_those_that_pass(
    refusal: dict[str, Any], reason: str, permanent: bool
) -> None:
    """5xx for the recipient or the mail is final; 4xx, and what the operator can mend, is not."""
    async with serving(Inbox(**refusal)) as inbox:
        fault = await refused(f"smtp://127.0.0.1:{inbox.port}")
    assert (fault.reason, fault.permanent) == (reason, permanent)
    assert not inbox.envelopes


async def test_a_server_that_is_not_there_may_come_back() -> None:
    """A refused connection is tried again."""
    async with serving(Inbox()) as inbox:
        pass
    fault = await refused(f"smtp://127.0.0.1:{inbox.port}")
    assert not fault.permanent


@pytest.mark.parametrize("silent_after", ["", "EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("drops", [True, False], ids=["drops", "hangs"])
async def test_a_server_that_drops_or_hangs_is_left_in_time(
    silent_after: str, drops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever step it happens the mail is tried again later, and no connection is left open."""
    monkeypatch.setattr(mail_module, "HAND_OVER_TIMEOUT", 0.3)
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {"EHLO": "250 mail.test", "MAIL": "250 OK", "RCPT": "250 OK", "DATA": "354 go on", ".": "250 OK"}
        if silent_after:
            writer.write(b"220 mail.test\r\n")
            while line := (await reader.readline()).decode():
                verb = line.split()[0] if line.strip() else ""
                if verb == silent_after:
                    break
                if verb in answers:
                    writer.write(f"{answers[verb]}\r\n".encode())
        if not drops:
            await reader.read()
        writer.close()
        closed.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        fault = await asyncio.wait_for(refused(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"), 5)
        await asyncio.wait_for(closed.wait(), 5)
    assert not fault.permanent


async def test_a_lost_goodbye_does_not_send_twice() -> None:
    """Once the server has the mail, nothing that follows makes it a failure."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        for end, answer in (
            (b"\n", "250 hi"),
            (b"\n", "250 OK"),
            (b"\n", "250 OK"),
            (b"\n", "354 go"),
            (b"\r\n.\r\n", "250 OK"),
        ):
            await reader.readuntil(end)
            writer.write(f"{answer}\r\n".encode())
        await reader.readline()
        writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        await transport(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}").send(MAIL)


async def test_encryption_is_taken_when_offered(server_tls: ssl.SSLContext) -> None:
    """Without credentials even a certificate of nobody is better than plain text."""
    async with serving(Inbox(), tls_context=server_tls) as inbox:
        await transport(f"smtp://{ELSEWHERE}:{inbox.port}").send(MAIL)
    assert inbox.encrypted


async def test_credentials_never_travel_in_the_clear() -> None:
    """A server elsewhere that offers no STARTTLS, or whose offer was stripped, sees no login and no mail."""
    async with serving(Inbox(), auth_require_tls=False) as inbox:
        fault = await refused(f"smtp://u:p%40ss@{ELSEWHERE}:{inbox.port}")
    assert (fault.reason, fault.permanent) == ("the mail server offers no STARTTLS", False)
    assert not inbox.logins
    assert not inbox.envelopes


async def test_credentials_never_go_to_a_doubtful_server(server_tls: ssl.SSLContext) -> None:
    """A certificate that nobody vouches for ends it before the login."""
    async with serving(Inbox(), tls_context=server_tls) as inbox:
        fault = await refused(f"smtp://u:p%40ss@{ELSEWHERE}:{inbox.port}")
    assert (fault.reason, fault.permanent) == ("SSLCertVerificationError", False)
    assert not inbox.logins


@pytest.mark.usefixtures("trusted")
async def test_credentials_travel_encrypted(server_tls: ssl.SSLContext) -> None:
    """With a good certificate the login follows STARTTLS, and the mail the login."""
    async with serving(Inbox(), tls_context=server_tls) as inbox:
        await transport(f"smtp://u:p%40ss@{ELSEWHERE}:{inbox.port}").send(MAIL)
    assert inbox.logins == [(b"p@ss", True)]
    assert len(inbox.envelopes) == 1


async def test_on_this_machine_credentials_need_no_encryption() -> None:
    """A relay on loopback is reached by nobody else."""
    async with serving(Inbox(), auth_require_tls=False) as inbox:
        await transport(f"smtp://u:p%40ss@127.0.0.1:{inbox.port}").send(MAIL)
    assert inbox.logins == [(b"p@ss", False)]


async def test_a_wrong_password_can_be_mended() -> None:
    """A mistake in the settings parks nobody's message at once."""
    async with serving(Inbox(), auth_require_tls=False) as inbox:
        fault = await refused(f"smtp://u:wrong@127.0.0.1:{inbox.port}")
    assert (fault.reason, fault.permanent) == ("SMTPAuthenticationError 535 5.7.8", False)


@pytest.mark.usefixtures("trusted")
async def test_smtps_is_encrypted_from_the_start(server_tls: ssl.SSLContext) -> None:
    """The first byte is TLS already."""
    async with serving(Inbox(), tls=server_tls) as inbox:
        await transport(f"smtps://localhost:{inbox.port}").send(MAIL)
    assert len(inbox.envelopes) == 1


async def test_smtps_asks_for_a_good_certificate(server_tls: ssl.SSLContext) -> None:
    """Whoever writes smtps means it, on loopback too."""
    async with serving(Inbox(), tls=server_tls) as inbox:
        fault = await refused(f"smtps://localhost:{inbox.port}")
    assert not fault.permanent
    assert not inbox.envelopes


async def test_an_address_beyond_ascii_needs_a_server_that_takes_it() -> None:
    """With SMTPUTF8 it arrives as it is; without, no other try would help."""
    message = structs.replace(MAIL, recipient="zoë@example.com")
    async with serving(Inbox(), enable_SMTPUTF8=True) as inbox:
        await transport(f"smtp://127.0.0.1:{inbox.port}").send(message)
    assert inbox.envelopes[0].rcpt_tos == ["zoë@example.com"]
    assert "SMTPUTF8" in inbox.envelopes[0].mail_options
    async with serving(Inbox()) as inbox:
        fault = await refused(f"smtp://127.0.0.1:{inbox.port}", message)
    assert fault.permanent


async def test_a_slow_server_is_waited_for() -> None:
    """A second of thought is no failure."""
    async with serving(Inbox(delay=1)) as inbox:
        await transport(f"smtp://127.0.0.1:{inbox.port}").send(MAIL)
    assert len(inbox.envelopes) == 1


async def test_a_server_with_smtp_sends_its_codes(short_dir: Path) -> None:
    """From the request to the mail: the refused one is tried again, and the code that arrives verifies."""
    async with serving(Inbox(refuse_recipient="451 4.7.1 greylisted")) as inbox:
        environment = {"SCHEMA_USER_SMTP_URL": f"smtp://127.0.0.1:{inbox.port}"}
        server = Server(short_dir / "smtp", environment=environment)
        await asyncio.to_thread(server.start)
        try:
            body = {"schemaId": await asyncio.to_thread(person_schema, server), "data": {"name": "Minnie"}}
            contact = {"contact": {"email": {"address": "minnie@example.com", "sendCode": {}}}}
            with server.client() as api:
                user_id = (await asyncio.to_thread(api.ok, "POST", "/v3alpha/users", body | contact))["userId"]
                await asyncio.sleep(1)
                inbox.refuse_recipient = None
                async with asyncio.timeout(10):
                    while not inbox.envelopes:  # noqa: ASYNC110 -- the server's thread sets no event
                        await asyncio.sleep(0.05)
                content = inbox.envelopes[0].content
                assert isinstance(content, bytes)
                mail = message_from_bytes(content, policy=default)
                text = mail.get_body(preferencelist=("plain",))
                assert text is not None
                [code] = [line.strip() for line in text.get_content().splitlines() if line.startswith("    ")]
                path = f"/v3alpha/users/{user_id}/email/verify"
                await asyncio.to_thread(api.ok, "POST", path, {"verificationCode": code})
        finally:
            await asyncio.to_thread(server.stop)
    assert "minnie@example.com" not in server.log()
    assert code not in server.log()


def person_schema(server: Server) -> str:
    """Make a schema that any object with a name passes."""
    with server.client() as api:
        return str(api.ok("POST", "/v3alpha/user_schemas", {"type": "person", "schema": SCHEMA})["id"])
