"""Whatever users' data is: a webhook is told where it changed, and never what it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schema_user.domain.contact import Address, Contact
from schema_user.domain.user import User, advanced
from schema_user.domain.webhook import (
    MOST_POINTERS,
    EventType,
    Occurrence,
    Webhook,
    deliveries,
    user_event_types,
    user_pointers,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
MARK = "VALUE"
VALUES = st.one_of(st.text().map(lambda text: MARK + text), st.integers(7_777_000_000, 7_777_999_999))
KEYS = st.text("abcxyz/~ü", min_size=1, max_size=4)
DATA = st.dictionaries(
    KEYS,
    st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)),
    max_size=6,
)
ADDRESSES = st.none() | st.builds(Address, st.text(min_size=1).map(lambda text: MARK + text), is_verified=st.booleans())
WEBHOOK = Webhook("w", "o", "https://example.com/", tuple(EventType), (), NOW, NOW)


def told(before: User | None, after: User) -> list[dict[str, Any]]:
    """Give the events of a change, as they are sent."""
    pointers = user_pointers(before, after)
    occurrence = Occurrence(after.changed_at, after.sequence, after.organization_id, after.user_id, changes=pointers)
    types = user_event_types(before, after, pointers)
    made = deliveries([WEBHOOK], types, occurrence, NOW, lambda _: 1)
    bodies = [body for delivery in made for _, body in delivery.events()]
    for body in bodies:
        assert MARK.encode() not in body
        assert b"7777" not in body
        assert len(body) < 8 * 1024
    return [json.loads(body) for body in bodies]


def resolves(document: Any, pointer: str) -> bool:
    """Whether something is at a JSON Pointer."""
    for token in pointer.split("/")[1:]:
        key: Any = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list):
            key = int(key)
            if key >= len(document):
                return False
        elif not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


@given(DATA, DATA, ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES)
def test_events_hold_no_values(
    old: dict[str, Any],
    new: dict[str, Any],
    email: Address | None,
    phone: Address | None,
    email_then: Address | None,
    phone_then: Address | None,
) -> None:
    """Of a creation, an update and a deletion; each pointer leads to what was or is there."""
    before = User("u", "o", "s", 1, old, NOW, NOW, contact=Contact(email, phone), username=MARK)
    assert told(None, before)[0]["type"] == "user.created"
    after = advanced(
        before, structs.replace(before.with_data(new, "s", 1), contact=Contact(email_then, phone_then)), NOW
    )
    if after is None or after.sequence == before.sequence:
        return
    events = told(before, after)
    types = [each["type"] for each in events]
    assert types[0] == "user.updated"
    moved = (email and email.value) != (email_then and email_then.value)
    assert ("user.email.changed" in types) is moved
    verified = email_then is not None and email_then.is_verified
    assert ("user.email.verified" in types) is (verified and (moved or not (email and email.is_verified)))
    for pointer in events[0]["changes"]:
        if pointer.startswith("/data"):
            assert resolves({"data": old}, pointer) or resolves({"data": new}, pointer)
    gone = structs.replace(after, deleted=True, sequence=after.sequence + 1)
    assert [each["type"] for each in told(after, gone)] == ["user.deleted"]
    assert "changes" not in told(after, gone)[0]


@given(st.integers(1, 3 * MOST_POINTERS), st.integers(1, 200))
def test_many_places_are_told_as_the_whole(count: int, length: int) -> None:
    """What is told stays small, however many places changed and however long their names are."""
    before = User("u", "o", "s", 1, {}, NOW, NOW)
    data = {f"{number:03}{'n' * length}": MARK for number in range(count)}
    after = advanced(before, before.with_data(data, "s", 1), NOW)
    assert after is not None
    [event] = told(before, after)
    few = count <= MOST_POINTERS and count * (length + len("/data/000")) <= 4096
    assert event["changes"] == ([f"/data/{name}" for name in data] if few else [""])
