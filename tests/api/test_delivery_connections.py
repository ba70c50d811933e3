"""Connections to a mail server, used again for the next mail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from schema_user.delivery import connections
from schema_user.delivery import email as mail_module
from schema_user.delivery.email import MailWriter, SmtpTransport
from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.wiring import utc_now
from tests.api.conftest import ELSEWHERE
from tests.api.mail_server import MAIL, VOICE, Inbox, refused, serving, transport
from tests.store.post import QUICK, eventually, person, until, working

if TYPE_CHECKING:
    import ssl

    from schema_user.rooms import Rooms


async def test_mails_share_a_connection() -> None:
    """One after the other they need one, with one login, and it ends with a goodbye."""
    async with serving(Inbox(), auth_require_tls=False) as inbox:
        async with transport(f"smtp://u:p%40ss@127.0.0.1:{inbox.port}") as out:
            for number in range(5):
                await out.send(structs.replace(MAIL, recipient=f"user{number}@example.com"), VOICE)
            assert inbox.farewells == 0
        assert (inbox.connections, len(inbox.logins), inbox.farewells) == (1, 1, 1)
    assert [each.rcpt_tos for each in inbox.envelopes] == [[f"user{number}@example.com"] for number in range(5)]


@pytest.mark.usefixtures("trusted")
async def test_a_shared_connection_stays_encrypted(server_tls: ssl.SSLContext) -> None:
    """STARTTLS is said once, and holds for each mail that follows."""
    async with (
        serving(Inbox(), tls_context=server_tls) as inbox,
        transport(f"smtp://u:p%40ss@{ELSEWHERE}:{inbox.port}") as out,
    ):
        for _ in range(2):
            inbox.encrypted = False
            await out.send(MAIL, VOICE)
            assert inbox.encrypted
    assert (inbox.connections, inbox.logins) == (1, [(b"p@ss", True)])


@pytest.mark.parametrize("refusal", ["refuse_sender", "refuse_recipient", "refuse_mail"])
async def test_a_refusal_leaves_nothing_behind(refusal: str) -> None:
    """The mail after a refused one goes out over the same connection, to its own recipient only."""
    async with (
        serving(Inbox()) as inbox,
        transport(f"smtp://127.0.0.1:{inbox.port}") as out,
    ):
        setattr(inbox, refusal, "550 5.1.1 no")
        with pytest.raises(Undelivered):
            await out.send(MAIL, VOICE)
        setattr(inbox, refusal, None)
        await out.send(structs.replace(MAIL, recipient="other@example.com"), VOICE)
    assert [each.rcpt_tos for each in inbox.envelopes] == [["other@example.com"]]
    assert inbox.connections == 1


async def test_one_that_the_server_closed_is_replaced() -> None:
    """A server that waits no longer costs no try."""
    async with serving(Inbox(), timeout=0.1) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        await out.send(MAIL, VOICE)
        await asyncio.sleep(0.3)
        await out.send(MAIL, VOICE)
    assert (inbox.connections, len(inbox.envelopes)) == (2, 2)


async def test_one_that_has_had_enough_is_replaced() -> None:
    """Nor does one that ends a connection after so many mails, each of which arrives once."""
    async with serving(Inbox(mails_each=2)) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        for number in range(5):
            await out.send(structs.replace(MAIL, recipient=f"user{number}@example.com"), VOICE)
    assert inbox.connections == 3
    assert [each.rcpt_tos for each in inbox.envelopes] == [[f"user{number}@example.com"] for number in range(5)]


async def test_one_that_says_goodbye_to_a_recipient_is_replaced() -> None:
    """With 421 the server ends the connection, whatever command it answers; twice, and it is the server that is ill."""
    async with serving(Inbox()) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        await out.send(MAIL, VOICE)
        inbox.refuse_recipient = "421 4.3.2 going down"
        with pytest.raises(Undelivered) as caught:
            await out.send(MAIL, VOICE)
        assert (caught.value.reason, inbox.connections) == ("SMTPRecipientRefused 421 4.3.2", 2)
        inbox.refuse_recipient = None
        await out.send(MAIL, VOICE)
    assert (inbox.connections, len(inbox.envelopes)) == (3, 2)


async def test_a_new_connection_is_replaced_by_none() -> None:
    """What refuses the first mail of a connection is asked no second time."""
    async with serving(Inbox(mails_each=0)) as inbox:
        fault = await refused(f"smtp://127.0.0.1:{inbox.port}")
    assert (fault.reason, fault.permanent, inbox.connections) == ("SMTPSenderRefused 421 4.7.0", False, 1)


@pytest.mark.parametrize("drops", [True, False], ids=["drops", "hangs"])
async def test_one_that_is_dead_is_replaced(drops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection that no longer answers, or ends when it is used, loses to a new one."""
    monkeypatch.setattr(mail_module, "_RESET_TIMEOUT", 0.2)
    mails = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal mails
        writer.write(b"220 mail.test\r\n")
        while line := await reader.readline():
            if line.startswith(b"RSET"):
                break
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                mails += 1
            writer.write(b"250 OK\r\n")
        if not drops:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, transport(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}") as out:
        await out.send(MAIL, VOICE)
        await out.send(MAIL, VOICE)
    assert mails == 2


