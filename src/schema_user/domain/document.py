"""A user's ``data`` as a JSON value: what may be stored, and when two documents are the same."""

from __future__ import annotations

from typing import Any, Final

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


def forbidden_key(key: str) -> str | None:
    """Say why a key cannot stand in ``data``, or None.

    MongoDB reads ``$`` and ``.`` in field names as operators and paths; ``__proto__`` poisons the objects of
    JavaScript clients.
    """
    if not key:
        return "an empty key is not allowed"
    if key[0] == "$":
        return "a key must not begin with $"
    if "." in key:
        return "a key must not contain a dot"
    if key == "__proto__":
        return "the key __proto__ is not allowed"
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 equals 1.0, true does not equal 1, the order of keys is nothing.

    Python's own comparison is coarser than JSON's only where a bool meets a number, so its cheap "no" is final and
    its "yes" is looked through once more.
    """
    return bool(one == other) and _same_bools(one, other)


def _same_bools(one: Any, other: Any) -> bool:
    """Whether bools stand at the same places of two values that Python calls equal. Depth is bounded by the body's."""
    if isinstance(one, dict):
        return all(_same_bools(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(_same_bools, one, other))
    return isinstance(one, bool) is isinstance(other, bool)


def pointer(*tokens: str | int) -> str:
    """Join reference tokens to a JSON Pointer without its leading slash (RFC 6901 escapes)."""
    return "/".join(str(token).replace("~", "~0").replace("/", "~1") for token in tokens)
