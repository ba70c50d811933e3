from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schema_user.domain.contact import Address, Contact
from schema_user.domain.document import same
from schema_user.domain.field_access import FieldRole
from schema_user.domain.history import MOST_CHANGES, SHORTEST_TTL, changes, link, snapshot
from schema_user.domain.history_access import Accesses, seen_changes, seen_data
from schema_user.domain.user import User, erased
from schema_user.settings import SettingsError, read_settings
from schema_user.validation.permission_keyword import KEYWORD, compile_permissions

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def user(**values: Any) -> User:
    """Make a user."""
    made = User("u", "o", "s", 1, {}, NOW, NOW)
    return structs.replace(made, **values)


def of_data(old: Any, new: Any) -> list[dict[str, Any]]:
    """Give the changes between two users that differ in their data."""
    return changes(user(data=old), user(data=new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": True}, [{"pointer": "/data/a", "old": 1, "new": True}]),
        ({"a": None}, {}, [{"pointer": "/data/a", "old": None}]),
        ({}, {"a": None}, [{"pointer": "/data/a", "new": None}]),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3, "d": 2}}}, [("/data/a/b/c", 1, 3)]),
        ({"a": {"b": 1}}, {"a": [1]}, [("/data/a", {"b": 1}, [1])]),
        ({"a": [1, {"x": 1}, 3]}, {"a": [1, {"x": 2}, 4]}, [("/data/a/1/x", 1, 2), ("/data/a/2", 3, 4)]),
        ({"a": [1, 2]}, {"a": [0, 1, 2]}, [("/data/a", [1, 2], [0, 1, 2])]),
        ({"a": []}, {"a": {}}, [("/data/a", [], {})]),
        ({"a/b": 1}, {"a/b": 2}, [("/data/a~1b", 1, 2)]),
        ({"a~b": 1}, {"a~b": 2}, [("/data/a~0b", 1, 2)]),
        ({"~1": {"/~": 1}}, {"~1": {"/~": 2}}, [("/data/~01/~1~0", 1, 2)]),
    ],
    ids=repr,
)
def test_data_is_compared_by_pointers(old: Any, new: Any, expected: list[Any]) -> None:
    """Down to the value that differs; arrays of other lengths as a whole; escaped as RFC 6901 says."""
    wanted = [
        dict(zip(("pointer", "old", "new"), each, strict=True)) if isinstance(each, tuple) else each
        for each in expected
    ]
    assert of_data(old, new) == wanted


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"username": "x"}, [{"pointer": "/username", "new": "x"}]),
        ({"username": "x"}, {"username": "y"}, [{"pointer": "/username", "old": "x", "new": "y"}]),
        ({"username": "x"}, {}, [{"pointer": "/username", "old": "x"}]),
        (
            {},
            {"active": False},
            [{"pointer": "/state", "old": "USER_STATE_ACTIVE", "new": "USER_STATE_INACTIVE"}],
        ),
        ({"locked": True}, {"locked": True, "active": False}, []),
        ({}, {"schema_id": "t"}, [{"pointer": "/schema/id", "old": "s", "new": "t"}]),
        ({}, {"revision": 2}, [{"pointer": "/schema/revision", "old": 1, "new": 2}]),
        (
            {},
            {"contact": Contact(Address("a@example.com"))},
            [{"pointer": "/contact", "new": {"email": {"address": "a@example.com", "isVerified": False}}}],
        ),
        (
            {"contact": Contact(Address("a@example.com"))},
            {"contact": Contact(Address("a@example.com", is_verified=True))},
            [{"pointer": "/contact/email/isVerified", "old": False, "new": True}],
        ),
        (
            {"contact": Contact(Address("a@example.com"))},
            {"contact": Contact(Address("a@example.com"), Address("+41791234567"))},
            [{"pointer": "/contact/phone", "new": {"number": "+41791234567", "isVerified": False}}],
        ),
        (
            {"contact": Contact(None, Address("+41791234567"))},
            {},
            [{"pointer": "/contact", "old": {"phone": {"number": "+41791234567", "isVerified": False}}}],
        ),
        (
            {"contact": Contact(Address("a@example.com"))},
            {"contact": Contact(Address("a@example.com", failed=3))},
            [],
        ),
    ],
    ids=lambda value: None,
)
def test_the_rest_of_a_user_is_compared_as_a_reader_sees_it(
    old: dict[str, Any], new: dict[str, Any], expected: list[Any]
) -> None:
    """Username, state, schema and contact; what no reader sees is no change."""
    assert changes(user(**old), user(**new)) == expected


def test_a_new_user_is_all_new() -> None:
    """No change has an old value."""
    found = changes(None, user(username="x", data={"a": 1}))
    assert {each["pointer"] for each in found} == {"/schema", "/state", "/data", "/username"}
    assert all("old" not in each for each in found)


