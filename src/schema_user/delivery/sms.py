"""Text messages: handed to an HTTP gateway, as a signed webhook or in Twilio's way."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

import msgspec

from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.loopback import is_loopback
from schema_user.domain.message import reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import httpx2

    from schema_user.delivery.texts import Texts
    from schema_user.domain.message import Message
    from schema_user.domain.wording import Voice

HAND_OVER_TIMEOUT: Final = 25.0
"""Seconds for one message, from the connection to the status of the answer; a slower gateway is tried again."""
_CONNECT_TIMEOUT: Final = 10.0
_READ_TIMEOUT: Final = 2.0
"""Seconds for the rest of an answer whose status is known."""
_LONGEST_ANSWER: Final = 16 * 1024
"""Bytes read of an answer; the connection of a longer one is closed."""
_KEPT_OPEN: Final = 15.0
"""Seconds that an idle connection stays open."""

_WRONG: Final = (
    "SCHEMA_USER_SMS_URL must be https://host/path#whsec_SECRET or twilio://SID:TOKEN@host?from=SENDER"
    " (plain http to this machine only)"
)
_PLAIN_URL: Final = re.compile(r"[!-~]+")
_SENDER: Final = re.compile(r"[+A-Za-z0-9 ]{1,34}")
_MESSAGING_SERVICE: Final = re.compile(r"MG[0-9a-fA-F]{32}")
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- how every secret of Standard Webhooks begins
_SECRET_BYTES: Final = range(24, 65)

_OK: Final = range(200, 300)
_REFUSED: Final = range(400, 500)
_PASSING: Final = frozenset({401, 403, 408, 429})
"""4xx that another try may not meet: two are for the operator to mend, one is for the network, one for patience."""
_TWILIO_SENDER_CODES: Final = frozenset({21212, 21603, 21606, 21659, 21701, 21703})
"""Twilio's codes for a sender that cannot send: a mistake in the settings, as a login that is refused."""


@dataclass(frozen=True, slots=True)
class Post:
    """What is sent to a gateway, by POST."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    content: bytes = field(repr=False)


class Gateway(Protocol):
    """How one kind of gateway is spoken to."""

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by TLS; else it is on this machine."""

    def post(self, message: Message, text: str, now: datetime) -> Post:
        """Write the request that hands a message over."""

    def refusal(self, status: int, answer: bytes) -> Undelivered:
        """Say why a message was not taken, given an answer's status and the beginning of its body."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A gateway that takes ``{"to", "text", "messageId", "kind"}``, signed by Standard Webhooks 1.0 (symmetric).

    Its ``webhook-id`` is the same for each try of a message, so that a double can be dropped.
    """

    url: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by TLS."""
        return self.url.startswith("https:")

    def post(self, message: Message, text: str, now: datetime) -> Post:
        """Write and sign the request; with several secrets it bears a signature by each."""
        name = reference(message.message_id)
        content = msgspec.json.encode(
            {"to": message.recipient, "text": text, "messageId": name, "kind": message.kind}, order="deterministic"
        )
        at = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join(signature(secret, name, at, content) for secret in self.secrets),
        }
        return Post(self.url, headers, content)

    def refusal(self, status: int, answer: bytes) -> Undelivered:  # noqa: ARG002 -- says nothing that we know of
        """Say why by the status alone."""
        return Undelivered(f"HTTP {status}", permanent=_is_final(status))


def signature(secret: bytes, name: str, at: int, content: bytes) -> str:
    """Sign a webhook's id, time (seconds since 1970) and body (Standard Webhooks 1.0, signatures of version ``v1``)."""
    signed = f"{name}.{at}.".encode() + content
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


class _TwilioError(msgspec.Struct):
    """What is read of Twilio's error; its text repeats the number."""

    code: int | None = None


@dataclass(frozen=True, slots=True)
class Twilio:
    """Twilio's Messages resource, or that of whoever speaks like it (2010-04-01 API).

    ``sender`` is a number, a name, or the id of a messaging service. Twilio knows no id by which it drops doubles.
    """

    origin: str
    account: str = field(repr=False)
    token: str = field(repr=False)
    sender: str

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by TLS."""
        return self.origin.startswith("https:")

    def post(self, message: Message, text: str, now: datetime) -> Post:  # noqa: ARG002 -- nothing here is dated
        """Write the form, with the account's own credentials."""
        sender = "MessagingServiceSid" if _MESSAGING_SERVICE.fullmatch(self.sender) else "From"
        login = base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {login}"}
        url = f"{self.origin}/2010-04-01/Accounts/{quote(self.account, safe='')}/Messages.json"
        form = {"To": message.recipient, sender: self.sender, "Body": text}
        return Post(url, headers, urlencode(form).encode())

    def refusal(self, status: int, answer: bytes) -> Undelivered:
        """Say why by the status and Twilio's number for it."""
        try:
            code = msgspec.json.decode(answer, type=_TwilioError).code
        except (msgspec.DecodeError, UnicodeDecodeError):
            code = None
        reason = f"HTTP {status}" if code is None else f"HTTP {status} Twilio {code}"
        return Undelivered(reason, permanent=_is_final(status) and code not in _TWILIO_SENDER_CODES)


def _is_final(status: int) -> bool:
    return status in _REFUSED and status not in _PASSING


