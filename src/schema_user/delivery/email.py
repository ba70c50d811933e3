"""Mail: how one is built, and how it is handed to an SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as ASCII_MAIL
from email.policy import SMTPUTF8 as UNICODE_MAIL
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from schema_user.delivery.connections import Kept
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import ENCODED_WORD
from schema_user.domain.loopback import is_loopback
from schema_user.domain.message import reference
from schema_user.domain.wording import Voice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from schema_user.delivery.texts import Texts
    from schema_user.domain.message import Message

HAND_OVER_TIMEOUT: Final = 25.0
"""Seconds for one mail, from the connection to the server's last word; a slower server is tried again."""
_RESET_TIMEOUT: Final = 5.0
"""Seconds for a connection that was kept to show that it still works."""

_LONGEST_LINE: Final = 990
"""Characters that need no encoding to pass: RFC 5321, section 4.5.3.1.6, allows 998 in a line."""
_ENHANCED_CODE: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_PERMANENT: Final = 500
_REFUSALS: Final = range(400, 600)
_CLOSING: Final = 421
"""The server ends the connection (RFC 5321, section 3.8)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BROKEN_HEADER: Final = re.compile(r"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n|\x00")
_NO_PLAIN_ADDRESS: Final = re.compile(r"[\s\x00-\x1f\x7f\"(),:;<>@\[\\\]]")


def parse_sender(text: str) -> Address:
    """Read ``Name <address>`` or an address.

    Raises:
        ValueError: if it is not exactly one address.
    """
    probe = EmailMessage()
    probe["From"] = "" if _CONTROL.search(text) else text
    found: tuple[Address, ...] = probe["From"].addresses
    if len(found) != 1 or not found[0].username or not found[0].domain:
        raise ValueError("SCHEMA_USER_MAIL_FROM must be one address, with or without a name")
    return found[0]


def instance_voice(sender: str, public_url: str) -> Voice:
    """Give the voice of the instance; the service goes by the name in its sender, else by the host of its public URL.

    Raises:
        ValueError: if the sender is not exactly one address.
    """
    parsed = parse_sender(sender)
    service = parsed.display_name or urlsplit(public_url).netloc.rpartition("@")[2]
    return Voice(service, parsed.display_name, f"{parsed.username}@{parsed.domain}")


class MailWriter:
    """Builds mail."""

    def __init__(self, public_url: str, texts: Texts) -> None:
        """Name the service's host in the ids of mails by its public URL."""
        self.host = host_literal(urlsplit(public_url).hostname or "localhost")
        self._texts = texts

    def write(self, message: Message, now: datetime, voice: Voice) -> EmailMessage:
        """Build the mail of a message.

        Its id and date come from the message, so that a mail sent twice, after a crash between sending and noting
        it, is recognised as one.

        Raises:
            Undelivered: for good, if address or subject cannot stand in a header.
        """
        words = self._texts.mail(message, now, voice)
        ascii_only = (message.recipient + voice.sender_address).isascii()
        mail = EmailMessage(ASCII_MAIL if ascii_only else UNICODE_MAIL)
        try:
            mail["From"] = _plain_address(voice.sender_address, voice.sender_name)
            mail["To"] = _plain_address(message.recipient)
            mail["Subject"] = words.subject
            _require_whole_headers(mail)
        except ValueError as error:
            raise Undelivered("address or subject cannot stand in a header", permanent=True) from error
        mail["Date"] = message.created_at
        mail["Message-ID"] = f"<{reference(message.message_id)}@{self.host}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        mail.set_content(words.text, cte=_encoding(words.text))
        mail.add_alternative(words.html, subtype="html", cte=_encoding(words.html))
        mail["Content-Language"] = words.language.value  # last: the other headers of contents move into the parts
        return mail


def _plain_address(text: str, name: str = "") -> Address:
    """Give an address whose every character stands for itself; the parser of addr-specs knows ASCII only."""
    local, _, domain = text.rpartition("@")
    if not local or not domain or _NO_PLAIN_ADDRESS.search(local + domain) or ENCODED_WORD in name + text:
        raise ValueError("not a plain address")
    return Address(name, username=local, domain=domain)


def _require_whole_headers(mail: EmailMessage) -> None:
    """Raise ValueError if a header would be more than one on its way.

    The standard library decodes what looks encoded in what it is given, and up to Python 3.11.9 writes line breaks that
    come out as they are (CVE-2024-6923). Neither addresses nor texts may look like that; this is the second lock.
    """
    for name, value in mail.items():
        if _BROKEN_HEADER.search(mail.policy.fold(name, value).removesuffix("\r\n")):
            raise ValueError("a line break in a header")


def _encoding(text: str) -> str:
    """Leave plain text readable as it is, long links included; anything else is quoted."""
    plain = text.isascii() and all(len(line) <= _LONGEST_LINE for line in text.splitlines())
    return "7bit" if plain else "quoted-printable"


def host_literal(host: str) -> str:
    """Write a host as mail does: a name in ASCII, an address in brackets (RFC 5321, section 4.1.3)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            return "localhost"
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"  # noqa: PLR2004 -- the number of the protocol


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over. ``tls`` from the start, or else by STARTTLS."""

    host: str
    port: int
    tls: bool
    username: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def strict(self) -> bool:
        """Whether the connection must be encrypted and the server's certificate be good.

        Without a password, and without ``smtps``, encryption is taken when offered: refusing a doubtful certificate
        there would only mean sending in plain text instead.
        """
        return self.tls or (self.username is not None and not is_loopback(self.host))


