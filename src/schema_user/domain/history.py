"""What a change of a user leaves behind: who, when, by which request, and what changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.document import same

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from schema_user.domain.contact import Address
    from schema_user.domain.user import User

Change = dict[str, Any]
"""``pointer`` into the user as a reader sees it, and ``old``, ``new`` or both; one is absent where nothing was."""

MOST_CHANGES: Final = 1000
"""A change at more places than this is kept as one, of the whole."""

KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Origin:
    """Who causes a change: the token, the user it is bound to, the request."""

    token_id: str = ""
    user_id: str | None = None
    request_id: str = ""


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
    _compare("", old, new, found)
    if len(found) > MOST_CHANGES:
        return [{"pointer": "", "old": old, "new": new}]
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
    parts = [previous]
    for fact in facts:
        encoded = str(fact).encode()
        parts += (len(encoded).to_bytes(4, "big"), encoded)
    parts.append(hashlib.sha256(sealed).digest())
    return hashlib.sha256(b"".join(parts)).digest()