async def test_a_failed_login_is_not_kept() -> None:
    """The next mail must not find a connection that nobody let in."""
    async with (
        serving(Inbox(), auth_require_tls=False) as inbox,
        transport(f"smtp://u:wrong@127.0.0.1:{inbox.port}") as out,
    ):
        for _ in range(2):
            with pytest.raises(Undelivered):
                await out.send(MAIL, VOICE)
    assert (inbox.connections, len(inbox.envelopes)) == (2, 0)


async def test_one_in_an_unknown_state_is_not_kept() -> None:
    """A hand-over that was cut off in the middle of the mail leaves no connection to the next one."""
    async with serving(Inbox(delay=30)) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        cut = asyncio.create_task(out.send(MAIL, VOICE))
        await eventually(lambda: inbox.data)
        cut.cancel()
        await asyncio.wait({cut})
        inbox.delay = 0
        await out.send(MAIL, VOICE)
    assert inbox.connections == 2


async def test_an_idle_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says goodbye by itself, and the next mail finds another."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    async with serving(Inbox()) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        await out.send(MAIL, VOICE)
        await eventually(lambda: inbox.farewells)
        await out.send(MAIL, VOICE)
        assert inbox.connections == 2


async def test_mails_at_once_have_one_each() -> None:
    """None waits for another's connection; afterwards they share what is there."""
    async with serving(Inbox(delay=0.2)) as inbox, transport(f"smtp://127.0.0.1:{inbox.port}") as out:
        await asyncio.gather(*(out.send(MAIL, VOICE) for _ in range(6)))
        assert inbox.connections == 6
        await asyncio.gather(*(out.send(MAIL, VOICE) for _ in range(6)))
        assert (inbox.connections, len(inbox.envelopes)) == (6, 12)


async def test_a_black_hole_delays_nobody(rooms: Rooms) -> None:
    """While one recipient is never heard of, fifty others get their mail at their first try."""
    async with serving(Inbox(hole="hole@example.com")) as inbox:
        out = SmtpTransport(f"smtp://127.0.0.1:{inbox.port}", MailWriter("https://a.example", Texts()), utc_now)
        await person(rooms.wiring, "hole@example.com")
        async with working(rooms.wiring, out):
            await eventually(lambda: inbox.connections)
            for number in range(50):
                await person(rooms.wiring, f"user{number}@example.com")
            records = await until(rooms, "sent", 50)
            assert [each["tries"] for each in records if each["state"] == "sent"] == [1] * 50
            assert inbox.connections <= QUICK.at_once
            inbox.filled.set()
            await until(rooms, "sent", 51)
    assert len({envelope.rcpt_tos[0] for envelope in inbox.envelopes}) == 51
