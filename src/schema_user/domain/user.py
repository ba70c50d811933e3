"""Users, and what is true of them after a change."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from schema_user.domain.code import Binding
from schema_user.domain.contact import Channel, Contact
from schema_user.domain.credential import Credential
from schema_user.domain.document import same
from schema_user.domain.indexing import Entry
from schema_user.domain.message import Message

if TYPE_CHECKING:
    from schema_user.domain.contact import Address


class UserState(enum.StrEnum):
    """The state as a client sees it; locked hides active and inactive, which lie beneath it."""

    ACTIVE = "USER_STATE_ACTIVE"
    INACTIVE = "USER_STATE_INACTIVE"
    LOCKED = "USER_STATE_LOCKED"
    DELETED = "USER_STATE_DELETED"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that a user holds, other than for its username: of which kind, its id, and the nonce that confirms it."""

    kind: str
    claim_id: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits in a user's document to be relayed: its id and its size in bytes."""

    record_id: str
    size: int


class Creation(msgspec.Struct, frozen=True):
    """By which write a user was created, and who caused it: the token, the user that it acts as, the request."""

    write_id: str
    token_id: str
    user_id: str | None
    request_id: str


class User(msgspec.Struct, frozen=True, eq=False):
    """A user as it is stored; a struct, as a change copies it several times, which costs a dataclass ten times more.

    ``sequence`` rises by one with each change that a client can see; ``version`` with every write, so that it can
    guard the next one. ``revision`` is that of the schema which ``data`` passed. ``username_claim`` is the nonce of
    the claim that reserves the username. ``messages`` are those this change wants sent; they are not read back, only
    what of them is ``pending``. ``claims`` reserve other unique values; ``marking`` is the fingerprint of the plan by
    which its data was indexed and claimed, and ``indexed`` what this change wants indexed: not read back, and None
    where it stays as it is. ``credential`` is there once a password, or a code for one, was. ``key`` seals what is
    kept of the user elsewhere and goes with its deletion; ``chain`` is the digest of the last entry of its history.
    ``creation`` is there until the first change: so long the user is itself what the first entry would tell.
    """

    user_id: str
    organization_id: str
    schema_id: str
    revision: int
    data: dict[str, Any]
    created_at: datetime
    changed_at: datetime
    sequence: int = 1
    version: int = 1
    active: bool = True
    locked: bool = False
    deleted: bool = False
    contact: Contact = Contact()
    credential: Credential | None = None
    username: str | None = None
    username_claim: bytes | None = None
    claims: tuple[Claimed, ...] = ()
    marking: str = ""
    indexed: tuple[Entry, ...] | None = None
    messages: tuple[Message, ...] = ()
    pending: tuple[Waiting, ...] = ()
    pending_since: datetime | None = None
    key: bytes = b""
    chain: bytes = b""
    creation: Creation | None = None

    def __repr__(self) -> str:
        """Name the user; its values and its key are nobody's to read in a log."""
        return f"User({self.user_id!r}, version={self.version})"

    @property
    def usable(self) -> bool:
        """Whether codes may be made for this user: active and not locked."""
        return self.active and not self.locked and not self.deleted

    @property
    def state(self) -> UserState:
        """The state as a client sees it."""
        if self.deleted:
            return UserState.DELETED
        if self.locked:
            return UserState.LOCKED
        return UserState.ACTIVE if self.active else UserState.INACTIVE

    def with_data(self, data: dict[str, Any], schema_id: str, revision: int) -> User:
        """Give the user with validated data; equal data of the same revision leaves it as it is."""
        if same(self.data, data):
            data = self.data
        return replace(self, data=data, schema_id=schema_id, revision=revision)


class Transition(enum.StrEnum):
    """A change of state that a caller asks for."""

    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    LOCK = "lock"
    UNLOCK = "unlock"


def moved(user: User, transition: Transition) -> User | None:
    """Give the user in another state, codes dead if it is no longer usable; None if it is not in the state before."""
    if transition in {Transition.DEACTIVATE, Transition.REACTIVATE}:
        active = transition is Transition.REACTIVATE
        if user.active is active:
            return None
        after = replace(user, active=active)
    else:
        locked = transition is Transition.LOCK
        if user.locked is locked:
            return None
        after = replace(user, locked=locked)
    if after.usable:
        return after
    credential = None if after.credential is None else after.credential.without_codes()
    return replace(after, contact=after.contact.without_codes(), credential=credential)


def erased(user: User) -> User:
    """Give what stays of a deleted user: the id, so that it is not used again, and the facts of when."""
    return replace(
        user,
        deleted=True,
        active=False,
        data={},
        contact=Contact(),
        credential=None,
        username=None,
        username_claim=None,
        claims=(),
        marking="",
        indexed=None,
        messages=(),
    )


def visibly_changed(before: User, after: User) -> bool:
    """Whether a client could tell the two apart; codes and attempts are not seen.

    ``with_data`` keeps the stored object for equal data, so identity tells whether the data changed.
    """
    return (
        after.data is not before.data
        or (after.schema_id, after.revision) != (before.schema_id, before.revision)
        or after.username != before.username
        or (after.active, after.locked, after.deleted) != (before.active, before.locked, before.deleted)
        or _seen(after.contact) != _seen(before.contact)
        or password_changed(before, after)
    )


def password_changed(before: User | None, after: User) -> bool:
    """Whether a password was set; a hash that was only made anew is none."""
    old = None if before is None else before.credential
    if after.credential is old or after.credential is None:
        return False
    return after.credential.generation != (0 if old is None else old.generation)


def _seen(contact: Contact) -> tuple[tuple[str, bool] | None, ...]:
    return tuple(
        None if address is None else (address.value, address.is_verified) for address in (contact.email, contact.phone)
    )


def advanced(before: User, after: User, now: datetime) -> User | None:
    """Number a change: sequence and date rise if a client can see it, the version always. None: nothing to write.

    ``changed_at`` never goes back, whatever the clock does.
    """
    if visibly_changed(before, after):
        return replace(
            _without_stale_codes(before, after),
            sequence=before.sequence + 1,
            changed_at=max(now, before.changed_at),
            version=before.version + 1,
        )
    if after.contact != before.contact or after.messages or after.credential != before.credential:
        return replace(after, version=before.version + 1)
    return None


def _without_stale_codes(before: User, after: User) -> User:
    """Let the codes for a new password die with any of the addresses, to one of which they went."""
    if after.credential is None or not after.credential.reset.codes:
        return after
    if all(_value(before.contact.on(each)) == _value(after.contact.on(each)) for each in Channel):
        return after
    return replace(after, credential=after.credential.without_codes())


def _value(address: Address | None) -> str | None:
    return None if address is None else address.value


def binding(user: User, channel: Channel, address: Address) -> Binding:
    """Say what a code for a user's address is good for."""
    return Binding(user.organization_id, user.user_id, channel.value, address.value)


def preferred_language(data: dict[str, Any]) -> str | None:
    """Find the user's language: the string at ``/profile/preferredLanguage``, else at ``/preferredLanguage``."""
    profile = data.get("profile")
    for place in (profile, data):
        if isinstance(place, dict) and isinstance(found := place.get("preferredLanguage"), str):
            return found
    return None