@pytest.mark.parametrize(("count", "listed"), [(MOST_CHANGES, MOST_CHANGES), (MOST_CHANGES + 1, 1)])
def test_too_many_changes_become_one(count: int, listed: int) -> None:
    """Of the whole user."""
    old, new = user(data={"a": [0] * count}), user(data={"a": [1] * count})
    found = changes(old, new)
    assert len(found) == listed
    if listed == 1:
        assert found == [{"pointer": "", "old": snapshot(old), "new": snapshot(new)}]


def test_a_deletion_lists_no_change() -> None:
    """What it removed must not live on in it."""
    before = user(username="x", data={"a": 1}, contact=Contact(Address("a@example.com")))
    assert changes(before, erased(before)) == []
    assert snapshot(erased(before)) == snapshot(None) == {}


def applied(old: Any, found: list[dict[str, Any]]) -> Any:
    """Apply what changes say of the new state, as any reader of JSON Pointers would."""
    whole: dict[str, Any] = {"": copy.deepcopy(old)}
    for change in found:
        where: Any = whole
        key: Any = ""
        for token in change["pointer"].split("/")[1:]:
            where = where[key]
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(where, list):
                key = int(key)
        if "new" in change:
            where[key] = change["new"]
        else:
            del where[key]
    return whole[""]


SCALAR = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.5, "", "x"])
KEY = st.text("ab~/01", min_size=1, max_size=3)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3), max_leaves=15
)
ADDRESS = st.none() | st.builds(Address, st.sampled_from(["a", "b"]), is_verified=st.booleans())
USER = st.builds(
    user,
    data=st.dictionaries(KEY, VALUE, max_size=4),
    username=st.none() | st.sampled_from(["x", "y"]),
    active=st.booleans(),
    locked=st.booleans(),
    revision=st.integers(1, 2),
    contact=st.builds(Contact, ADDRESS, ADDRESS),
)


@given(USER, USER)
def test_the_new_values_lead_from_the_old_state_to_the_new(before: User, after: User) -> None:
    """And the old values are those that were there."""
    found = changes(before, after)
    assert same(applied(snapshot(before), found), snapshot(after))
    assert len({each["pointer"] for each in found}) == len(found)
    back = [{"pointer": each["pointer"]} | ({"new": each["old"]} if "old" in each else {}) for each in reversed(found)]
    assert same(applied(snapshot(after), back), snapshot(before))


FACTS = ("id", "u", "o", 1, NOW.isoformat(), "token", "", "request")


def test_a_link_is_over_each_part() -> None:
    """Over the digest of before, each fact and its place, and the sealed values."""
    links = [
        link(b"", FACTS, b"sealed"),
        link(b"p" * 32, FACTS, b"sealed"),
        link(b"", FACTS, b"sealee"),
        link(b"", FACTS, b""),
        link(b"", FACTS[:-1], b"sealed"),
        link(b"", (*FACTS, ""), b"sealed"),
        link(b"", FACTS[::-1], b"sealed"),
        link(b"", ("i", "du", *FACTS[2:]), b"sealed"),
        *(link(b"", (*FACTS[:at], "other", *FACTS[at + 1 :]), b"sealed") for at in range(len(FACTS))),
    ]
    assert len(set(links)) == len(links)
    assert {len(each) for each in links} == {32}
    assert link(b"", FACTS, b"sealed") == links[0]


def reading(schema: dict[str, Any]) -> Accesses:
    """Give what a user may read of itself under a schema."""
    permissions = compile_permissions(schema, "2020-12")
    return () if permissions is None else (permissions.of(FieldRole.SELF),)


HIDDEN: dict[str, Any] = {KEYWORD: {"owner": "rw"}}
SHOWN: dict[str, Any] = {KEYWORD: {"self": "r"}}
SECRET = {"pointer": "/data/a", "old": "secret", "new": "secret too"}