def parse_smtp_url(url: str) -> MailServer:
    """Read ``smtp://[user:password@]host[:port]`` or ``smtps://…``.

    The port is 465 for ``smtps``; for ``smtp`` it is 587 (submission, RFC 6409) with a user and 25 without.

    Raises:
        ValueError: if it is none; the text does not repeat it, as it may hold a password.
    """
    wrong = "SCHEMA_USER_SMTP_URL must be smtp://[user:password@]host[:port] or smtps://…"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if not host or parts.scheme not in {"smtp", "smtps"}:
        raise ValueError(wrong)
    tls = parts.scheme == "smtps"
    username = unquote(parts.username) if parts.username else None
    usual = 465 if tls else 25 if username is None else 587
    return MailServer(host, port or usual, tls, username, unquote(parts.password or ""))


class _Envelope(NamedTuple):
    """From whom a mail comes and to whom it goes, as the server is told."""

    sender: str
    recipient: str


class SmtpTransport:
    """Hands mail to one SMTP server, over connections that are used again.

    Mails that are on their way at the same moment have a connection each, so that a slow recipient delays no other.
    """

    def __init__(self, url: str, writer: MailWriter, now: Callable[[], datetime]) -> None:
        """Read the URL; ``now`` tells how long a code is still good.

        Raises:
            ValueError: for a URL that is none.
        """
        self._server = parse_smtp_url(url)
        self._writer = writer
        self._now = now
        self._kept = Kept()
        self._tls = ssl.create_default_context()
        if not self._server.strict:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    async def send(self, message: Message, voice: Voice) -> None:
        """Hand one mail over.

        Raises:
            Undelivered: if the server did not take it; for good, if it refused the recipient or the mail with 5xx.
        """
        mail = self._writer.write(message, self._now(), voice).as_bytes()
        envelope = _Envelope(voice.sender_address, message.recipient)
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT):
                client = await self._announced_again(envelope) or await self._announced(envelope)
                with self._lent(client):
                    await client.data(mail)
                self._kept.keep(client)
        except (SMTPException, OSError) as error:
            raise undelivered(error) from error

    async def close(self) -> None:
        """Say goodbye to the server; another mail connects anew."""
        await self._kept.close()

    async def _announced_again(self, envelope: _Envelope) -> SMTP | None:
        """Name sender and recipient over a connection that was kept.

        None if there is none that works, or the server has had enough of it: before the mail itself a server has
        taken nothing, so another connection costs no try.
        """
        client = self._kept.take()
        if client is None:
            return None
        try:
            with self._lent(client):
                await client.rset(timeout=_RESET_TIMEOUT)
                await self._announce(client, envelope)
        except (SMTPException, OSError) as error:
            if isinstance(error, SMTPRecipientRefused) and error.code != _CLOSING:
                raise
            client.close()
            return None
        return client

    async def _announced(self, envelope: _Envelope) -> SMTP:
        """Name sender and recipient over a new connection."""
        client = SMTP(
            hostname=self._server.host,
            port=self._server.port,
            local_hostname=self._writer.host,
            timeout=HAND_OVER_TIMEOUT,
            use_tls=self._server.tls,
            start_tls=False,
            tls_context=self._tls,
        )
        with self._lent(client):
            await self._open(client)
            await self._announce(client, envelope)
        return client

    @contextlib.contextmanager
    def _lent(self, client: SMTP) -> Iterator[None]:
        """Keep a connection that the refusal of a mail left in order; close it after any other failure."""
        try:
            yield
        except (SMTPSenderRefused, SMTPRecipientRefused, SMTPDataError) as error:
            if error.code in _REFUSALS:
                self._kept.keep(client)
            else:
                client.close()
            raise
        except BaseException:
            client.close()
            raise

    async def _open(self, client: SMTP) -> None:
        await client.connect()
        if not self._server.tls:
            await client.ehlo()
            if client.supports_extension("starttls"):
                await client.starttls()
            elif self._server.strict:
                raise Undelivered("the mail server offers no STARTTLS")
        if self._server.username is not None:
            await client.login(self._server.username, self._server.password)
        if client.is_ehlo_or_helo_needed:
            await client.ehlo()

    async def _announce(self, client: SMTP, envelope: _Envelope) -> None:
        sender, recipient = envelope
        ascii_only = (sender + recipient).isascii()
        if not ascii_only and not client.supports_extension("smtputf8"):
            raise Undelivered("the mail server takes no address beyond ASCII", permanent=True)
        options, encoding = ([], "ascii") if ascii_only else (["SMTPUTF8", "BODY=8BITMIME"], "utf-8")
        await client.mail(sender, options=options, encoding=encoding)
        await client.rcpt(recipient, encoding=encoding)


def undelivered(error: Exception) -> Undelivered:
    """Say what went wrong in numbers and names only: a server's text repeats addresses.

    A 5xx for the recipient or the mail is final. One for the login or the sender is a mistake in the settings, which
    somebody may mend while the message waits.
    """
    name = type(error).__name__
    if not isinstance(error, SMTPResponseException):
        return Undelivered(name)
    enhanced = _ENHANCED_CODE.match(error.message)
    reason = f"{name} {error.code}" + (f" {enhanced[0]}" if enhanced else "")
    final = isinstance(error, (SMTPRecipientRefused, SMTPDataError)) and error.code >= _PERMANENT
    return Undelivered(reason, permanent=final)
