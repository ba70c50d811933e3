"""Searches as MongoDB filters, with page tokens that go on where the last page ended.

Filters are built from typed queries over known fields only; a client's text is always a value, escaped where it
becomes part of a pattern.

What is found is counted up to ``EXACT``, and estimated beyond. A query over ``data`` that is one range of its index, of
users everywhere or in one organization, is counted without reading users, and so is a page of it by id or creation
found (``store/range_search.py``). One that is a range beside other conditions is counted through that index. Few
results are then read and sorted, many are met soon by going through the order that is asked for. Every search ends
after ``LONGEST`` seconds, with a page or without.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from schema_user.domain.data_search import narrowed
from schema_user.domain.search import (
    AllOf,
    AnyOf,
    Data,
    DataMethod,
    During,
    Entries,
    Is,
    Not,
    Number,
    Page,
    Query,
    Text,
)
from schema_user.errors import Unmet
from schema_user.store.connection import TookTooLong
from schema_user.store.data_search import (
    entries_filter,
    index_for,
    is_equality,
    is_one_organization,
    leads,
    opposite_filter,
)
from schema_user.store.known import Known
from schema_user.store.page_tokens import PageTokens, behind
from schema_user.store.range_search import Asked, RangeSearch, left
from schema_user.store.text_search import text_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Collection, Document, Pipeline
    from schema_user.store.data_search import Index
    from schema_user.store.page_tokens import Mark

T = TypeVar("T")

EXACT: Final = 10_000
"""Results that are counted; more are estimated."""

LONGEST: Final = 2.0
"""Seconds that a search may take."""

_SOON: Final = 0.25
"""Seconds for which many results are looked for in the order that is asked for, before they are sorted instead."""

_SAMPLE: Final = 1_000
_ESTIMATE_TTL: Final = 10.0
_ESTIMATES_KEPT: Final = 1_000

_COMPARISONS: Final = {
    DataMethod.EQUALS: "$eq",
    DataMethod.LESS: "$lt",
    DataMethod.LESS_OR_EQUALS: "$lte",
    DataMethod.GREATER: "$gt",
    DataMethod.GREATER_OR_EQUALS: "$gte",
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


class SearchStore(Generic[T]):
    """Searches one collection.

    ``fields`` maps the names of queries and sort columns to those of documents, ``folded`` to those of the copies
    without case, ``joins`` to the stages that fetch a column from elsewhere, ``sorted_by`` to the indexes that have
    the order of a column. Fields that are ``unread`` are not fetched. What is deleted has none of those that are
    ``erased``, by their names in queries.
    """

    fields: ClassVar[Mapping[str, str]]
    folded: ClassVar[Mapping[str, str]] = {}
    joins: ClassVar[Mapping[str, Pipeline]] = {}
    sorted_by: ClassVar[Mapping[str, Index]] = {}
    unread: ClassVar[tuple[str, ...]] = ()
    erased: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, collection: Collection, keyring: Keyring, read: Callable[[Document], T]) -> None:
        """Search a collection as readers see it; the keyring seals page tokens, ``read`` makes values of documents."""
        self._searched = collection
        self._in_range = RangeSearch(collection, self.sorted_by, self.unread)
        self._tokens = PageTokens(keyring)
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
            case Number(name, value, method):
                return {self.fields[name]: {_COMPARISONS[method]: value}}
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
        where = {"$and": [self._beside(scope, query), self.filter(query)]}
        column = self.fields[page.sort]
        order = 1 if page.ascending else -1
        context = f"page|{binding}|{page.sort}|{order}"
        mark = self._tokens.open(page.token, context) if page.token else None
        after = behind(column, order, mark) if mark else None
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
            one = await self._in_range.ranges.find(scope, query, left(deadline)) if led else None
            if one is not None:
                asked = Asked(scope, one, page, mark, pipeline, EXACT, deadline)
                total, documents, more = await self._in_range.find(asked)
            elif led:
                total, documents, more = await self._led(scope, led, page, mark, pipeline, deadline=deadline)
            else:
                total = _told(mark) or await self._searched.count(where, EXACT + 1, seconds=left(deadline))
                documents = await self._searched.aggregate(pipeline, seconds=left(deadline)) if total else []
                more = len(documents) > page.limit
        except TookTooLong:
            raise _too_broad() from None
        shown = documents[: page.limit]
        if total > EXACT and one is None:
            total = _told(mark) or await self._about(where)
        told = total if total > EXACT else None
        token = self._tokens.seal(shown[-1], column, context, told) if more and shown else None
        return Found(tuple(map(self._read, shown)), total, token, is_estimate=total > EXACT)

    def _beside(self, scope: Document, query: Query) -> Document:
        """Give a scope without what a query says itself: so an index that has its fields counts without documents."""
        if not _asks_for(query, self.erased):
            return scope
        return {name: value for name, value in scope.items() if (name, value) != ("deleted", False)}

    async def _led(
        self, scope: Document, led: list[Entries], page: Page, mark: Mark | None, pipeline: Pipeline, *, deadline: float
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
        total, ids = _told(mark) or 0, None
        if not total:
            total, ids = await self._counted(pipeline, first, index, left(deadline))
        if total <= EXACT and ids is not None:
            wanted = ids[page.offset :]
            return total, await self._in_range.in_order(scope, wanted[: page.limit]), len(wanted) > page.limit
        documents = None
        if total > EXACT and sorted_by is not None:
            with contextlib.suppress(TookTooLong):
                documents = await self._searched.aggregate(pipeline, seconds=_SOON, hint=sorted_by)
        if documents is None:
            documents = await self._searched.aggregate(pipeline, seconds=left(deadline), hint=index)
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


def _asks_for(query: Query, names: frozenset[str]) -> bool:
    """Whether all that a query finds has a text in a field of one of these names."""
    match query:
        case Text(name, _, _):
            return name in names
        case AllOf(queries):
            return any(_asks_for(each, names) for each in queries)
        case AnyOf(queries):
            return bool(queries) and all(_asks_for(each, names) for each in queries)
        case _:
            return False


def _told(mark: Mark | None) -> int | None:
    """Give the estimate that the first page of a search told; None if it counted."""
    return mark.total if mark else None


def _too_broad() -> Unmet:
    return Unmet(
        "SEARCH_TOO_BROAD",
        f"the search takes more than {LONGEST:g} s: ask for equal values, a prefix, a suffix or a range of an indexed "
        "field, or for less",
        metadata={"seconds": f"{LONGEST:g}"},
    )
