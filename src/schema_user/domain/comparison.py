"""What a new revision of a schema means for the documents that the old one took."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Verdict(enum.StrEnum):
    """Whether documents that the old schema takes are taken by the new one.

    ``SAFE`` is a proof: every one of them is. ``BREAKING``: what the schema asks was narrowed somewhere. ``UNKNOWN``:
    it could not be told by looking at the schemas alone; only a dry run over the stored users tells.
    """

    SAFE = "safe"
    BREAKING = "breaking"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two schemas, at one place of the documents that they describe.

    ``pointer`` is a JSON Pointer in the data, where ``*`` stands for every other property or item; empty: the document
    as a whole. ``kind`` is a stable id in camel case. ``breaking``: a value may be refused that was taken before; None
    if that could not be told.
    """

    pointer: str
    kind: str
    description: str
    breaking: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on a new schema, and how it differs from the old one: at most 200 differences."""

    verdict: Verdict
    differences: tuple[Difference, ...] = ()


_GRAVITY: Final = {True: 0, None: 1, False: 2}


def arranged(found: Iterable[Difference]) -> list[Difference]:
    """Give each fact once, the breaking ones first, then those that could not be told, then the safe ones.

    What follows from a property's coming or going is not told beside it; that it became required is told with it.
    """
    kinds: dict[str, dict[str, Difference]] = {}
    facts: dict[tuple[str, str, str], Difference] = {}
    for each in found:
        key = (each.pointer, each.kind, each.description)
        known = facts.get(key)
        if known is None or _GRAVITY[each.breaking] < _GRAVITY[known.breaking]:
            facts[key] = each
        kinds.setdefault(each.pointer, {})[each.kind] = each
    told = [here for each in facts.values() if (here := _beside(each, kinds[each.pointer])) is not None]
    return sorted(told, key=lambda each: _GRAVITY[each.breaking])


def _beside(each: Difference, others: Mapping[str, Difference]) -> Difference | None:
    """Give a difference as it is told beside others at its place; None if one of them says it already."""
    added, removed = others.get("propertyAdded"), others.get("propertyRemoved")
    implied: frozenset[str] = frozenset()
    if added is not None:
        implied = _OF_ADDED | ({"propertyAdded"} if "requiredAdded" in others else set())
    elif removed is not None:
        implied = _OF_REMOVED if removed.breaking else _OF_UNDESCRIBED
    if each.kind in implied:
        return None
    if added is not None and each.kind == "requiredAdded":
        return replace(each, description=f"`{each.pointer}` was added, and is required")
    return each


_OF_ADDED: Final = frozenset({"allowed", "annotationChanged"})
_OF_UNDESCRIBED: Final = frozenset({"annotationChanged"})
_OF_REMOVED: Final = _OF_UNDESCRIBED | {"requiredRemoved"}