def parse_sms_url(url: str) -> Webhook | Twilio:
    """Read ``https://host[:port]/path#whsec_SECRET[,whsec_OLD]`` or ``twilio://SID:TOKEN@host[:port]?from=SENDER``.

    Plain ``http://`` is for this machine only, and so is what ``twilio://`` makes of a host that is this machine.
    Secrets are base64 of 24 to 64 bytes.

    Raises:
        ValueError: if it is none; the text does not repeat it, as it holds secrets.
    """
    try:
        return _gateway(url)
    except ValueError:
        raise ValueError(_WRONG) from None


def _gateway(url: str) -> Webhook | Twilio:
    parts = urlsplit(url)
    host, _ = parts.hostname, parts.port
    if not host or not _PLAIN_URL.fullmatch(url):
        raise ValueError
    return _twilio(parts, host) if parts.scheme == "twilio" else _webhook(parts, host)


def _webhook(parts: SplitResult, host: str) -> Webhook:
    if "@" in parts.netloc or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise ValueError
    return Webhook(parts._replace(fragment="").geturl(), tuple(map(_secret, unquote(parts.fragment).split(","))))


def _secret(text: str) -> bytes:
    if not text.startswith(_SECRET_PREFIX):
        raise ValueError
    try:
        secret = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(secret) not in _SECRET_BYTES:
        raise ValueError
    return secret


def _twilio(parts: SplitResult, host: str) -> Twilio:
    # By hand: for a form's decoder the plus before a number is a space.
    asked = {name: unquote(value) for name, _, value in (each.partition("=") for each in parts.query.split("&"))}
    sender = asked.get("from", "")
    if not parts.username or not parts.password or asked.keys() != {"from"} or not _SENDER.fullmatch(sender):
        raise ValueError
    if parts.path not in {"", "/"} or parts.fragment:
        raise ValueError
    scheme = "http" if is_loopback(host) else "https"
    return Twilio(
        f"{scheme}://{parts.netloc.rpartition('@')[2]}", unquote(parts.username), unquote(parts.password), sender
    )


class SmsTransport:
    """Hands text messages to one gateway, over connections that are used again."""

    def __init__(self, url: str, texts: Texts, now: Callable[[], datetime]) -> None:
        """Read the URL; ``now`` tells how long a code is still good.

        Raises:
            ValueError: for a URL that is none.
        """
        self._gateway: Gateway = parse_sms_url(url)
        self._texts = texts
        self._now = now
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def send(self, message: Message, voice: Voice) -> None:
        """Hand one message over.

        Raises:
            Undelivered: unless the gateway answered 2xx; for good, if it answered 4xx, but for what the operator can
                mend (401, 403) and what passes (408, 429). It says when to come again if the gateway did.
        """
        post = self._gateway.post(message, self._texts.sms(message, self._now(), voice), self._now())
        client = await self._open()
        from httpx2 import HTTPError  # noqa: PLC0415 -- it is loaded by now, see _make_client

        request = client.build_request("POST", post.url, headers=post.headers, content=post.content)
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT):
                response = await client.send(request, stream=True)
        except (HTTPError, OSError) as error:
            raise Undelivered(named(error)) from error
        # The status decides: however slowly the rest comes, what was taken must not be sent again.
        answer = await _beginning(response)
        if response.status_code in _OK:
            return
        fault = self._gateway.refusal(response.status_code, answer)
        fault.retry_after = retry_span(response.headers.get("retry-after", ""), self._now())
        raise fault

    async def _open(self) -> httpx2.AsyncClient:
        async with self._making:
            if self._client is None:
                # Aside: a server that sends no text message never loads the client, and no request waits for it.
                self._client = await asyncio.to_thread(_make_client, proxied=self._gateway.encrypted)
            return self._client

    async def close(self) -> None:
        """Close the connections; another message opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _make_client(*, proxied: bool) -> httpx2.AsyncClient:
    """Make the client; what is not encrypted never goes to a proxy that the environment names."""
    import httpx2  # noqa: PLC0415 -- takes a tenth of a second

    return httpx2.AsyncClient(
        verify=ssl.create_default_context(),
        trust_env=proxied,
        follow_redirects=False,
        timeout=httpx2.Timeout(HAND_OVER_TIMEOUT, connect=_CONNECT_TIMEOUT),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=_KEPT_OPEN),
        headers={"user-agent": "schema-user", "accept": "application/json", "accept-encoding": "identity"},
    )


async def _beginning(response: httpx2.Response) -> bytes:
    """Read the answer as far as it is worth it; what is read to its end leaves the connection for the next."""
    from httpx2 import HTTPError  # noqa: PLC0415 -- likewise

    read = bytearray()
    with contextlib.suppress(HTTPError, OSError):
        async with asyncio.timeout(_READ_TIMEOUT), contextlib.aclosing(response):
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) > _LONGEST_ANSWER:
                    break
    return bytes(read[:_LONGEST_ANSWER])


def retry_span(retry_after: str, now: datetime) -> timedelta | None:
    """Read ``Retry-After``: seconds, or a date (RFC 9110, section 10.2.3); None for anything else."""
    with contextlib.suppress(ValueError, OverflowError):
        if retry_after.isdecimal():
            return timedelta(seconds=int(retry_after))
        at = parsedate_to_datetime(retry_after)
        return max(timedelta(), at.replace(tzinfo=at.tzinfo or UTC) - now)
    return None


def named(error: BaseException) -> str:
    """Name an error, and what it came from: their texts repeat hosts and what was sent."""
    origin = error
    while (before := origin.__cause__ or origin.__context__) is not None:
        origin = before
    name, first = type(error).__name__, type(origin).__name__
    return name if name == first else f"{name}: {first}"