@pytest.mark.parametrize(
    ("schema", "change", "expected"),
    [
        ({"properties": {"a": HIDDEN}}, SECRET, {"pointer": "/data"}),
        ({"properties": {"b": HIDDEN}}, SECRET, SECRET),
        ({"properties": {"a": HIDDEN}}, {"pointer": "/username", "new": "x"}, {"pointer": "/username", "new": "x"}),
        ({"properties": {"a": HIDDEN}}, {"pointer": "/data/a/b/c", "new": 1}, {"pointer": "/data"}),
        (
            {"properties": {"a": {"properties": {"b": HIDDEN}}}},
            {"pointer": "/data/a/b/c", "new": 1},
            {"pointer": "/data/a"},
        ),
        (
            {"properties": {"a": {**HIDDEN, "properties": {"b": SHOWN}}}},
            {"pointer": "/data/a", "old": {"b": 1, "c": 2}, "new": {"c": 2}},
            {"pointer": "/data/a", "old": {"b": 1}},
        ),
        (
            {"properties": {"a": {**HIDDEN, "properties": {"b": SHOWN}}}},
            {"pointer": "/data/a/b", "old": 1, "new": 2},
            {"pointer": "/data/a/b", "old": 1, "new": 2},
        ),
        (
            {"properties": {"a": {"items": {"properties": {"k": HIDDEN}}}}},
            {"pointer": "/data/a", "old": [{"k": 1}], "new": [{"k": 2}]},
            {"pointer": "/data/a"},
        ),
        (
            {"properties": {"a": {"items": {"properties": {"k": HIDDEN}}}}},
            {"pointer": "/data/a/0/l", "old": 1, "new": 2},
            {"pointer": "/data/a/0/l", "old": 1, "new": 2},
        ),
        (
            {"properties": {"a": {"prefixItems": [{}, HIDDEN]}}},
            {"pointer": "/data/a/0", "new": 1},
            {"pointer": "/data/a"},
        ),
        (
            {"properties": {"a": {"items": {"items": HIDDEN}}}},
            {"pointer": "/data/a/0/b", "new": 1},
            {"pointer": "/data/a"},
        ),
        (
            {"properties": {"a": {"properties": {"0": HIDDEN}}}},
            {"pointer": "/data/a/0", "new": 1},
            {"pointer": "/data/a"},
        ),
        ({"properties": {"00": HIDDEN}}, {"pointer": "/data/01", "new": 1}, {"pointer": "/data/01", "new": 1}),
        ({"properties": {"x/y~": HIDDEN}}, {"pointer": "/data/x~1y~0/z", "new": 1}, {"pointer": "/data"}),
        (
            {"properties": {"a": HIDDEN}},
            {"pointer": "/data/" + "9" * 5000, "new": 1},
            {"pointer": "/data/" + "9" * 5000, "new": 1},
        ),
        (HIDDEN, {"pointer": "/data", "new": {"a": 1}}, {"pointer": "/data"}),
        (
            {"properties": {"a": HIDDEN}},
            {"pointer": "", "old": {}, "new": {"state": "s", "data": {"a": 1, "b": 2}}},
            {"pointer": "", "old": {}, "new": {"state": "s", "data": {"b": 2}}},
        ),
        (
            {"properties": {"a": HIDDEN}},
            {"pointer": "", "old": {"data": {"a": 1}}, "new": {"data": {"a": 2}}},
            {"pointer": ""},
        ),
    ],
    ids=repr,
)
def test_hidden_values_are_left_out(schema: dict[str, Any], change: dict[str, Any], expected: dict[str, Any]) -> None:
    """What is told instead is the nearest place that may be read; arrays are known by their index or not at all."""
    access = reading(schema)
    assert seen_changes([change], access, access) == [expected]
    assert seen_changes([change], (), ()) == [change]


def test_each_value_is_read_by_its_own_schema() -> None:
    """The old one by the one before the change, the new one by the one after; both must know it."""
    hidden = reading({"properties": {"a": HIDDEN}})
    assert seen_changes([SECRET], hidden, ()) == [{"pointer": "/data/a", "new": "secret too"}]
    assert seen_changes([SECRET], (), hidden) == [{"pointer": "/data/a", "old": "secret"}]
    assert seen_changes([SECRET], None, ()) == [{"pointer": "/data/a", "new": "secret too"}]
    assert seen_changes([SECRET], None, hidden) == [{"pointer": "/data"}]
    whole = {"pointer": "", "old": {"data": {"a": 1}}, "new": {"data": {"a": 2}}}
    assert seen_changes([whole], None, ()) == [{"pointer": "", "old": {"data": {}}, "new": {"data": {"a": 2}}}]
    assert seen_data({"a": 1}, None) == {}
    assert seen_data({"a": 1, "b": 2}, (*(hidden or ()), *(reading({"properties": {"b": HIDDEN}}) or ()))) == {}


def test_many_hidden_changes_are_told_as_one() -> None:
    """The number of hidden places is hidden too."""
    listed = [{"pointer": f"/data/a/{name}", "new": 1} for name in "xyz"]
    access = reading({"properties": {"a": HIDDEN}})
    assert seen_changes(listed, access, access) == [{"pointer": "/data"}]


def test_entries_are_kept_for_a_day_at_least() -> None:
    """What the check of the chains relies on is what the settings refuse to go below."""
    shortest = {"SCHEMA_USER_HISTORY_TTL": f"{int(SHORTEST_TTL.total_seconds())}s"}
    assert read_settings(shortest).history_ttl == SHORTEST_TTL
    assert read_settings({}).history_ttl is None
    with pytest.raises(SettingsError, match="SCHEMA_USER_HISTORY_TTL"):
        read_settings({"SCHEMA_USER_HISTORY_TTL": f"{int(SHORTEST_TTL.total_seconds()) - 1}s"})
