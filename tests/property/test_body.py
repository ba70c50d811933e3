"""The decoder of bodies, whatever bytes it is given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schema_user.api.body import decode
from schema_user.api.v3alpha.users import UpdateUserBody
from schema_user.errors import Malformed

KEYS = st.text(st.characters(exclude_characters="$.\x00", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda key: key != "__proto__"
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


def outcome(raw: bytes) -> UpdateUserBody | Malformed:
    """Decode, and give the body or the refusal."""
    try:
        return decode(raw, UpdateUserBody, 64)
    except Malformed as fault:
        return fault


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_every_good_document_arrives_unchanged(data: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    """However it is written, also where strings look like keys."""
    raw = json.dumps({"data": data}, indent=indent, ensure_ascii=ascii_only).encode()
    assert decode(raw, UpdateUserBody, 64).data == data


@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.text('{}[]":,\\ab1.e-u0 \n', max_size=40).map(str.encode)
)
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    """The decoder gives a body or Malformed, never another error."""
    assert isinstance(outcome(raw), UpdateUserBody | Malformed)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "a\\u0062", "ab"]), st.integers(0, 9)), max_size=5))
def test_a_repeated_key_is_always_found(pairs: list[tuple[str, int]]) -> None:
    """Also when it is written in two ways."""
    raw = '{"data": {' + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}}"
    names = [json.loads(f'"{key}"') for key, _ in pairs]
    result = outcome(raw.encode())
    rules = {violation.reason for violation in result.violations} if isinstance(result, Malformed) else set()
    assert rules == ({"duplicateKey"} if len(set(names)) < len(names) else set())


@given(VALUES)
def test_any_json_value_in_any_field_is_judged(value: Any) -> None:
    """The envelope's fields take what they take; anything else is refused with a pointer into that field."""
    for name in ("schemaId", "username", "contact", "data"):
        result = outcome(msgspec.json.encode({name: value}))
        if isinstance(result, Malformed):
            assert {violation.field.split("/")[0] for violation in result.violations} == {name}
