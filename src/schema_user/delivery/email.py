"""Mail: how one is built, and how it is handed to an SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as ASCII_MAIL
from email.policy import SMTPUTF8 as UNICODE_MAIL
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP
from aiosmtplib.errors import SMTPDataError, SMTPException, SMTPRecipientRefused, SMTPResponseException

from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.message import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from schema_user.domain.message import Message

HAND_OVER_TIMEOUT: Final = 25.0
"""Seconds for one mail, from the connection to the server's last word; a slower server is tried again."""
_QUIT_TIMEOUT: Final = 1.0

_LONGEST_LINE: Final = 990
"""Characters that need no encoding to pass: RFC 5321, section 4.5.3.1.6, allows 998 in a line."""
_ENHANCED_CODE: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_PERMANENT: Final = 500
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
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


class MailWriter:
    """Builds mail in the name of a service."""

    def __init__(self, sender: str, public_url: str) -> None:
        """Send from ``sender``; the service goes by the name in it, else by the host of its public URL."""
        self.sender = parse_sender(sender)
        self.host = host_literal(urlsplit(public_url).hostname or "localhost")
        self.service = self.sender.display_name or urlsplit(public_url).netloc.rpartition("@")[2]
        self._texts = Texts(self.service)

    def write(self, message: Message, now: datetime) -> EmailMessage:
        """Build the mail of a message.

        Its id and date come from the message, so that a mail sent twice, after a crash between sending and noting
        it, is recognised as one.

        Raises:
            Undelivered: for good, if the address cannot stand in a header.
        """
        words = self._texts.mail(message, now)
        ascii_only = (message.recipient + self.sender.addr_spec).isascii()
        mail = EmailMessage(ASCII_MAIL if ascii_only else UNICODE_MAIL)
        try:
            mail["From"] = self.sender
            mail["To"] = _recipient(message.recipient)
            mail["Subject"] = words.subject
        except ValueError as error:
            raise Undelivered("the address cannot stand in a header", permanent=True) from error
        mail["Date"] = message.created_at
        mail["Message-ID"] = f"<{hashlib.sha256(message.message_id.encode()).hexdigest()[:32]}@{self.host}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        mail.set_content(words.text, cte=_encoding(words.text))
        mail.add_alternative(words.html, subtype="html", cte=_encoding(words.html))
        return mail


def _recipient(text: str) -> Address:
    """Give an address whose every character stands for itself; the parser of addr-specs knows ASCII only."""
    local, _, domain = text.rpartition("@")
    if not local or not domain or _NO_PLAIN_ADDRESS.search(local + domain):
        raise ValueError("not a plain address")
    return Address(username=local, domain=domain)


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


class SmtpTransport:
    """Hands mail to one SMTP server, over a connection of its own for each."""

    def __init__(self, url: str, writer: MailWriter, now: Callable[[], datetime]) -> None:
        """Read the URL; ``now`` tells how long a code is still good.

        Raises:
            ValueError: for a URL that is none.
        """
        self._server = parse_smtp_url(url)
        self._writer = writer
        self._now = now
        self._tls = ssl.create_default_context()
        if not self._server.strict:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    async def send(self, message: Message) -> None:
        """Hand one mail over.

        Raises:
            Undelivered: if the server did not take it; for good, if it refused the recipient or the mail with 5xx.
        """
        mail = self._writer.write(message, self._now())
        client = SMTP(
            hostname=self._server.host,
            port=self._server.port,
            local_hostname=self._writer.host,
            timeout=HAND_OVER_TIMEOUT,
            use_tls=self._server.tls,
            start_tls=False,
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT):
                await self._open(client)
                await self._transfer(client, mail, message.recipient)
            # The server has the mail now: whatever becomes of the goodbye, it must not be sent again.
            with contextlib.suppress(SMTPException, OSError):
                await client.quit(timeout=_QUIT_TIMEOUT)
        except (SMTPException, OSError) as error:
            raise undelivered(error) from error
        finally:
            client.close()

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

    async def _transfer(self, client: SMTP, mail: EmailMessage, recipient: str) -> None:
        if client.is_ehlo_or_helo_needed:
            await client.ehlo()
        sender = self._writer.sender.addr_spec
        ascii_only = (sender + recipient).isascii()
        if not ascii_only and not client.supports_extension("smtputf8"):
            raise Undelivered("the mail server takes no address beyond ASCII", permanent=True)
        options, encoding = ([], "ascii") if ascii_only else (["SMTPUTF8", "BODY=8BITMIME"], "utf-8")
        await client.mail(sender, options=options, encoding=encoding)
        await client.rcpt(recipient, encoding=encoding)
        await client.data(mail.as_bytes())


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
