"""How mail and text messages are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPRecipientRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from msgspec.structs import replace

from schema_user.delivery.email import (
    MailWriter,
    host_literal,
    instance_voice,
    parse_sender,
    parse_smtp_url,
    undelivered,
)
from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import ADDRESS_CHANGED, VERIFY, Message
from schema_user.domain.wording import Voice

if TYPE_CHECKING:
    from email.message import EmailMessage

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LINK = "https://app.example.com/verify?user=290000000000000001&organization=default&code=ACDEF3&next=%2Fhome"
MAIL = Message(
    message_id="290000000000000001:0f0e0d0c0b0a090807060504",
    kind=VERIFY,
    channel=Channel.EMAIL,
    user_id="290000000000000001",
    organization_id="default",
    recipient="minnie@example.com",
    created_at=NOW,
    code="ACDEF3",
    code_digest=b"digest",
    expires_at=NOW + timedelta(hours=1),
)
VOICE = instance_voice("Example <no-reply@example.com>", "https://users.example.com")
WRITER = MailWriter("https://users.example.com", Texts())


def written(message: Message, voice: Voice = VOICE, now: datetime = NOW) -> bytes:
    """Give the mail as it goes to a server."""
    return WRITER.write(message, now, voice).as_bytes()


def received(message: Message, voice: Voice = VOICE, now: datetime = NOW) -> EmailMessage:
    """Give the mail as a reader's program finds it."""
    return message_from_bytes(written(message, voice, now), policy=default)


def part(mail: EmailMessage, kind: str) -> str:
    """Give the text of one alternative."""
    body = mail.get_body(preferencelist=(kind,))
    assert body is not None
    return str(body.get_content())


def test_both_parts_show_the_code_and_the_link() -> None:
    """A reader may follow the link or type the code, with or without HTML."""
    mail = received(replace(MAIL, url=LINK))
    text, html = part(mail, "plain"), part(mail, "html")
    assert "ACDEF3" in text.splitlines()[9]
    assert LINK in text.splitlines()
    assert f'href="{LINK.replace("&", "&amp;")}"' in html
    assert '<p class="code">ACDEF3</p>' in html


def test_without_a_url_there_is_no_link() -> None:
    """Nothing invites a click when the client has no page for it."""
    mail = received(MAIL)
    for kind in ("plain", "html"):
        body = part(mail, kind)
        assert "ACDEF3" in body
        assert "http" not in body
        assert "href" not in body
        assert "link" not in body


def test_the_subject_has_no_code() -> None:
    """Subjects are shown on locked screens and written to the logs of mail servers."""
    assert received(MAIL)["Subject"] == "Confirm your email address for Example"


def test_a_long_link_stays_readable_in_the_raw_mail() -> None:
    """No quoting tears a link apart: people copy it from wherever they see it."""
    assert LINK.encode() in written(replace(MAIL, url=LINK))


def test_a_line_too_long_for_smtp_is_quoted() -> None:
    """RFC 5321 allows 998 characters in a line; longer links arrive whole nevertheless."""
    link = LINK + "x" * 2000
    raw = written(replace(MAIL, url=link))
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert link in part(received(replace(MAIL, url=link)), "plain").splitlines()


def test_the_same_message_has_the_same_id_and_date() -> None:
    """A mail that is sent twice is recognised as one; another message has another id, which tells no user."""
    first, again = received(MAIL), received(MAIL, now=NOW + timedelta(minutes=5))
    other = received(replace(MAIL, message_id="290000000000000001:ffff"))
    assert (first["Message-ID"], first["Date"]) == (again["Message-ID"], again["Date"])
    assert first["Message-ID"] != other["Message-ID"]
    assert first["Message-ID"].endswith("@users.example.com>")
    assert "290000000000000001" not in first["Message-ID"]


def test_the_headers_a_mail_needs() -> None:
    """Who sends, to whom, when, and that no person is to answer."""
    mail = received(MAIL)
    assert mail["From"] == "Example <no-reply@example.com>"
    assert mail["To"] == "minnie@example.com"
    assert mail["Date"].datetime == NOW
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Content-Language"] == "en"


@pytest.mark.parametrize(
    "recipient",
    [
        "a@example.com\r\nBcc: victim@example.com",
        "a@example.com\nBcc: victim@example.com",
        "a@example.com, victim@example.com",
        "Minnie <victim@example.com>",
        '"a\r\nBcc"@example.com',
        "a@example.com\x00",
        "a b@example.com",
        "=?utf-8?q?a=0D=0ABcc:victim?=@example.com",
        "=?utf-8?b?YQ0KDQpib2R5?=@example.com",
        "=?utf-8?q?a=40victim.example=2C?=@example.com",
        "nobody",
        "@example.com",
    ],
)
def test_no_header_can_be_injected(recipient: str) -> None:
    """An address that is more than an address is refused for good, whoever let it in."""
    with pytest.raises(Undelivered) as caught:
        written(replace(MAIL, recipient=recipient))
    assert caught.value.permanent
    assert "victim" not in caught.value.reason


@pytest.mark.parametrize("recipient", ["o'neil+tag@example.com", "a" * 64 + "@" + "b" * 60 + f".{'c' * 60}" * 2])
def test_odd_but_good_addresses_arrive_whole(recipient: str) -> None:
    """Tags, apostrophes and the longest addresses are neither changed nor folded apart."""
    assert received(replace(MAIL, recipient=recipient))["To"] == recipient


