"""Mail on its way to a real SMTP server that refuses, delays, drops and encrypts."""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.delivery import email as mail_module
from tests.api.conftest import ELSEWHERE
from tests.api.mail_server import MAIL, Inbox, refused, send, serving
from tests.conftest import SCHEMA, Server

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


async def test_a_mail_arrives_with_its_envelope() -> None:
    """The envelope holds the plain addresses, the mail what the reader sees."""
    async with serving(Inbox()) as inbox:
        await send(f"smtp://127.0.0.1:{inbox.port}")
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
        await send(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_encryption_is_taken_when_offered(server_tls: ssl.SSLContext) -> None:
    """Without credentials even a certificate of nobody is better than plain text."""
    async with serving(Inbox(), tls_context=server_tls) as inbox:
        await send(f"smtp://{ELSEWHERE}:{inbox.port}")
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
        await send(f"smtp://u:p%40ss@{ELSEWHERE}:{inbox.port}")
    assert inbox.logins == [(b"p@ss", True)]
    assert len(inbox.envelopes) == 1


async def test_on_this_machine_credentials_need_no_encryption() -> None:
    """A relay on loopback is reached by nobody else."""
    async with serving(Inbox(), auth_require_tls=False) as inbox:
        await send(f"smtp://u:p%40ss@127.0.0.1:{inbox.port}")
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
        await send(f"smtps://localhost:{inbox.port}")
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
        await send(f"smtp://127.0.0.1:{inbox.port}", message)
    assert inbox.envelopes[0].rcpt_tos == ["zoë@example.com"]
    assert "SMTPUTF8" in inbox.envelopes[0].mail_options
    async with serving(Inbox()) as inbox:
        fault = await refused(f"smtp://127.0.0.1:{inbox.port}", message)
    assert fault.permanent


async def test_a_slow_server_is_waited_for() -> None:
    """A second of thought is no failure."""
    async with serving(Inbox(delay=1)) as inbox:
        await send(f"smtp://127.0.0.1:{inbox.port}")
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
