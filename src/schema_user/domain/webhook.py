"""Webhooks: who is told of changes, which changes there are to tell of, and what is told.

A receiver learns ids, the sequence and the places that changed, never a value: what it wants to know it reads by its
own token, and sees what that may see.
"""

from __future__ import annotations

import enum
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from schema_user.domain.contact import Channel
from schema_user.domain.history import changes
from schema_user.domain.loopback import is_loopback
from schema_user.domain.message import make_message_id, reference
from schema_user.domain.schema import SchemaState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User

MOST_WEBHOOKS: Final = 20
"""Webhooks of one organization."""

MOST_OF_INSTANCE: Final = 5
"""Webhooks of the instance; with an organization's they must fit into what may wait in one user's document."""

URL_MAX_CHARACTERS: Final = 2000
MOST_POINTERS: Final = 100
_MOST_POINTER_CHARACTERS: Final = 4096
"""A change at more places, or at places with longer names, is told as one of the whole: an empty pointer."""

_PLAIN_URL: Final = re.compile(r"[!-~]+")


class EventType(enum.StrEnum):
    """What a webhook can be told of."""

    USER_CREATED = "user.created"
    USER_UPDATED = "user.updated"
    USER_DELETED = "user.deleted"
    USER_DEACTIVATED = "user.deactivated"
    USER_REACTIVATED = "user.reactivated"
    USER_LOCKED = "user.locked"
    USER_UNLOCKED = "user.unlocked"
    EMAIL_CHANGED = "user.email.changed"
    EMAIL_VERIFIED = "user.email.verified"
    PHONE_CHANGED = "user.phone.changed"
    PHONE_VERIFIED = "user.phone.verified"
    SCHEMA_CREATED = "schema.created"
    SCHEMA_UPDATED = "schema.updated"
    SCHEMA_DEACTIVATED = "schema.deactivated"
    SCHEMA_REACTIVATED = "schema.reactivated"
    SCHEMA_DELETED = "schema.deleted"


class Secret(msgspec.Struct, frozen=True):
    """A key that signs; one that was replaced signs beside its successor until ``expires_at``."""

    key: bytes
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        """Say nothing of the key."""
        return f"Secret(expires_at={self.expires_at})"


class Webhook(msgspec.Struct, frozen=True):
    """A URL that an organization, or the instance (``organization_id`` None), subscribed to event types.

    That of an organization hears of its users and of its own schemas, that of the instance of everything. With
    ``gone`` its receiver answered 410, which ended ``active``. ``version`` counts every write and guards the next.
    """

    webhook_id: str
    organization_id: str | None
    url: str
    event_types: tuple[EventType, ...]
    secrets: tuple[Secret, ...]
    created_at: datetime
    changed_at: datetime
    active: bool = True
    gone: bool = False
    version: int = 1

    @property
    def host(self) -> str:
        """The host that is told: all that lists of messages show of the URL, which may hold credentials."""
        return urlsplit(self.url).hostname or ""

    def keys(self, now: datetime) -> list[bytes]:
        """Give the keys that sign at a time, the newest first."""
        return [each.key for each in self.secrets if each.expires_at is None or now < each.expires_at]


