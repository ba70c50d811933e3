"""What a change of a user leaves behind: who, when, by which request, and what changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from schema_user.domain.contact import Address, Contact
from schema_user.domain.document import same
from schema_user.domain.user import UserState, password_changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.user import User

Change = dict[str, Any]
"""``pointer`` into the user as a reader sees it, and ``old``, ``new`` or both; one is absent where nothing was.

Of a password nobody reads anything: that one was set is told without either.
"""

PASSWORD: Final = "/password"  # noqa: S105 -- a pointer

MOST_CHANGES: Final = 1000
"""A change at more places than this is kept as one, of the whole."""

KEY_BYTES: Final = 32

SHORTEST_TTL: Final = timedelta(days=1)
"""The least that the settings take: a younger entry that is not there did not expire."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who causes a change: the token, the user it is bound to, the request."""

    token_id: str = ""
    user_id: str | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is kept: the facts in the open, what changed sealed; nothing is sealed of an empty change."""

    entry_id: str
    user_id: str
    organization_id: str
    sequence: int
    at: datetime
    token_id: str
    request_id: str
    previous: bytes
    digest: bytes
    sealed: bytes
    actor_id: str | None = None
    expires_at: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether its digest is that of its facts and values, and of the entry before."""
        facts = (
            self.entry_id,
            self.user_id,
            self.organization_id,
            self.sequence,
            self.at.isoformat(),
            self.token_id,
            self.actor_id or "",
            self.request_id,
        )
        return link(self.previous, facts, self.sealed) == self.digest


def snapshot(user: User | None) -> dict[str, Any]:
    """Give a user as readers see it, without what names and numbers it; nothing for one that is not there."""
    if user is None or user.deleted:
        return {}
    seen: dict[str, Any] = {
        "schema": {"id": user.schema_id, "revision": user.revision},
        "state": user.state.value,
        "data": user.data,
    }
    if user.username is not None:
        seen["username"] = user.username
    contact = {}
    if user.contact.email is not None:
        contact["email"] = _seen("address", user.contact.email)
    if user.contact.phone is not None:
        contact["phone"] = _seen("number", user.contact.phone)
    if contact:
        seen["contact"] = contact
    return seen


def _seen(name: str, address: Address) -> dict[str, Any]:
    return {name: address.value, "isVerified": address.is_verified}


def changes(before: User | None, after: User) -> list[Change]:
    """List what differs between two states of a user, by JSON Pointers (RFC 6901).

    Arrays are compared item by item if they are equally long, else as a whole: an insertion would otherwise look like
    a change of everything behind it.
    """
    if after.deleted:
        # A deletion leaves no values behind, and what it removed is told by the entries before it.
        return []
    found: list[Change] = []
    old, new = snapshot(before), snapshot(after)
    if old:
        _compare("", old, new, found)
    else:
        found = [{"pointer": f"/{name}", "new": value} for name, value in new.items()]
    if len(found) > MOST_CHANGES:
        found = [{"pointer": "", "old": old, "new": new}]
    if password_changed(before, after):
        found.append({"pointer": PASSWORD})
    return found


def _compare(path: str, old: Any, new: Any, found: list[Change]) -> None:
    if old is new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key not in new:
                found.append({"pointer": f"{path}/{_token(key)}", "old": value})
            elif value is not (other := new[key]):
                _compare(f"{path}/{_token(key)}", value, other, found)
        if new.keys() != old.keys():
            found.extend({"pointer": f"{path}/{_token(key)}", "new": new[key]} for key in new if key not in old)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        if not same(old, new):
            for index, value in enumerate(old):
                _compare(f"{path}/{index}", value, new[index], found)
    elif not same(old, new):
        found.append({"pointer": path, "old": old, "new": new})


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def link(previous: bytes, facts: Sequence[str | int | datetime], sealed: bytes) -> bytes:
    """Give the digest of an entry: over that of the one before, over its facts, and over its sealed values.

    It does not need the values, so the chain can be checked after they were erased.
    """
    encoded = [str(fact).encode() for fact in facts]
    told = b"".join([len(each).to_bytes(4, "big") + each for each in encoded])
    return hashlib.sha256(previous + told + hashlib.sha256(sealed).digest()).digest()


