"""Searches as MongoDB filters, with page tokens that go on where the last page ended.

Filters are built from typed queries over known fields only; a client's text is always a value, escaped where it
becomes part of a pattern.

What is found is counted up to ``EXACT``, and estimated beyond. A query over ``data`` that is one range of its index, of
users everywhere or in one organization, is counted without reading users, and so is a page of it by id or creation
found (``store/data_ranges.py``). One that is a range beside other conditions is counted through that index. Few results
are then read and sorted, many are met soon by going through the order that is asked for. Every search ends after
``LONGEST`` seconds, with a page or without.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import msgspec

from schema_user.domain.data_search import beginning_with, narrowed
from schema_user.domain.keyring import SealError
from schema_user.domain.search import AllOf, AnyOf, Data, During, Entries, Is, Not, Page, Query, Text, TextMethod, fold
from schema_user.errors import Malformed, Unmet, Violation
from schema_user.store.connection import TookTooLong
from schema_user.store.data_ranges import COLUMNS, DataRanges
from schema_user.store.data_search import (
    entries_filter,
    index_for,
    is_equality,
    is_one_organization,
    leads,
    opposite_filter,
)
from schema_user.store.known import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Collection, Document, Pipeline
    from schema_user.store.data_ranges import KeyRange
    from schema_user.store.data_search import Index

T = TypeVar("T")

EXACT: Final = 10_000
"""Results that are counted; more are estimated."""

LONGEST: Final = 2.0
"""Seconds that a search may take."""

_SOON: Final = 0.25
"""Seconds for which many results are looked for in the order that is asked for, before they are sorted instead."""

_KEYS_FOR_A_USER: Final = 4
"""So many keys of an index are read and sorted in the time in which one user is fetched; measured."""

_SAMPLE: Final = 1_000
_ESTIMATE_TTL: Final = 10.0
_ESTIMATES_KEPT: Final = 1_000

_PATTERNS: Final = {
    TextMethod.CONTAINS: "{}",
    TextMethod.CONTAINS_IGNORE_CASE: "{}",
    TextMethod.ENDS_WITH: "{}$",
    TextMethod.ENDS_WITH_IGNORE_CASE: "{}$",
}
_NOTHING: Final[dict[str, Any]] = {"_id": {"$in": []}}


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One page of results; ``total`` counts all of them, ``next_token`` leads to the next page if there is one.

    ``is_estimate``: there are more than ``EXACT``, and ``total`` is about how many.
    """

    items: tuple[T, ...]
    total: int
    next_token: str | None
    is_estimate: bool = False


class _Mark(msgspec.Struct, array_like=True):
    """Where a page ended: the value of the sorted field and the id of the last result."""

    value: str | int | datetime | None
    last_id: str
    kind: str = "text"


def text_filter(field: str, folded: str | None, query: Text) -> Document:
    """Compare a stored text; without case on its folded copy, or on itself where case means nothing."""
    name, value = (folded or field, fold(query.value)) if query.method.ignores_case else (field, query.value)
    if query.method in {TextMethod.STARTS_WITH, TextMethod.STARTS_WITH_IGNORE_CASE}:
        found: Document = {name: {f"${bound}": text for bound, text in beginning_with(value)}}
        return found | _folded_prefix(folded, value) if name == field != folded else found
    pattern = _PATTERNS.get(query.method)
    if pattern is None:
        return {name: {"$eq": value}} | ({folded: {"$eq": fold(value)}} if folded not in {None, field} else {})
    # re.escape writes \- and \  that PCRE takes as they are; the s flag lets a stored line break be any character.
    return {name: {"$regex": pattern.format(re.escape(value)), "$options": "s"}}


def _folded_prefix(folded: str | None, value: str) -> Document:
    """Bound by the folded copy, which has the index, what begins with a text: as far as the text folds by itself.

    Whatever follows may combine with the last of its characters, but for ASCII with no other.
    """
    plain = value[: next((at for at, each in enumerate(value) if not each.isascii()), len(value))][:-1]
    if not folded or not plain:
        return {}
    return {folded: {f"${bound}": text for bound, text in beginning_with(fold(plain))}}