def test_an_address_beyond_ascii_makes_a_utf8_mail() -> None:
    """SMTPUTF8 (RFC 6531) carries the local part as it is."""
    raw = written(replace(MAIL, recipient="zoë@example.com"))
    assert "\r\nTo: zoë@example.com\r\n".encode() in raw


def test_the_html_escapes_what_it_is_given() -> None:
    """Nothing from outside becomes markup; plain text stays plain."""
    voice = instance_voice('"<b>Bold & Co" <no-reply@example.com>', "https://users.example.com")
    mail = received(replace(MAIL, url='https://app.example.com/?a="><script>'), voice)
    assert "<script>" not in part(mail, "html")
    assert "&lt;b&gt;Bold &amp; Co" in part(mail, "html")
    assert "<b>Bold & Co" in part(mail, "plain")


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_changed_address_shows_the_new_one_masked(kind: str) -> None:
    """The old owner learns what happened, what to do, and no more of the new address than a hint."""
    changed = replace(MAIL, kind=ADDRESS_CHANGED, code=None, expires_at=None, other="m••••@example.org")
    assert "m••••@example.org" in part(received(changed), kind)
    assert "at once" in part(received(changed), kind)
    removed = part(received(replace(changed, other=None)), kind)
    assert "was removed" in removed
    assert "None" not in removed


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example.com", ("mail.example.com", 25, False, None, "", False)),
        ("smtp://u:p@mail.example.com", ("mail.example.com", 587, False, "u", "p", True)),
        ("smtp://u:p@127.0.0.1:2525", ("127.0.0.1", 2525, False, "u", "p", False)),
        ("smtp://u:p@localhost", ("localhost", 587, False, "u", "p", False)),
        ("smtps://u%40x:p%3A%2F@mail.example.com", ("mail.example.com", 465, True, "u@x", "p:/", True)),
        ("smtps://mail.example.com:4650", ("mail.example.com", 4650, True, None, "", True)),
        ("smtp://[::1]:2525", ("::1", 2525, False, None, "", False)),
    ],
)
def test_an_smtp_url_says_where_and_how(url: str, server: tuple[Any, ...]) -> None:
    """Credentials make encryption a must, except to this machine itself; smtps always does."""
    found = parse_smtp_url(url)
    assert (found.host, found.port, found.tls, found.username, found.password, found.strict) == server


@pytest.mark.parametrize(
    "url", ["smtp://u:hidden@mail.example.com:port", "http://u:hidden@mail", "smtp://", "smtp://u:hidden@"]
)
def test_a_bad_smtp_url_is_not_repeated(url: str) -> None:
    """The refusal names the setting; the URL may hold a password."""
    with pytest.raises(ValueError, match="SCHEMA_USER_SMTP_URL") as caught:
        parse_smtp_url(url)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_server_does_not_show_its_password() -> None:
    """What is logged by accident holds no credentials."""
    assert "secret" not in repr(parse_smtp_url("smtp://someone:secret@mail.example.com"))


@pytest.mark.parametrize("text", ["", "nobody", "a@example.com, b@example.com", "a@example.com\r\nBcc: b@example.com"])
def test_the_sender_is_one_address(text: str) -> None:
    """A sender that no mail could have is found at the start, not at the first mail."""
    with pytest.raises(ValueError, match="SCHEMA_USER_MAIL_FROM"):
        parse_sender(text)


def test_a_sender_without_a_name_leaves_the_host() -> None:
    """The reader is told a name, or else the host that the service is known by."""
    nameless = instance_voice("no-reply@example.com", "https://users.example.com:8443/base")
    assert nameless == Voice("users.example.com:8443", "", "no-reply@example.com")
    assert received(MAIL, nameless)["From"] == "no-reply@example.com"
    assert Voice("Example", "Example", "no-reply@example.com") == VOICE


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("users.example.com", "users.example.com"),
        ("127.0.0.1", "[127.0.0.1]"),
        ("::1", "[IPv6:::1]"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("x" * 64, "localhost"),
    ],
)
def test_hosts_are_written_as_mail_does(host: str, literal: str) -> None:
    """RFC 5321, section 4.1.3: addresses stand in brackets."""
    assert host_literal(host) == literal


@pytest.mark.parametrize(
    ("error", "reason", "permanent"),
    [
        (
            SMTPRecipientRefused(550, "5.1.1 <minnie@example.com> no such user", "minnie@example.com"),
            "SMTPRecipientRefused 550 5.1.1",
            True,
        ),
        (SMTPRecipientRefused(450, "4.2.0 greylisted", "minnie@example.com"), "SMTPRecipientRefused 450 4.2.0", False),
        (SMTPDataError(554, "ACDEF3 looks like spam"), "SMTPDataError 554", True),
        (SMTPDataError(451, "4.3.0 later"), "SMTPDataError 451 4.3.0", False),
        (SMTPSenderRefused(550, "not you", "no-reply@example.com"), "SMTPSenderRefused 550", False),
        (SMTPAuthenticationError(535, "5.7.8 no"), "SMTPAuthenticationError 535 5.7.8", False),
        (SMTPServerDisconnected("minnie@example.com"), "SMTPServerDisconnected", False),
        (TimeoutError("minnie@example.com"), "TimeoutError", False),
    ],
)
def test_reasons_tell_numbers_and_no_addresses(error: Exception, reason: str, permanent: bool) -> None:
    """What is stored and logged repeats nothing that a server said; only the mail's own 5xx is final."""
    fault = undelivered(error)
    assert (fault.reason, fault.permanent) == (reason, permanent)
