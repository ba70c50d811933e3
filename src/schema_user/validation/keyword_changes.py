"""What changed between two schemas in the keywords that ask something of one value, in words.

Each change says whether it narrows: True, if there are values that the old keyword took and the new one refuses; None,
if that can't be told; False, if there are none. A keyword that is only about values of a type which the old schema took
none of narrows nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.domain.document import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema_user.validation.normal_form import Node

_TYPES: Final = ("null", "boolean", "object", "array", "number", "string")
ALL_TYPES: Final = frozenset(_TYPES)
NARROWS: Final = True
HARMLESS: Final = False
_LONGEST: Final = 80
_MOST_NAMED: Final = 5


class Change(NamedTuple):
    """A change of keywords: a stable id, words that follow the place, and whether it narrows."""

    kind: str
    words: str
    narrows: bool | None


def shown(value: Any) -> str:
    """Write a value of a schema; a long one is cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def types_taken(node: Node) -> frozenset[str]:
    """Give the types of the values that a schema may take, as its own ``type``, ``const`` and ``enum`` tell."""
    given = node.keywords.get("type")
    types = ALL_TYPES if given is None else frozenset(given)
    if node.values is None:
        return types
    return frozenset(found for each in node.values if (found := _fitting(_type_of(each), types)) is not None)


def _fitting(name: str, types: frozenset[str]) -> str | None:
    if name in types:
        return name
    return "number" if name == "integer" and "number" in types else None


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def takes(types: frozenset[str], domain: str) -> bool:
    """Tell whether values of a type that a keyword is about are among those of ``types``."""
    return domain in types or (domain == "number" and "integer" in types)


def own_changes(old: Node, new: Node) -> Iterator[Change]:
    """Give the changes in what two schemas ask of a value apart from what is inside it."""
    if new.never or old.never:
        if new.never is not old.never:
            yield Change("forbidden", "is no longer allowed", NARROWS) if new.never else _allowed()
        return
    types = types_taken(old)
    yield from _types(old, new, types)
    yield from _values(old, new)
    for bound in _BOUNDS:
        yield from _bound(bound, old.keywords, new.keywords, types)
    for keyword, domain, verb in _OPAQUE:
        yield from _opaque(keyword, verb, old.keywords, new.keywords, takes(types, domain))
    yield from _multiple(old.keywords, new.keywords, takes(types, "number"))
    yield from _unique_items(old.keywords, new.keywords, takes(types, "array"))


def _allowed() -> Change:
    return Change("allowed", "is allowed now", HARMLESS)


def _types(old: Node, new: Node, types: frozenset[str]) -> Iterator[Change]:
    before, after = old.keywords.get("type"), new.keywords.get("type")
    if before is None and after is None:
        return
    asked = ALL_TYPES if after is None else frozenset(after)
    if any(not _type_covered(each, asked) for each in types):
        yield Change("typeNarrowed", f"narrowed from {_named(before)} to {_named(after)}", NARROWS)
    elif before is None or after is None or any(not _type_covered(each, frozenset(before)) for each in asked):
        kind, word = ("typeChanged", "changed") if before is None else ("typeWidened", "widened")
        yield Change(kind, f"{word} from {_named(before)} to {_named(after)}", HARMLESS)


def _type_covered(name: str, types: frozenset[str]) -> bool:
    return name in types or (name == "integer" and "number" in types)


def _named(types: Iterable[str] | None) -> str:
    return "any type" if types is None else " or ".join(types) or "no type"


def _values(old: Node, new: Node) -> Iterator[Change]:
    if new.values is None:
        if old.values is not None:
            yield Change("valuesWidened", "is no longer limited to a list of values", HARMLESS)
        return
    if old.values is None:
        yield Change("valuesNarrowed", f"narrowed to {_listed(new.values)}", NARROWS)
        return
    before, after = ({_key(each): each for each in node.values or ()} for node in (old, new))
    lost = [each for key, each in before.items() if key not in after and _fits_type(each, old)]
    won = [each for key, each in after.items() if key not in before]
    if lost:
        yield Change("valuesNarrowed", f"no longer takes {_listed(lost)}", NARROWS)
    if won:
        yield Change("valuesWidened", f"also takes {_listed(won)}", HARMLESS)


def _fits_type(value: Any, node: Node) -> bool:
    types = node.keywords.get("type")
    return types is None or _fitting(_type_of(value), frozenset(types)) is not None


def _listed(values: list[Any]) -> str:
    if not values:
        return "no value"
    named = ", ".join(shown(each) for each in values[:_MOST_NAMED])
    return named if len(values) <= _MOST_NAMED else f"{named} and {len(values) - _MOST_NAMED} more"


