"""What of a user's history a caller may read.

A value is shown if the caller may read it at its place twice: under the schema of today, and under the one that the
user had then. What changed elsewhere is told of the nearest place around it that may be read, without values.

An entry has pointers and no document, so whether ``/data/a/0`` leads to an item or to a member named ``0`` is not
known: then both must be readable. And as an array of which one item is hidden is left out as a whole, nothing inside
an array is shown unless every item that it could have is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.document import same
from schema_user.domain.field_access import OPEN, READ

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schema_user.domain.field_access import FieldAccess, Rule
    from schema_user.domain.history import Change

    Place = tuple[Rule, int]
    """A rule, and what the role may do around its place."""

Accesses = tuple["FieldAccess", ...] | None
"""All of these must permit a read; none: everything is permitted. None: nothing is, as a schema is not known."""

_DATA: Final = "/data"
_HIDDEN: Final[Any] = object()
_INDEX_DIGITS: Final = 7
"""Digits of an index at most: a document has less than ten million items."""


def seen_data(data: dict[str, Any], accesses: Accesses) -> dict[str, Any]:
    """Give what may be read of a whole document."""
    if accesses is None:
        return {}
    for access in accesses:
        data = access.visible(data)
    return data


def seen_changes(changes: Iterable[Change], before: Accesses, after: Accesses) -> list[Change]:
    """Give what may be read of the changes of one entry, ``before`` of their old values and ``after`` of the new."""
    seen: dict[str, Change] = {}
    for change in changes:
        found = _seen_change(change, before, after)
        seen.setdefault(found["pointer"], found)
    return list(seen.values())


def _seen_change(change: Change, before: Accesses, after: Accesses) -> Change:
    pointer = change["pointer"]
    if pointer and pointer != _DATA and not pointer.startswith(_DATA + "/"):
        return change
    tokens = pointer.split("/")[2:]
    shown = {}
    for name, accesses in (("old", before), ("new", after)):
        if name in change:
            value = change[name]
            value = _seen_value(value, tokens, accesses) if pointer else _seen_whole(value, accesses)
            if value is not _HIDDEN:
                shown[name] = value
    if not shown:
        # Never the place itself: an array that is left out for one of its items stands where one may read.
        depth = min(_readable_depth(tokens, before, after), max(len(tokens) - 1, 0))
        return {"pointer": "/".join([_DATA, *tokens[:depth]])}
    if len(shown) > 1 and same(shown["old"], shown["new"]):
        return {"pointer": pointer}  # what differs is hidden inside
    return {"pointer": pointer} | shown


def _seen_whole(seen: dict[str, Any], accesses: Accesses) -> dict[str, Any]:
    """Give what may be read of a snapshot, which is empty before the creation."""
    return {**seen, "data": seen_data(seen["data"], accesses)} if "data" in seen else seen


def _seen_value(value: Any, tokens: Sequence[str], accesses: Accesses) -> Any:
    if accesses is None:
        return _HIDDEN
    for access in accesses:
        places, _ = _follow(access, tokens)
        if not places:
            return _HIDDEN
        for rule, around in places:
            value = access.seen(rule, around, value, _HIDDEN)
            if value is _HIDDEN:
                return _HIDDEN
    return value


def _readable_depth(tokens: Sequence[str], before: Accesses, after: Accesses) -> int:
    """Give how many tokens lead to the nearest place that may be read; at 0 lies ``data`` itself, always shown."""
    if before is None or after is None:
        return 0
    return min((_follow(access, tokens)[1] for access in (*before, *after)), default=len(tokens))


def _follow(access: FieldAccess, tokens: Sequence[str]) -> tuple[list[Place], int]:
    """Give the places that a pointer may lead to, none if an array on the way may be hidden; and the readable depth."""
    places: list[Place] = [(access.root, OPEN)]
    depth = 0
    for number, token in enumerate(tokens, 1):
        inside: dict[tuple[int, int], Place] = {}
        for rule, around in places:
            bits = access.bits(rule, around)
            following = [rule.member(token.replace("~1", "/").replace("~0", "~"))]
            if _is_index(token):
                if not _shows_items(access, rule, bits):
                    return [], depth
                following.append(rule.item(int(token)))
            inside |= {(id(each), bits): (each, bits) for each in following}
        places = list(inside.values())
        if all(access.bits(rule, around) & READ for rule, around in places):
            depth = number
    return places, depth


def _is_index(name: str) -> bool:
    return name == "0" or (name.isascii() and name.isdecimal() and name[0] != "0" and len(name) <= _INDEX_DIGITS)


def _shows_items(access: FieldAccess, rule: Rule, around: int) -> bool:
    """Whether no array with a rule is ever left out for one of its items."""
    todo: list[Place] = [(each, around) for each in rule.items]
    known: set[tuple[int, int]] = set()
    while todo:
        each, outer = todo.pop()
        bits = access.bits(each, outer)
        if not bits & READ:
            return False
        if (id(each), bits) not in known:
            known.add((id(each), bits))
            todo += [(inner, bits) for inner in each.items]
    return True