class SearchStore(Generic[T]):
    """Searches one collection.

    ``fields`` maps the names of queries and sort columns to those of documents, ``folded`` to those of the copies
    without case, ``joins`` to the stages that fetch a column from elsewhere, ``sorted_by`` to the indexes that have
    the order of a column. Fields that are ``unread`` are not fetched.
    """

    fields: ClassVar[Mapping[str, str]]
    folded: ClassVar[Mapping[str, str]] = {}
    joins: ClassVar[Mapping[str, Pipeline]] = {}
    sorted_by: ClassVar[Mapping[str, Index]] = {}
    unread: ClassVar[tuple[str, ...]] = ()

    def __init__(self, collection: Collection, keyring: Keyring, read: Callable[[Document], T]) -> None:
        """Search a collection as readers see it; the keyring seals page tokens, ``read`` makes values of documents."""
        self._searched = collection
        self._ranges = DataRanges(collection)
        self._tokens = keyring
        self._read = read
        self._estimates: Known[str, int] = Known(self._estimated, _ESTIMATE_TTL, _ESTIMATES_KEPT)
        self._to_estimate: dict[str, Document] = {}

    def filter(self, query: Query) -> Document:
        """Build the filter of a query."""
        match query:
            case Text(name, _, _):
                return text_filter(self.fields[name], self.folded.get(name), query)
            case Is(name, value):
                return {self.fields[name]: {"$eq": value}}
            case During(name, since, before):
                bounds = {"$gte": since, "$lt": before}
                return {self.fields[name]: {each: at for each, at in bounds.items() if at is not None}}
            case AnyOf(queries):
                return {"$or": [self.filter(each) for each in queries]} if queries else _NOTHING
            case AllOf(queries):
                return {"$and": [self.filter(each) for each in queries]} if queries else {}
            case Not(inner):
                return self._opposite(inner)
            case Entries():
                return entries_filter(query)
            case Data():
                message = "a query over data is asked of the index"
                raise AssertionError(message)

    def _opposite(self, query: Query) -> Document:
        """Build the filter of what a query is false of: that is not all it is not true of, where data is concerned."""
        match query:
            case Entries():
                return opposite_filter(query)
            case Not(inner):
                return self.filter(inner)
            case AnyOf(queries) if _asks_for_data(query):
                return {"$and": [self._opposite(each) for each in queries]}
            case AllOf(queries) if _asks_for_data(query):
                return {"$or": [self._opposite(each) for each in queries]}
            case _:
                return {"$nor": [self.filter(query)]}

    async def search(self, scope: Document, query: Query, page: Page, binding: str) -> Found[T]:
        """Find one page within ``scope``, the part of the collection that the caller may see.

        ``binding`` names caller, organization and query: a page token serves only where all three are the same.

        Raises:
            Malformed: for a page token that is not one of these.
            Unmet: ``SEARCH_TOO_BROAD``, if it takes more than ``LONGEST``.
        """
        query = narrowed(query)
        where = {"$and": [scope, self.filter(query)]}
        column = self.fields[page.sort]
        order = 1 if page.ascending else -1
        context = f"page|{binding}|{page.sort}|{order}"
        mark = self._open(page.token, context) if page.token else None
        after = self._after(column, order, mark) if mark else None
        pipeline: Pipeline = [
            {"$match": where},
            *self.joins.get(page.sort, ()),
            *([{"$match": after}] if after else []),
            {"$sort": {column: order, "_id": order}},
            {"$skip": 0 if page.token else page.offset},
            {"$limit": page.limit + 1},
            *([{"$project": dict.fromkeys(self.unread, 0)}] if self.unread else []),
        ]
        deadline = time.monotonic() + LONGEST
        try:
            led = list(leads(query))
            one = await self._ranges.find(scope, query, _left(deadline)) if led else None
            if one is not None:
                total, documents, more = await self._in_range(scope, one, page, mark, pipeline, deadline=deadline)
            elif led:
                total, documents, more = await self._led(scope, led, page, pipeline, deadline)
            else:
                total = await self._searched.count(where, EXACT + 1, seconds=_left(deadline))
                documents = await self._searched.aggregate(pipeline, seconds=_left(deadline))
                more = len(documents) > page.limit
        except TookTooLong:
            raise _too_broad() from None
        shown = documents[: page.limit]
        token = self._seal(shown[-1], column, context) if more and shown else None
        if total > EXACT and one is None:
            total = await self._about(where)
        return Found(tuple(map(self._read, shown)), total, token, is_estimate=total > EXACT)

    async def _in_range(
        self, scope: Document, one: KeyRange, page: Page, mark: _Mark | None, pipeline: Pipeline, *, deadline: float
    ) -> tuple[int, list[Document], bool]:
        """Count what is in a range, or say about how many (more than ``EXACT``), and fetch a page of it.

        The last value is whether there are more behind it.
        """
        column = COLUMNS.get(page.sort)
        held = await self._ranges.keys(one, EXACT + 1, column=column or "_id", seconds=_left(deadline))
        total, end = len(held), page.offset + page.limit + 1
        if total > EXACT:
            with contextlib.suppress(TookTooLong):
                total = max(total, await self._ranges.about(one))
        elif column:
            held.sort(reverse=not page.ascending)
            ids = [each[1] for each in _behind(mark, held, ascending=page.ascending)]
            wanted = ids if mark else ids[page.offset :]
            return total, await self._in_order(scope, wanted[: page.limit]), len(wanted) > page.limit
        documents = await self._met(one, page, total, pipeline)
        if documents is None and column and mark is None:
            order = 1 if page.ascending else -1
            ids = (await self._ranges.first(one, column, order, end, _left(deadline)))[page.offset :]
            return total, await self._in_order(scope, ids[: page.limit]), len(ids) > page.limit
        if documents is None:
            documents = await self._searched.aggregate(pipeline, seconds=_left(deadline), hint=one.index)
        return total, documents, len(documents) > page.limit

    async def _met(self, one: KeyRange, page: Page, total: int, pipeline: Pipeline) -> list[Document] | None:
        """Fetch a page by going through an index in the order that is asked for; None if that would take long."""
        hint = self.sorted_by.get(page.sort)
        if page.sort == "id" and is_equality(one.entries):
            hint = one.index
        elif page.sort == "id" and one.organization_id is not None:
            hint = (("organization_id", 1), ("_id", 1))
        elif hint is not None:
            # Evenly spread, so many users are gone through until the page is full; sorting looks at ``total``.
            passed = (page.offset + page.limit + 1) * await self._searched.estimate() // max(1, total)
            cheaper = _KEYS_FOR_A_USER if page.sort in COLUMNS and not page.token else 1
            hint = hint if passed * cheaper <= total else None
        if hint is None:
            return None
        with contextlib.suppress(TookTooLong):
            return await self._searched.aggregate(pipeline, seconds=_SOON, hint=hint)
        return None

    async def _led(
        self, scope: Document, led: list[Entries], page: Page, pipeline: Pipeline, deadline: float
    ) -> tuple[int, list[Document], bool]:
        """Count, up to one more than ``EXACT``, what the index over data leads to, and fetch a page of it.

        The last value is whether there are more behind it: of those that it names, one may be gone a moment later.
        """
        index = index_for(scope)
        one = is_one_organization(scope)
        sorted_by = self.sorted_by.get(page.sort)
        if page.sort == "id" and one and any(map(is_equality, led)):
            sorted_by = index
        elif page.sort == "id" and one and "organization_id" in scope:
            sorted_by = (("organization_id", 1), ("_id", 1))
        first = None if page.token or page.sort in self.joins else page.offset + page.limit + 1
        total, ids = await self._counted(pipeline, first, index, _left(deadline))
        if total <= EXACT and ids is not None:
            wanted = ids[page.offset :]
            return total, await self._in_order(scope, wanted[: page.limit]), len(wanted) > page.limit
        documents = None
        if total > EXACT and sorted_by is not None:
            with contextlib.suppress(TookTooLong):
                documents = await self._searched.aggregate(pipeline, seconds=_SOON, hint=sorted_by)
        if documents is None:
            documents = await self._searched.aggregate(pipeline, seconds=_left(deadline), hint=index)
        return total, documents, len(documents) > page.limit

    async def _counted(
        self, pipeline: Pipeline, first: int | None, index: Index, seconds: float
    ) -> tuple[int, list[str] | None]:
        """Count what matches, and name the first so many, in one way through it.

        Of whole documents that would be too many bytes for one result.
        """
        match, *_ = pipeline
        if first is None:
            return await self._searched.count(match["$match"], EXACT + 1, seconds=seconds, hint=index), None
        sort = next(stage["$sort"] for stage in pipeline if "$sort" in stage)
        told: Document = {"_id": None, "count": {"$sum": 1}}
        told["ids"] = {"$topN": {"n": first, "sortBy": sort, "output": "$_id"}}
        grouped = await self._searched.aggregate(
            [match, {"$limit": EXACT + 1}, {"$group": told}], seconds=seconds, hint=index
        )
        return (grouped[0]["count"], grouped[0]["ids"]) if grouped else (0, [])

    async def _in_order(self, scope: Document, ids: list[str]) -> list[Document]:
        """Fetch documents in the order of their ids here; one that went meanwhile is left out."""
        if not ids:
            return []
        found = await self._searched.find(scope | {"_id": {"$in": ids}}, dict.fromkeys(self.unread, 0) or None)
        by_id = {each["_id"]: each for each in found}
        return [by_id[each] for each in ids if each in by_id]

    async def _about(self, where: Document) -> int:
        """Say about how many documents match, of which there are more than ``EXACT``; as it was a moment ago."""
        key = repr(where)
        self._to_estimate[key] = where
        try:
            return max(EXACT + 1, await self._estimates.get(key))
        finally:
            self._to_estimate.pop(key, None)

    async def _estimated(self, key: str, _: int | None) -> int:
        where = self._to_estimate.get(key, {})
        everything = await self._searched.estimate()
        size = min(_SAMPLE, max(1, everything // 25))
        sample: Pipeline = [{"$sample": {"size": size}}, {"$match": where}, {"$count": "matching"}]
        try:
            counted = await self._searched.aggregate(sample, seconds=_SOON)
        except TookTooLong:
            return 0
        return (counted[0]["matching"] if counted else 0) * everything // size

    @staticmethod
    def _after(column: str, order: int, mark: _Mark) -> Document:
        """Select what comes after a mark; a field that is absent sorts before every value."""
        beyond = "$gt" if order > 0 else "$lt"
        if column == "_id":
            return {"_id": {beyond: mark.last_id}}
        tie = {column: mark.value, "_id": {beyond: mark.last_id}}
        if mark.value is None:
            return {"$or": [tie, {column: {"$ne": None}}]} if order > 0 else tie
        rest: list[Document] = [tie, {column: {beyond: mark.value}}]
        return {"$or": rest if order > 0 else [*rest, {column: None}]}

    def _seal(self, document: Document, column: str, context: str) -> str:
        value: Any = document
        for name in column.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        kind = "time" if isinstance(value, datetime) else "text"
        return self._tokens.seal(msgspec.json.encode(_Mark(value, document["_id"], kind)), context).hex()

    def _open(self, token: str, context: str) -> _Mark:
        try:
            mark = msgspec.json.decode(self._tokens.open(bytes.fromhex(token), context), type=_StoredMark)
        except (ValueError, SealError) as error:
            message = "is not a page token of this search"
            raise Malformed(
                "PAGE_TOKEN_INVALID", f"pageToken {message}", [Violation("pageToken", message, "pageToken")]
            ) from error
        value = datetime.fromisoformat(str(mark.value)) if mark.kind == "time" else mark.value
        return _Mark(value, mark.last_id)


def _asks_for_data(query: Query) -> bool:
    match query:
        case Entries():
            return True
        case AnyOf(queries) | AllOf(queries):
            return any(map(_asks_for_data, queries))
        case Not(inner):
            return _asks_for_data(inner)
        case _:
            return False


def _behind(mark: _Mark | None, held: list[tuple[Any, str]], *, ascending: bool) -> list[tuple[Any, str]]:
    """Give what comes after a mark, of sorted pairs of a value and an id."""
    if mark is None:
        return held
    last = (mark.value, mark.last_id)
    return [each for each in held if (each > last if ascending else each < last)]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TookTooLong
    return left


def _too_broad() -> Unmet:
    return Unmet(
        "SEARCH_TOO_BROAD",
        f"the search takes more than {LONGEST:g} s: ask for equal values, a prefix, a suffix or a range of an indexed "
        "field, or for less",
        metadata={"seconds": f"{LONGEST:g}"},
    )


class _StoredMark(msgspec.Struct, array_like=True):
    value: str | int | None
    last_id: str
    kind: str