def _key(value: Any) -> str:
    """Write a JSON value so that those are written alike that JSON Schema calls equal."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


class _Bound(NamedTuple):
    """A limit: its keyword, its exclusive twin, the type it is about, its sign and noun. ``lower``: a least value."""

    keyword: str
    domain: str
    noun: str
    lower: bool
    exclusive: str = ""


_BOUNDS: Final = (
    _Bound("minimum", "number", "", lower=True, exclusive="exclusiveMinimum"),
    _Bound("maximum", "number", "", lower=False, exclusive="exclusiveMaximum"),
    _Bound("minLength", "string", "character", lower=True),
    _Bound("maxLength", "string", "character", lower=False),
    _Bound("minItems", "array", "item", lower=True),
    _Bound("maxItems", "array", "item", lower=False),
    _Bound("minProperties", "object", "property", lower=True),
    _Bound("maxProperties", "object", "property", lower=False),
)


def _bound(bound: _Bound, old: dict[str, Any], new: dict[str, Any], types: frozenset[str]) -> Iterator[Change]:
    before, after = _limit(bound, old), _limit(bound, new)
    if before == after:
        return
    if after is None:
        side = "lower" if bound.lower else "upper"
        yield Change("boundWidened", f"widened: {_of(bound)}no {side} bound any more", HARMLESS)
    elif before is None or _is_tighter(bound, after, before):
        yield Change("boundNarrowed", f"narrowed to {_worded(bound, after)}", takes(types, bound.domain))
    else:
        yield Change("boundWidened", f"widened to {_worded(bound, after)}", HARMLESS)


_Limit = tuple[Any, bool]


def _limit(bound: _Bound, keywords: dict[str, Any]) -> _Limit | None:
    """Give the limit that counts, and whether it is excluded itself."""
    found = [(keywords[bound.keyword], False)] if bound.keyword in keywords else []
    if bound.exclusive in keywords:
        found.append((keywords[bound.exclusive], True))
    if len(found) > 1 and _is_tighter(bound, found[1], found[0]):
        return found[1]
    return found[0] if found else None


def _is_tighter(bound: _Bound, one: _Limit, other: _Limit) -> bool:
    if one[0] == other[0]:
        return one[1] and not other[1]
    return bool(one[0] > other[0] if bound.lower else one[0] < other[0])


def _of(bound: _Bound) -> str:
    return f"{_plural(2, bound.noun)} have " if bound.noun else ""


def _worded(bound: _Bound, limit: _Limit) -> str:
    value, excluded = limit
    if bound.noun:
        return f"at {'least' if bound.lower else 'most'} {_plural(value, bound.noun)}"
    sign = (">" if excluded else "≥") if bound.lower else ("<" if excluded else "≤")
    return f"{sign} {shown(value)}"


def _plural(count: Any, noun: str) -> str:
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{shown(count)} {noun if count == 1 else many}"


_OPAQUE: Final = (
    ("pattern", "string", "match the pattern"),
    ("format", "string", "be of the format"),
    ("contentEncoding", "string", "be encoded as"),
    ("contentMediaType", "string", "hold"),
)
"""Keywords whose values can't be compared but for equality."""


def _opaque(keyword: str, verb: str, old: dict[str, Any], new: dict[str, Any], taken: bool) -> Iterator[Change]:  # noqa: FBT001
    before, after = old.get(keyword), new.get(keyword)
    if before == after:
        return
    if after is None:
        yield Change(f"{keyword}Removed", f"need not {verb} {shown(before)} any more", HARMLESS)
    elif before is None:
        yield Change(f"{keyword}Added", f"must {verb} {shown(after)}", taken)
    else:
        words = f"must {verb} {shown(after)} instead of {shown(before)}"
        yield Change(f"{keyword}Changed", words, None if taken else False)


def _multiple(old: dict[str, Any], new: dict[str, Any], taken: bool) -> Iterator[Change]:  # noqa: FBT001
    before, after = old.get("multipleOf"), new.get("multipleOf")
    if same(before, after):
        return
    if after is None:
        yield Change("multipleOfRemoved", f"need not be a multiple of {shown(before)} any more", HARMLESS)
    elif before is None:
        yield Change("multipleOfAdded", f"must be a multiple of {shown(after)}", taken)
    else:
        words = f"must be a multiple of {shown(after)} instead of {shown(before)}"
        divides = isinstance(before, int) and isinstance(after, int) and before % after == 0
        yield Change("multipleOfChanged", words, False if divides or not taken else None)


def _unique_items(old: dict[str, Any], new: dict[str, Any], taken: bool) -> Iterator[Change]:  # noqa: FBT001
    before, after = old.get("uniqueItems") is True, new.get("uniqueItems") is True
    if after and not before:
        yield Change("uniqueItemsAdded", "must not have an item twice", taken)
    elif before and not after:
        yield Change("uniqueItemsRemoved", "may have an item twice", HARMLESS)
