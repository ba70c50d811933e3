"""Ranges of the index over ``data`` that are read without the users: to count, to find a page's ids, to estimate.

A condition on the items of an array makes MongoDB fetch every document, although the index holds all that was asked. A
range between two keys (``min`` and ``max`` of ``find``) does not: it reads keys only, and gives a user once however
many of its entries lie in it. The index holds nothing of deleted users, as they have no ``marking``.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from bson import MaxKey, MinKey

from schema_user.domain.indexing import SEVERAL
from schema_user.domain.search import AllOf, AnyOf, Entries
from schema_user.store.connection import TookTooLong
from schema_user.store.data_search import BY_ORGANIZATION, BY_VALUE, is_equality
from schema_user.store.known import Known

if TYPE_CHECKING:
    from schema_user.domain.search import Query
    from schema_user.store.connection import Collection, Document
    from schema_user.store.data_search import Index

COLUMNS: Final = {"id": "_id", "creation_date": "created_at"}
"""What a page can be sorted by without a look at users, and where the index has it."""

_EQUAL: Final = 100
"""So many more of the first keys are read, as those of users who were created at one time may be in any order."""

_WORTH_HALVING: Final = 5_000
"""From so many users on, the keys of a range are sorted in two halves at once."""

_SAMPLE: Final = 2_000
_SAMPLED_VALUES: Final = 20
_MARGIN: Final = 3
"""So many more users of a sample are between two places than should be: a part of it is only about right."""

_SAMPLE_SECONDS: Final = 5.0
_SAMPLE_PATIENCE: Final = 0.25
_SAMPLE_TTL: Final = 300.0
_SAMPLES_KEPT: Final = 64

# A bound ends where ids, which are texts, begin or where they end. No two of these are equal: MongoDB 6.0 takes a field
# whose lower and upper bounds are equal for one that has a single value, and then leaves out a sort that is needed.
_BEFORE_ALL, _UNTIL_BEFORE_ALL = MinKey(), None
_AFTER_ALL, _UNTIL_AFTER_ALL = True, MaxKey()


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

    @property
    def entry_filter(self) -> Document:
        """The filter of what is in the range, for one who meets users anyhow: entries are compared as a whole.

        That takes half as long as to look for their members, and no index serves it.
        """
        key = self.entries.key
        (low, low_end), (high, high_end) = self.lower, self.upper
        if is_equality(self.entries):
            return {"indexed": {"k": key, "v": low}}
        above = "$gt" if low_end is _AFTER_ALL else "$gte"
        below = "$lte" if high_end is _UNTIL_AFTER_ALL else "$lt"
        return {"indexed": {"$elemMatch": {above: {"k": key, "v": low}, below: {"k": key, "v": high}}}}


@dataclass(frozen=True, slots=True)
class Sample:
    """Values that users taken at random have under one key, sorted.

    ``share`` is by how many users each of them stands for. ``values`` has for each kind of value the sorted values, and
    beside each the number of its user and that user's organization. ``columns`` has for each column what the users
    have there, sorted, whether they have a value or not.
    """

    share: float
    everything: int
    values: dict[str, tuple[list[Any], list[tuple[int, str]]]]
    columns: dict[str, list[Any]]

    @classmethod
    def of(cls, found: list[Document], size: int, everything: int) -> Sample:
        """Sort what ``size`` users of ``everything`` have."""
        sorts: dict[str, list[tuple[Any, int, str]]] = {}
        for number, each in enumerate(found):
            for value in each["values"]:
                sorts.setdefault(_kind(value), []).append((value, number, each["organization_id"]))
        values = {
            kind: ([value for value, *_ in held], [(number, owner) for _, number, owner in held])
            for kind, held in ((kind, sorted(held)) for kind, held in sorts.items())
        }
        columns = {column: sorted(each[column] for each in found) for column in COLUMNS.values()}
        return cls(everything / size, everything, values, columns)

    def reaching(self, column: str, order: int, start: Any, part: float) -> Any:
        """Say how far in a column it is from ``start`` (None: the first user) past such a part of all users.

        None: to the end, or not known.
        """
        held = self.columns[column]
        ahead = math.ceil(part * len(held)) + _MARGIN
        if order > 0:
            at = (bisect_right(held, start) if start is not None else 0) + ahead - 1
        else:
            at = (bisect_left(held, start) if start is not None else len(held)) - ahead
        return held[at] if 0 <= at < len(held) else None

    def about(self, asked: KeyRange) -> int:
        """Say about how many users are in a range; one with several values there is one."""
        _, users = self._inside(asked)
        one = asked.organization_id
        return int(len({number for number, owner in users if one is None or owner == one}) * self.share)

    def halves(self, asked: KeyRange) -> tuple[KeyRange, ...]:
        """Cut a range into two of about the same size, if it is large and of all organizations: else it stays one."""
        values, _ = self._inside(asked)
        if asked.organization_id is not None or len(values) * self.share < _WORTH_HALVING:
            return (asked,)
        if is_equality(asked.entries):
            middle = self.columns["_id"][len(self.columns["_id"]) // 2]
            lower, upper = asked.lower, (asked.lower[0], middle)
            return replace(asked, lower=lower, upper=upper), replace(asked, lower=upper)
        middle = values[len(values) // 2]
        return replace(asked, upper=(middle, _UNTIL_BEFORE_ALL)), replace(asked, lower=(middle, _BEFORE_ALL))

    def _inside(self, asked: KeyRange) -> tuple[list[Any], list[tuple[int, str]]]:
        """Give the values in a range, and whose they are."""
        bounds = asked.entries.bounds
        values, users = self.values.get(_kind(bounds[0][1]), ([], []))
        start, end = 0, len(values)
        for name, bound in bounds:
            if name in {"eq", "gte", "gt"}:
                start = (bisect_right if name == "gt" else bisect_left)(values, bound)
            if name in {"eq", "lte", "lt"}:
                end = (bisect_left if name == "lt" else bisect_right)(values, bound)
        return values[start:end], users[start:end]


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
        self._samples: Known[str, Sample] = Known(self._sampled, _SAMPLE_TTL, _SAMPLES_KEPT)

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

    async def more_than(self, asked: KeyRange, count: int, seconds: float) -> bool:
        """Whether there are more than so many users in a range: half the work of reading as many keys.

        Raises:
            TookTooLong: after ``seconds``.
        """
        if _is_empty(asked):
            return False
        options: dict[str, Any] = {"skip": count, "limit": 1, "seconds": seconds}
        # A time takes the database a tenth less than an id: it writes down what it skips.
        return bool(await self._searched.keys(asked.index, *asked.bounds, ["created_at"], **options))

    async def first(self, asked: KeyRange, column: str, order: int, most: int, seconds: float) -> list[str]:
        """Give the ids of the first users in a range, sorted by ``column`` and id; the database holds few more of them.

        It sorts by the column alone in two thirds of the time that both take. Of those that are equal there it may
        leave some out at the end: if that could concern the first ``most``, it sorts once more by both.

        Raises:
            TookTooLong: after ``seconds``.
        """
        both = [(column, order), ("_id", order)]
        found = await self._sorted(asked, both[:1], most + _EQUAL, seconds)
        if len(found) == most + _EQUAL and found[-1][column] == found[most - 1][column]:
            found = await self._sorted(asked, both, most, seconds)
        found.sort(key=itemgetter(column, "_id"), reverse=order < 0)
        return [each["_id"] for each in found[:most]]

    async def _sorted(self, asked: KeyRange, sort: list[tuple[str, int]], most: int, seconds: float) -> list[Document]:
        """Give the first keys of both halves of a range: two cores sort them in half of the time."""
        if _is_empty(asked):
            return []
        fields = list(dict.fromkeys([sort[0][0], "_id"]))
        sample = self._samples.peek(asked.entries.key)
        parts = await asyncio.gather(
            *(
                self._searched.keys(each.index, *each.bounds, fields, limit=most, sort=sort, seconds=seconds)
                for each in (sample.halves(asked) if sample else (asked,))
            )
        )
        if len(parts) == 1:
            return parts[0]
        found = list({each["_id"]: each for part in parts for each in part}.values())  # some have a value in both
        found.sort(key=itemgetter(*(name for name, _ in sort)), reverse=sort[0][1] < 0)
        return found[:most]

    def guess(self, asked: KeyRange) -> int | None:
        """Say about how many users are in a range; None without a sample of its key.

        One sample serves all ranges of a key for five minutes, and is taken where ``about()`` is asked first.
        """
        sample = self._samples.peek(asked.entries.key)
        return sample.about(asked) if sample else None

    async def about(self, asked: KeyRange) -> int:
        """Say about how many users are in a range, by a sample; 0 if that cannot be had soon."""
        try:
            async with asyncio.timeout(_SAMPLE_PATIENCE):
                return (await self._samples.get(asked.entries.key)).about(asked)
        except (TimeoutError, TookTooLong):
            return 0

    def reaching(self, asked: KeyRange, column: str, order: int, start: Any, part: float) -> Any:
        """Say how far in a column it is from ``start`` (None: the first user) past such a part of all users.

        None: to the end, or not known without a sample of the range's key.
        """
        sample = self._samples.peek(asked.entries.key)
        return sample.reaching(column, order, start, part) if sample else None

    async def everything(self, asked: KeyRange) -> int:
        """Say about how many users there are, in range or not."""
        sample = self._samples.peek(asked.entries.key)
        return sample.everything if sample else await self._searched.estimate()

    async def _sampled(self, key: str, _: Sample | None) -> Sample:
        """Take users at random, of all organizations, and up to 20 of the values that each has under a key."""
        everything = await self._searched.estimate()
        size = min(_SAMPLE, max(1, everything // 25))
        held = {"$ifNull": ["$indexed", []]}
        entries = {"$filter": {"input": held, "cond": {"$eq": ["$$this.k", {"$literal": key}]}}}
        values = {"$slice": [{"$map": {"input": entries, "in": "$$this.v"}}, _SAMPLED_VALUES]}
        found = await self._searched.aggregate(
            [
                {"$sample": {"size": size}},
                {"$project": {"organization_id": 1, "created_at": 1, "values": values}},
            ],
            seconds=_SAMPLE_SECONDS,
        )
        return Sample.of(found, size, everything)
