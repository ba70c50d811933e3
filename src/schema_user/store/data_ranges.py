"""Ranges of the index over ``data`` that are read without the users: to count, to find a page's ids, to estimate.

A condition on the items of an array makes MongoDB fetch every document, although the index holds all that was asked. A
range between two keys (``min`` and ``max`` of ``find``) does not: it reads keys only, and gives a user once however
many of its entries lie in it. The index holds nothing of deleted users, as they have no ``marking``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bson import MaxKey, MinKey

from schema_user.domain.indexing import SEVERAL
from schema_user.domain.search import AllOf, AnyOf, Entries
from schema_user.store.data_search import BY_ORGANIZATION, BY_VALUE, MARKED
from schema_user.store.known import Known

if TYPE_CHECKING:
    from schema_user.domain.search import Query
    from schema_user.store.connection import Collection, Document
    from schema_user.store.data_search import Index

COLUMNS: Final = {"id": "_id", "creation_date": "created_at"}
"""What a page can be sorted by without a look at users, and where the index has it."""

_SAMPLE: Final = 1_000
_SAMPLED_VALUES: Final = 20
_SAMPLE_SECONDS: Final = 0.25
_SAMPLE_TTL: Final = 60.0
_SAMPLES_KEPT: Final = 32

# A bound ends where ids, which are texts, begin or where they end. No two of these are equal: MongoDB 6.0 takes a field
# whose lower and upper bounds are equal for one that has a single value, and then leaves out a sort that is needed.
_BEFORE_ALL, _UNTIL_BEFORE_ALL = MinKey(), None
_AFTER_ALL, _UNTIL_AFTER_ALL = True, MaxKey()

Values = tuple[Any, ...]
"""What a sampled user has under a key."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """What lies under one key of ``entries`` between ``lower`` and ``upper``: pairs of a value and how ids end it.

    Of one organization, or (None) of all.
    """

    organization_id: str | None
    entries: Entries
    lower: tuple[Any, Any]
    upper: tuple[Any, Any]

    @property
    def index(self) -> Index:
        """The index that has the range."""
        return BY_VALUE if self.organization_id is None else BY_ORGANIZATION

    @property
    def bounds(self) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """The first key of the index in the range, and the first one behind it."""
        scope = [] if self.organization_id is None else [self.organization_id]
        names = [name for name, _ in self.index]
        lower, upper = ([*scope, self.entries.key, *end, end[1]] for end in (self.lower, self.upper))
        return list(zip(names, lower, strict=True)), list(zip(names, upper, strict=True))

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range, compared as the database does."""
        bounds = self.entries.bounds
        if _kind(value) != _kind(bounds[0][1]):
            return False
        return all(_HOLDS[name](value, bound) for name, bound in bounds)


_HOLDS: Final = {
    "eq": lambda value, bound: value == bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
}


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number"


def range_of(scope: Document, query: Query) -> tuple[KeyRange | None, KeyRange | None]:
    """Give the one range that holds what a query finds, of users everywhere or in one organization, or None.

    If there is a second range, that is so only while nobody is in it: whoever is has several values, of which two may
    meet the two ends of the range (``narrowed()``).
    """
    organizations = scope.get("organization_id", {"$in": [None]})["$in"]
    if not scope.keys() <= {"deleted", "organization_id"} or len(organizations) != 1:
        return None, None
    match query:
        case AllOf((inner,)):
            return range_of(scope, inner)
        case AnyOf((Entries() as one, AllOf((Entries() as several, *_)))) if several.key == SEVERAL + one.key[1:]:
            return _range(organizations[0], one), _range(organizations[0], several)
        case Entries():
            return _range(organizations[0], query), None
        case _:
            return None, None


def _range(organization_id: str | None, entries: Entries) -> KeyRange | None:
    """Give the range of entries, unless there is more to see to than their values."""
    if entries.stale or entries.unseen is not None or any(name == "contains" for name, _ in entries.bounds):
        return None
    is_text = isinstance(entries.bounds[0][1], str)
    lower: tuple[Any, Any] = ("" if is_text else float("-inf"), _BEFORE_ALL)
    upper: tuple[Any, Any] = ({} if is_text else "", _UNTIL_BEFORE_ALL)
    for name, value in entries.bounds:
        if name in {"eq", "gte", "gt"}:
            lower = (value, _AFTER_ALL if name == "gt" else _BEFORE_ALL)
        if name in {"eq", "lte", "lt"}:
            upper = (value, _UNTIL_BEFORE_ALL if name == "lt" else _UNTIL_AFTER_ALL)
    return KeyRange(organization_id, entries, lower, upper)


