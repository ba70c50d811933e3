"""Messages to people, and the links in them."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import msgspec

from schema_user.domain.contact import Channel
from schema_user.domain.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable


VERIFY: Final = "verify"
PASSWORD_RESET: Final = "password_reset"  # noqa: S105 -- the name of a kind
ADDRESS_CHANGED: Final = "address_changed"
WEBHOOK: Final = "webhook"
"""Kind and channel of what goes to a webhook, and not to a person; it holds no code and no address."""

_PLACEHOLDER: Final = re.compile(r"\{\{\.(UserID|OrgID|Code)\}\}")
_BAD_CHARACTER: Final = re.compile(r"[\s\\\x00-\x1f\x7f]")


class Message(msgspec.Struct, frozen=True):
    """A message that waits to be sent; everything that tells whom or what is sealed before it is stored.

    ``message_id`` is made from the write that caused it, so that a repeated relay finds the same message again.
    ``code`` is the plain code, ``code_digest`` what the user's document knows of it (a dead code's message is
    dropped), ``other`` a masked address that the text speaks of.
    """

    message_id: str
    kind: str
    channel: Channel
    user_id: str
    organization_id: str
    recipient: str
    created_at: datetime
    language: str | None = None
    code: str | None = None
    code_digest: bytes | None = None
    expires_at: datetime | None = None
    url: str | None = None
    other: str | None = None


WAITING: Final = ("pending", "parked")
"""The states of a message that may still be sent; the others are ``sent`` and ``dropped``."""


class SeenMessage(msgspec.Struct, frozen=True):
    """What may be told of a message: never its code, its link or its text.

    ``channel`` is one to people, or ``webhook``. ``recipient`` is masked; None of a deleted user, or while no key that
    is set opens the message; of a webhook it is the host. ``user_id`` is None where a webhook is told of a schema, and
    ``organization_id`` where the webhook is the instance's. ``tries`` counts since the message was made or last
    retried. ``next_at`` is when a waiting message is due; of a ``leased`` one, which a worker sends just now, it is
    when the lease ends.
    """

    message_id: str
    kind: str
    channel: str
    user_id: str | None
    organization_id: str | None
    created_at: datetime
    state: str
    tries: int
    next_at: datetime
    leased: bool = False
    recipient: str | None = None
    last_error: str | None = None
    done_at: datetime | None = None
    webhook_id: str | None = None


def make_message_id(user_id: str, bits: int) -> str:
    """Make an id of 96 random bits; it names the user, by whom messages are kept together."""
    return f"{user_id}:{bits:024x}"


def user_of(message_id: str) -> str:
    """Give the user of a message."""
    return message_id.rpartition(":")[0]


def reference(message_id: str) -> str:
    """Name a message to the outside world: the same each time, and telling nothing of its user."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def template_problem(template: str, allowed_hosts: Iterable[str] | None) -> str | None:
    """Say what is wrong with a URL template, or None.

    ``allowed_hosts`` are the hosts it may lead to; None allows every one (the embedded default).
    """
    if _BAD_CHARACTER.search(template):
        return "must not contain white space or a backslash"
    bare = _PLACEHOLDER.sub("x", template)
    if "{" in bare or "}" in bare:
        return "may use the placeholders {{.UserID}}, {{.OrgID}} and {{.Code}} only"
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if host is None or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return "must be an absolute https URL (http only for loopback)"
    if parts.username is not None or parts.password is not None or port == 0:
        return "must not contain user information"
    first = _PLACEHOLDER.search(template)
    if first is not None and first.start() < len(f"{parts.scheme}://{parts.netloc}"):
        return "must not use a placeholder before the path"
    if allowed_hosts is not None and host not in allowed_hosts:
        return "leads to a host that is not allowed"
    return None


def fill(template: str, *, user_id: str, organization_id: str, code: str) -> str:
    """Put percent-encoded values in the places of a checked template."""
    values = {"UserID": user_id, "OrgID": organization_id, "Code": code}
    return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), template)
