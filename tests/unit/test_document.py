from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_user.domain.document import forbidden_key, pointer, same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": [True]}, {"a": [1]}, False),
        ([{"a": [0, {"b": False}]}], [{"a": [0, {"b": False}]}], True),
        ([{"a": [0, {"b": False}]}], [{"a": [0, {"b": 0}]}], False),
        (None, False, False),
        ("", None, False),
        ([1, 2], [2, 1], False),
        (2**53, float(2**53), True),
        (2**53 + 1, float(2**53), False),
    ],
    ids=repr,
)
def test_equality_is_that_of_json(one: Any, other: Any, equal: bool) -> None:
    """Numbers are equal by value, bools are no numbers, the order of keys is nothing."""
    assert same(one, other) is equal
    assert same(other, one) is equal


def canonical(value: Any) -> Any:
    """Write a JSON value so that Python's own equality is JSON's."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: canonical(member) for key, member in value.items()}
    if isinstance(value, list):
        return [canonical(member) for member in value]
    return value


@given(JSON, JSON)
def test_equality_agrees_with_a_plain_definition(one: Any, other: Any) -> None:
    """Whatever the two values are."""
    assert same(one, other) is (canonical(one) == canonical(other))
    assert same(one, one)


@pytest.mark.parametrize(
    ("key", "allowed"),
    [("a", True), ("a$", True), ("proto", True), ("", False), ("$a", False), ("a.b", False), ("__proto__", False)],
    ids=repr,
)
def test_keys_that_the_database_would_misread_are_forbidden(key: str, allowed: bool) -> None:
    """Operators, paths, the empty key and JavaScript's trap."""
    assert (forbidden_key(key) is None) is allowed


def test_pointers_escape_their_tokens() -> None:
    """Tilde and slash, as in RFC 6901."""
    assert pointer("data", "a/b", 0, "~") == "data/a~1b/0/~0"
