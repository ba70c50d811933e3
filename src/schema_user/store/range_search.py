"""Searches over ``data`` that are one range of its index: how many are in it, and a page of them by the shorter way.

There are two ways to a page by id or creation. One is to go through users in the order that is asked for until the page
is full, which is short where many are in the range; the other is to sort the keys of the range, which is short where
few are. A sample of values chooses (``DataRanges.guess()``); however wrong it is, it changes neither count nor page.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from schema_user.store.connection import TookTooLong
from schema_user.store.data_ranges import COLUMNS, DataRanges
from schema_user.store.data_search import is_equality

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from schema_user.domain.search import Page
    from schema_user.store.connection import Collection, Document, Pipeline
    from schema_user.store.data_ranges import KeyRange
    from schema_user.store.data_search import Index
    from schema_user.store.page_tokens import Mark

    Paged = tuple[list[Document], bool]

_SOON: Final = 0.25
"""Seconds after which to go through users is given up, where no sample says how far that may go."""

_UNEVEN: Final = 1.5
"""So many times as many users as are expected are gone through before keys are sorted instead."""

_KEYS_FOR_A_USER: Final = 3
"""So many keys of an index are read and sorted in the time in which one user is fetched and looked at; measured."""

_KEPT_KEYS: Final = {"_id": 0.5, "created_at": 0.2}
"""Up to this part of what is counted, keys are read once and sorted here; times take long to decode and sort."""

_LIKELY_MORE: Final = 1.2
"""From so many times of what is counted on, a guess is believed far enough to ask first whether there are more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A page of a range: ``exact`` results are counted at most, and ``pipeline`` finds the page whatever the way.

    ``mark`` is where the page before it ended; ``deadline`` is by ``time.monotonic()``.
    """

    scope: Document
    one: KeyRange
    page: Page
    mark: Mark | None
    pipeline: Pipeline
    exact: int
    deadline: float

    @property
    def column(self) -> str | None:
        """What the page is sorted by, if the index has it."""
        return COLUMNS.get(self.page.sort)

    @property
    def order(self) -> int:
        """1 from small to large, else -1."""
        return 1 if self.page.ascending else -1

    @property
    def end(self) -> int:
        """How many results a page needs, from the first or the mark on, and one more to see whether there is one."""
        return self.page.offset * (self.mark is None) + self.page.limit + 1

    @property
    def sorted_for_one(self) -> int:
        """How many of what is in the range are sorted in the time in which one user is looked at."""
        return _KEYS_FOR_A_USER if self.column and self.mark is None else 1


class RangeSearch:
    """Searches one collection; ``sorted_by`` names indexes that have the order of a column, ``unread`` fields."""

    def __init__(self, collection: Collection, sorted_by: Mapping[str, Index], unread: tuple[str, ...]) -> None:
        """Search a collection as readers see it."""
        self._searched = collection
        self._sorted_by = sorted_by
        self._fields = dict.fromkeys(unread, 0) or None
        self.ranges = DataRanges(collection)

    async def find(self, asked: Asked) -> tuple[int, list[Document], bool]:
        """Count what is in a range, or say about how many (more than ``exact``), and fetch a page of it.

        The last value is whether there are more behind it. Few are read and sorted here; many are counted while the
        page is found.

        Raises:
            TookTooLong: after the deadline.
        """
        if asked.mark and asked.mark.total:
            return asked.mark.total, *await self._page(asked, asked.mark.total)
        column, guess, held = asked.column, self.ranges.guess(asked.one), []
        if asked.mark or guess is None or (column and guess <= asked.exact * _KEPT_KEYS[column]):
            seconds = left(asked.deadline)
            held = await self.ranges.keys(asked.one, asked.exact + 1, column=column or "_id", seconds=seconds)
            if column and len(held) <= asked.exact:
                ids = _in_their_order(held, asked.mark, asked.page)
                return len(held), *await self._shown(asked, ids)
            if len(held) <= asked.exact:
                return len(held), *await self._page(asked, len(held))
            counting: Awaitable[int] = self.ranges.about(asked.one)
        else:
            counting = self._total(asked, guess)
        total, found = await asyncio.gather(counting, self._page(asked, guess))
        return max(total, asked.exact + 1) if len(held) > asked.exact else total, *found

    async def _total(self, asked: Asked, guess: int) -> int:
        """Count what is in a range up to ``exact``, and say about how many there are beyond."""
        one, exact = asked.one, asked.exact
        if guess > exact * _LIKELY_MORE and await self.ranges.more_than(one, exact, left(asked.deadline)):
            return guess
        total = len(await self.ranges.keys(one, exact + 1, seconds=left(asked.deadline)))
        return total if total <= exact else max(total, guess)

    async def _page(self, asked: Asked, about: int | None) -> Paged:
        """Fetch a page of a range in which ``about`` so many are, and say whether there are more behind it."""
        way = await self._way(asked, about)
        if way is None:
            return await self._sorted(asked)
        if way == asked.one.index:
            return await self._run(asked, asked.pipeline, way)
        return await self._met(asked, way, about) or await self._sorted(asked)

    async def _met(self, asked: Asked, way: Index, about: int | None) -> Paged | None:
        """Fetch a page by going through users in the order of an index; None if it is not full soon.

        How soon is a number of users: a time would be over sooner on a machine that has much to do, which would then
        get more to do.
        """
        one, page, within = asked.one, asked.page, await self._within(asked, about)
        walk: Pipeline = [{"$match": {"$and": [asked.scope, one.entry_filter, within]}}, *asked.pipeline[1:]]
        with contextlib.suppress(TookTooLong):
            documents = await self._searched.aggregate(walk, seconds=_SOON, hint=way)
            if not within or len(documents) > page.limit:
                return documents, len(documents) > page.limit
        return None

    async def _way(self, asked: Asked, about: int | None) -> Index | None:
        """Name the index in whose order the page is soon full; None if it is shorter to sort."""
        page, one, hint = asked.page, asked.one, self._sorted_by.get(asked.page.sort)
        if page.sort == "id" and is_equality(one.entries):
            return one.index
        if page.sort == "id" and one.organization_id is not None:
            return (("organization_id", 1), ("_id", 1))
        if hint is None or about is None:
            return hint
        # Evenly spread, so many users are gone through until the page is full; sorting looks at ``about``.
        passed = asked.end * await self.ranges.everything(one) // max(1, about)
        return hint if passed * asked.sorted_for_one <= about else None

    async def _within(self, asked: Asked, about: int | None) -> Document:
        """Give the part of a column that should fill the page, or costs no more to go through than sorting does.

        It reaches from where the page begins to where a sample says; without one, it is all.
        """
        column = asked.column
        if column is None or not about:
            return {}
        start = (asked.mark.last_id if column == "_id" else asked.mark.value) if asked.mark else None
        part = max(
            _UNEVEN * asked.end / about, about / (asked.sorted_for_one * await self.ranges.everything(asked.one))
        )
        last = self.ranges.reaching(asked.one, column, asked.order, start, part)
        if last is None:
            return {}
        first, until = ("$gte", "$lte") if asked.order > 0 else ("$lte", "$gte")
        return {column: {until: last} | ({first: start} if start is not None else {})}

    async def _sorted(self, asked: Asked) -> Paged:
        """Sort what is in the range: its keys, if the index has the column; behind another page users."""
        if asked.column is None or asked.mark is not None:
            return await self._run(asked, asked.pipeline, asked.one.index)
        ids = await self.ranges.first(asked.one, asked.column, asked.order, asked.end, left(asked.deadline))
        return await self._shown(asked, ids[asked.page.offset :])

    async def _run(self, asked: Asked, pipeline: Pipeline, hint: Index) -> Paged:
        documents = await self._searched.aggregate(pipeline, seconds=left(asked.deadline), hint=hint)
        return documents, len(documents) > asked.page.limit

    async def _shown(self, asked: Asked, ids: list[str]) -> Paged:
        return await self.in_order(asked.scope, ids[: asked.page.limit]), len(ids) > asked.page.limit

    async def in_order(self, scope: Document, ids: list[str]) -> list[Document]:
        """Fetch documents in the order of their ids here; one that went meanwhile is left out."""
        if not ids:
            return []
        found = await self._searched.find(scope | {"_id": {"$in": ids}}, self._fields)
        by_id = {each["_id"]: each for each in found}
        return [by_id[each] for each in ids if each in by_id]


def _in_their_order(held: list[tuple[Any, str]], mark: Mark | None, page: Page) -> list[str]:
    """Sort pairs of a value and an id, and give the ids from where the page begins."""
    for place in (1, 0):  # sorted twice by texts or by times: that is faster than once by pairs of them
        held.sort(key=itemgetter(place), reverse=not page.ascending)
    if mark is None:
        return [each for _, each in held[page.offset :]]
    value = mark.value.replace(tzinfo=None) if isinstance(mark.value, datetime) else mark.value
    last = (value, mark.last_id)
    return [each[1] for each in held if (each > last if page.ascending else each < last)]


def left(deadline: float) -> float:
    """Give the seconds that are left until a time by ``time.monotonic()``.

    Raises:
        TookTooLong: if none are.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TookTooLong
    return seconds