class Occurrence(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change, as receivers are told of it; ``changes`` are JSON Pointers into the resource as readers see it."""

    at: datetime
    sequence: int
    organization_id: str | None = None
    user_id: str | None = None
    schema_id: str | None = None
    request_id: str = ""
    changes: tuple[str, ...] = ()

    @property
    def subject_id(self) -> str:
        """The id of what changed."""
        return self.user_id or self.schema_id or ""


class Delivery(msgspec.Struct, frozen=True):
    """What one webhook is told of one change: an event for each of ``types``, all of it tried again together."""

    message_id: str
    webhook_id: str
    organization_id: str | None
    host: str
    types: tuple[EventType, ...]
    occurrence: Occurrence
    created_at: datetime

    def events(self) -> list[tuple[str, bytes]]:
        """Give the id and the body of each event; the same each time, so that a receiver can drop doubles."""
        name, told = reference(self.message_id), self.occurrence
        found = []
        for number, event_type in enumerate(self.types, 1):
            body: dict[str, Any] = {
                "id": f"{name}.{number}",
                "type": event_type.value,
                "occurredAt": told.at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
                "organizationId": told.organization_id,
                "userId": told.user_id,
                "schemaId": told.schema_id,
                "sequence": str(told.sequence),
                "requestId": told.request_id or None,
                "changes": told.changes or None,
            }
            content = msgspec.json.encode({key: value for key, value in body.items() if value is not None})
            found.append((body["id"], content))
        return found


def deliveries(
    webhooks: Sequence[Webhook],
    types: Sequence[EventType],
    occurrence: Occurrence,
    now: datetime,
    random_bits: Callable[[int], int],
) -> list[Delivery]:
    """Say what each webhook is told of a change that is of these types."""
    found = []
    for webhook in webhooks:
        wanted = tuple(each for each in types if each in webhook.event_types)
        if wanted:
            message_id = make_message_id(occurrence.subject_id, random_bits(96))
            owner = webhook.organization_id
            found.append(Delivery(message_id, webhook.webhook_id, owner, webhook.host, wanted, occurrence, now))
    return found


def user_event_types(before: User | None, after: User, pointers: Sequence[str]) -> list[EventType]:
    """Say what a change of a user is; ``pointers`` are the places at which it changed.

    ``user.updated`` is every change but that of the state; those of contacts come beside it.
    """
    if after.deleted:
        return [EventType.USER_DELETED]
    if before is None:
        found = [EventType.USER_CREATED]
    else:
        found = [EventType.USER_UPDATED] if any(each != "/state" for each in pointers) else []
        if before.active is not after.active:
            found.append(EventType.USER_REACTIVATED if after.active else EventType.USER_DEACTIVATED)
        if before.locked is not after.locked:
            found.append(EventType.USER_LOCKED if after.locked else EventType.USER_UNLOCKED)
    pairs = (
        (Channel.EMAIL, EventType.EMAIL_CHANGED, EventType.EMAIL_VERIFIED),
        (Channel.PHONE, EventType.PHONE_CHANGED, EventType.PHONE_VERIFIED),
    )
    for channel, changed, verified in pairs:
        old = None if before is None else before.contact.on(channel)
        new = after.contact.on(channel)
        moved = (old and old.value) != (new and new.value)
        if moved and before is not None:
            found.append(changed)
        verified_before = old is not None and old.is_verified and not moved
        if new is not None and new.is_verified and not verified_before:
            found.append(verified)
    return found


def user_pointers(before: User | None, after: User) -> tuple[str, ...]:
    """List the places at which a user changed, as its history does, or the whole if there are too many."""
    found = tuple(each["pointer"] for each in changes(before, after))
    if len(found) > MOST_POINTERS or sum(map(len, found)) > _MOST_POINTER_CHARACTERS:
        return ("",)
    return found


def schema_event_types(before: UserSchema | None, after: UserSchema | None) -> list[EventType]:
    """Say what a change of a schema is; ``after`` None: it was deleted."""
    if after is None:
        return [EventType.SCHEMA_DELETED]
    if before is None:
        return [EventType.SCHEMA_CREATED]
    found = []
    if any(each != "/state" for each in schema_pointers(before, after)):
        found.append(EventType.SCHEMA_UPDATED)
    if before.state is not after.state:
        active = after.state is SchemaState.ACTIVE
        found.append(EventType.SCHEMA_REACTIVATED if active else EventType.SCHEMA_DEACTIVATED)
    return found


def schema_pointers(before: UserSchema | None, after: UserSchema | None) -> tuple[str, ...]:
    """List the fields of a schema that changed, as they are called where it is read."""
    if before is None or after is None:
        return ()
    pairs = (
        ("/type", before.type, after.type),
        ("/state", before.state, after.state),
        ("/revision", before.revision, after.revision),
        ("/schema", before.text, after.text),
        ("/possibleAuthenticators", before.authenticators, after.authenticators),
        ("/compatibility", before.compatibility, after.compatibility),
    )
    return tuple(pointer for pointer, old, new in pairs if old != new)


def url_problem(url: str) -> str | None:
    """Say what is wrong with a receiver's URL, whatever its host resolves to, or None."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not _PLAIN_URL.fullmatch(url) or "\\" in url:
        return "must consist of printable ASCII characters, without a backslash"
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return "must be an absolute https URL (http only for loopback)"
    if "@" in parts.netloc or port == 0:
        return "must not contain user information"
    if "#" in url:
        return "must not contain a fragment"
    return None