def undo(seen: dict[str, Any], found: Sequence[Change]) -> dict[str, Any]:
    """Take changes back out of a snapshot, which may be altered in place, and give it as it was before them.

    No two of them lie within one another, so their order means nothing.
    """
    for change in found:
        if change["pointer"] == PASSWORD:
            continue
        tokens = ["", *change["pointer"].split("/")[1:]]
        whole: dict[str, Any] = {"": seen}
        where: Any = whole
        for token in tokens[:-1]:
            where = where[_key(where, token)]
        key = _key(where, tokens[-1])
        if "old" in change:
            where[key] = change["old"]
        else:
            del where[key]
        seen = whole[""]
    return seen


def _key(where: Any, token: str) -> str | int:
    return int(token) if isinstance(where, list) else token.replace("~1", "/").replace("~0", "~")


def as_of(user: User, seen: dict[str, Any], sequence: int, at: datetime) -> User:
    """Give a user as a snapshot shows it, at the sequence that it had since ``at``."""
    contact = seen.get("contact", {})
    email, phone = contact.get("email"), contact.get("phone")
    return replace(
        user,
        schema_id=seen["schema"]["id"],
        revision=seen["schema"]["revision"],
        data=seen["data"],
        active=seen["state"] != UserState.INACTIVE,
        locked=seen["state"] == UserState.LOCKED,
        username=seen.get("username"),
        contact=Contact(
            None if email is None else Address(email["address"], is_verified=email["isVerified"]),
            None if phone is None else Address(phone["number"], is_verified=phone["isVerified"]),
        ),
        sequence=sequence,
        changed_at=at,
    )


class ChainCheck:
    """Follows the entries of one user, from the oldest that is kept to the newest, and finds where they break.

    ``broken_at`` is the first sequence that is missing, does not follow the one before, or is not as it was written;
    ``begins_at`` that of the oldest entry, None without any; ``unordered`` says that an older entry expires after a
    newer one, so that there will be a gap.
    """

    def __init__(self) -> None:
        """Begin with no entry."""
        self.begins_at: int | None = None
        self.broken_at: int | None = None
        self.unordered = False
        self._last: Entry | None = None

    def take(self, entry: Entry | None) -> None:
        """Take the next entry; None stands for one that cannot be read."""
        if self.broken_at is not None:
            return
        last = self._last
        following = None if last is None else last.sequence + 1
        if entry is None:
            self.broken_at = following or 1
        elif last is not None and entry.sequence != following:
            self.broken_at = following
        elif (
            not entry.whole
            or (last is not None and entry.previous != last.digest)
            or (entry.sequence == 1 and entry.previous)
        ):
            self.broken_at = entry.sequence
        else:
            self.begins_at = entry.sequence if last is None else self.begins_at
            self.unordered = self.unordered or (last is not None and _outlives(last, entry))
            self._last = entry

    def end(self, sequence: int, chain: bytes, *, may_lack_first: bool, may_lack_all: bool) -> None:
        """Compare the newest entry with what its user's document says of it, and the oldest with what may be gone."""
        last = self._last
        if self.broken_at is not None:
            return
        if not may_lack_first and self.begins_at != 1:
            self.broken_at = 1
        elif last is None:
            self.broken_at = None if may_lack_all else 1
        elif last.sequence != sequence:
            self.broken_at = min(last.sequence + 1, sequence)
        elif last.digest != chain:
            self.broken_at = sequence


def _outlives(one: Entry, other: Entry) -> bool:
    return other.expires_at is not None and (one.expires_at is None or one.expires_at > other.expires_at)