def _is_empty(asked: KeyRange) -> bool:
    """Whether the ends leave nothing between them, which the database would take for an error."""
    low: list[tuple[Any, str]] = [(value, name) for name, value in asked.entries.bounds if name in {"gt", "gte"}]
    high: list[tuple[Any, str]] = [(value, name) for name, value in asked.entries.bounds if name in {"lt", "lte"}]
    if not low or not high:
        return False
    (least, above), (most, below) = low[0], high[0]
    return least > most or (least == most and (above, below) != ("gte", "lte"))


class DataRanges:
    """Reads ranges of the indexes over ``data`` of one collection."""

    def __init__(self, collection: Collection) -> None:
        """Read a collection as readers see it."""
        self._searched = collection
        self._samples: Known[tuple[str | None, str], tuple[int, list[Values]]] = Known(
            self._sampled, _SAMPLE_TTL, _SAMPLES_KEPT
        )

    async def find(self, scope: Document, query: Query, seconds: float) -> KeyRange | None:
        """Give the one range that holds what a query finds; None if there is none.

        Raises:
            TookTooLong: after ``seconds``.
        """
        found, several = range_of(scope, query)
        if found is not None and several is not None and await self.keys(several, 1, seconds=seconds):
            return None
        return found

    async def keys(self, asked: KeyRange, most: int, *, column: str = "_id", seconds: float) -> list[tuple[Any, str]]:
        """Give what ``column`` has and the id of users in a range, each once and ``most`` at most, in no order.

        Raises:
            TookTooLong: after ``seconds``.
        """
        if _is_empty(asked):
            return []
        found = await self._searched.keys(asked.index, *asked.bounds, [column, "_id"], limit=most, seconds=seconds)
        return [(each[column], each["_id"]) for each in found]

    async def first(self, asked: KeyRange, column: str, order: int, most: int, seconds: float) -> list[str]:
        """Give the ids of the first users in a range, sorted by ``column`` and id; the database holds no more of them.

        Raises:
            TookTooLong: after ``seconds``.
        """
        sort = list({column: order, "_id": order}.items())
        found = await self._searched.keys(
            asked.index, *asked.bounds, [column, "_id"], limit=most, sort=sort, seconds=seconds
        )
        return [each["_id"] for each in found]

    async def about(self, asked: KeyRange) -> int:
        """Say about how many users are in a range, by a sample of the values that users have under its key.

        One sample serves all ranges of a key for a minute. Of a user it has up to 20 values.

        Raises:
            TookTooLong: if it cannot be had soon.
        """
        scale, sample = await self._samples.get((asked.organization_id, asked.entries.key))
        return sum(any(map(asked.holds, values)) for values in sample) * scale // _SAMPLE

    async def _sampled(
        self, wanted: tuple[str | None, str], _: tuple[int, list[Values]] | None
    ) -> tuple[int, list[Values]]:
        """Give values of users taken at random, and by how many thousandths each of them stands for others."""
        organization_id, key = wanted
        everything = await self._searched.estimate()
        size = min(_SAMPLE, max(1, everything // 25))
        where = MARKED | {"indexed.k": key} | ({"organization_id": organization_id} if organization_id else {})
        entries = {"$filter": {"input": "$indexed", "cond": {"$eq": ["$$this.k", {"$literal": key}]}}}
        values = {"$slice": [{"$map": {"input": entries, "in": "$$this.v"}}, _SAMPLED_VALUES]}
        found = await self._searched.aggregate(
            [{"$sample": {"size": size}}, {"$match": where}, {"$project": {"_id": 0, "values": values}}],
            seconds=_SAMPLE_SECONDS,
        )
        return everything * _SAMPLE // size, [tuple(each["values"]) for each in found]
