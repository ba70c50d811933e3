"""Queries over ``data``: which entries of the index each of them asks for.

Every method but those that ask what is contained is one range under one key of the index, so that what is read is what
is found, whatever else there is. Whether a text is folded or reversed first, both sides are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.document import INT64_MAX, INT64_MIN, pointer
from schema_user.domain.indexing import FOLDED, REVERSED, REVERSED_FOLDED, SEVERAL, TIME, VALUE, instant_of
from schema_user.domain.search import AllOf, AnyOf, Data, DataMethod, Entries, Not, Query, TextMethod, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Bounds = tuple[tuple[str, str | int | float | bool], ...]

MAX_PATH: Final = 500
MAX_VALUE: Final = 200
"""Characters of a path, and of a text that is sought."""

MOST_DATA_QUERIES: Final = 20
"""Queries over ``data`` in one search."""

_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])+)+")
_BOUNDS: Final = {
    DataMethod.EQUALS: "eq",
    DataMethod.LESS: "lt",
    DataMethod.LESS_OR_EQUALS: "lte",
    DataMethod.GREATER: "gt",
    DataMethod.GREATER_OR_EQUALS: "gte",
}
_ENDS: Final = frozenset({"lt", "lte", "gt", "gte"})
_LAST: Final = chr(0x10FFFF)
_SURROGATES: Final = (0xD800, 0xE000)


def canonical_path(path: str) -> str | None:
    """Read a JSON Pointer and write it as plans do; None if it is none, or names nothing inside ``data``."""
    if len(path) > MAX_PATH or not _POINTER.fullmatch(path):
        return None
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]
    return "/" + pointer(*tokens)


def flaw(query: Data) -> tuple[str, str, str] | None:
    """Say what is wrong with a query: which member, in words, and the reason."""
    value = query.value
    if canonical_path(query.path) is None:
        return "path", f"must be a JSON Pointer into data, such as /address/city, of at most {MAX_PATH}", "pattern"
    if isinstance(query.method, TextMethod):
        if not isinstance(value, str):
            return "value", "must be a string, as the method compares texts", "type"
        if not value and query.method not in {TextMethod.EQUALS, TextMethod.EQUALS_IGNORE_CASE}:
            return "value", "must not be empty", "minLength"
    elif isinstance(value, bool) and query.method is not DataMethod.EQUALS:
        return "value", "must not be true or false: these are not ordered", "type"
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return "value", f"must be at most {MAX_VALUE} characters long", "maxLength"
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return "value", "must fit into 64 bits", "range"
    return None


def entries_of(query: Data) -> Entries:
    """Give what a query without a flaw asks of the index."""
    path, value = canonical_path(query.path) or "", query.value
    if isinstance(query.method, TextMethod):
        kind, bounds = _text(query.method, str(value))
        return Entries(kind + path, bounds)
    instant = instant_of(value) if isinstance(value, str) else None
    if instant is not None:
        return Entries(TIME + path, ((_BOUNDS[query.method], instant),))
    return Entries(VALUE + path, ((_BOUNDS[query.method], value),))


def _text(method: TextMethod, value: str) -> tuple[str, Bounds]:
    sought = fold(value) if method.ignores_case else value
    kind = FOLDED if method.ignores_case else VALUE
    match method:
        case TextMethod.EQUALS | TextMethod.EQUALS_IGNORE_CASE:
            return kind, (("eq", sought),)
        case TextMethod.CONTAINS | TextMethod.CONTAINS_IGNORE_CASE:
            return kind, (("contains", sought),)
        case TextMethod.STARTS_WITH | TextMethod.STARTS_WITH_IGNORE_CASE:
            return kind, beginning_with(sought)
        case _:
            return REVERSED_FOLDED if method.ignores_case else REVERSED, beginning_with(sought[::-1])


def beginning_with(text: str) -> Bounds:
    """Give the range of all texts that begin with one; they are sorted by code point, as UTF-8 is."""
    stem = text.rstrip(_LAST)
    if not stem:
        return (("gte", text),)
    following = ord(stem[-1]) + 1
    if following == _SURROGATES[0]:
        following = _SURROGATES[1]
    return ("gte", text), ("lt", stem[:-1] + chr(following))


def narrowed(query: Query) -> Query:
    """Give a query that finds the same and reads less: ranges of one key that must all hold, as one range.

    Two of them may be met by two values of an array. So what has several values is asked for both beside that.
    """
    match query:
        case AllOf():
            return AllOf(tuple(_joined([narrowed(each) for each in _conjuncts(query)])))
        case AnyOf(queries):
            return AnyOf(tuple(map(narrowed, queries)))
        case _:
            return query


def _conjuncts(query: Query) -> Iterator[Query]:
    if isinstance(query, AllOf):
        for each in query.queries:
            yield from _conjuncts(each)
    else:
        yield query


def _joined(queries: list[Query]) -> Iterator[Query]:
    ranges: dict[tuple[str, bool], list[Entries]] = {}
    for each in queries:
        if isinstance(each, Entries) and all(name in _ENDS for name, _ in each.bounds):
            ranges.setdefault((each.key, isinstance(each.bounds[0][1], str)), []).append(each)
        else:
            yield each
    for (key, _), several in ranges.items():
        if len(several) == 1:
            yield several[0]
        else:
            one = replace(several[0], bounds=_overlap(several))
            any_ = replace(several[0], key=SEVERAL + key[1:], bounds=(("eq", True),))
            yield AnyOf((one, AllOf((any_, *several))))


def _overlap(ranges: list[Entries]) -> Bounds:
    """Give the bounds of what lies in all ranges."""
    given: list[tuple[str, Any]] = [bound for each in ranges for bound in each.bounds]
    lower = [(value, name == "gt", name) for name, value in given if name in {"gt", "gte"}]
    upper = [(value, name == "lte", name) for name, value in given if name in {"lt", "lte"}]
    ends = [*([max(lower)] if lower else []), *([min(upper)] if upper else [])]
    return tuple((name, value) for value, _, name in ends)


def data_queries(query: Query) -> Iterator[Data]:
    """Give the queries over ``data`` inside a query."""
    match query:
        case Data():
            yield query
        case AnyOf(queries) | AllOf(queries):
            for each in queries:
                yield from data_queries(each)
        case Not(inner):
            yield from data_queries(inner)


def with_entries(query: Query, known: Callable[[Data], Entries]) -> Query:
    """Put what ``known`` gives into the place of each query over ``data``."""
    match query:
        case Data():
            return known(query)
        case AnyOf(queries):
            return AnyOf(tuple(with_entries(each, known) for each in queries))
        case AllOf(queries):
            return AllOf(tuple(with_entries(each, known) for each in queries))
        case Not(inner):
            return Not(with_entries(inner, known))
        case _:
            return query
