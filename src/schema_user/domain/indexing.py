"""Which values of a user's ``data`` can be searched for, and which may be held once: what a schema's marks mean.

``validation/index_keyword.py`` makes a plan of a schema's keywords; here the plan meets documents. A path names members
only: the items of an array lie at the path of the array. A value is searched for by one or several entries, each a key
and a value that one index of the database sorts:

- ``v`` and the path: the value itself, a text, a number or a bool;
- ``f``, ``r`` and ``b``: a text folded, reversed, and reversed and folded, for methods without case and for suffixes;
- ``m`` and the path: true, if the document has several values there;
- ``t``: a text that is a date or time of RFC 3339, as microseconds since 1970; a date is its first instant in UTC.

Texts are kept up to 1,000 characters. Texts that are sought are shorter, so that only what is contained further behind
is not found. null and objects have no entries.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.domain.document import pointer
from schema_user.domain.search import fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    Scalar = str | int | float | bool
    Tokens = tuple[str | int, ...]

MAX_TEXT: Final = 1_000
"""Characters of a text that entries keep."""

MAX_VALUES: Final = 1_000
"""Values of one user that are indexed: each is up to five entries in two indexes."""

MAX_UNIQUE: Final = 50
"""Values of one user that nobody else may have: each is a claim, made before the user is written."""

VALUE: Final = "v"
FOLDED: Final = "f"
REVERSED: Final = "r"
REVERSED_FOLDED: Final = "b"
TIME: Final = "t"
SEVERAL: Final = "m"

_VERSION: Final = 1
"""Rises when entries are made otherwise than before: then all users are indexed anew."""

_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt](\d{2}:\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2})))?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP: Final = 60
_LAST_HOUR: Final = 23
_LAST_MINUTE: Final = 59


class Entry(NamedTuple):
    """One value under a key; ``is_bool`` keeps true and 1 apart, which Python takes to be equal."""

    key: str
    is_bool: bool
    value: Scalar


class Unique(NamedTuple):
    """A value that nobody else may have: its path, the value in one spelling, and where it stands in ``data``."""

    path: str
    value: str
    pointer: str


@dataclass(slots=True)
class Marked:
    """A place of documents, or one that leads there: its marks, and those of its members and items.

    ``path`` is written down by the plan that the place belongs to.
    """

    path: str = ""
    index: bool = False
    unique: bool = False
    members: dict[str, Marked] = field(default_factory=dict)
    items: Marked | None = None

    def at(self, route: tuple[str | None, ...]) -> Marked:
        """Give the place to which a route leads, made if it is not there; None stands for the items of an array."""
        here = self
        for step in route:
            if step is None:
                here.items = here.items or Marked()
                here = here.items
            else:
                here = here.members.setdefault(step, Marked())
        return here

    def walk(self, route: tuple[str | None, ...] = ()) -> Iterator[tuple[tuple[str | None, ...], Marked]]:
        """Give each place with its route."""
        yield route, self
        for name, inner in self.members.items():
            yield from inner.walk((*route, name))
        if self.items is not None:
            yield from self.items.walk((*route, None))


def path_of(tokens: tuple[str | int | None, ...]) -> str:
    """Write the path of a place: a JSON Pointer (RFC 6901) without the items of arrays."""
    return "/" + pointer(*(token for token in tokens if isinstance(token, str)))


class IndexPlan:
    """What one revision of a schema wants indexed and unique.

    ``routes`` say for each indexed path where it can lie: with and without arrays. Two plans with the same
    ``fingerprint`` make the same entries and claims. Paths that the user itself may not read are in ``not_own``.
    """

    __slots__ = ("_root", "fingerprint", "not_own", "routes", "unique")

    def __init__(self, root: Marked, not_own: frozenset[str] = frozenset()) -> None:
        self._root = root
        self.not_own = not_own
        routes: dict[str, set[str]] = {}
        unique: dict[str, set[str]] = {}
        for route, place in root.walk():
            place.path = path_of(route)
            for marked, found in ((place.index, routes), (place.unique, unique)):
                if marked:
                    found.setdefault(place.path, set()).add(json.dumps(route))
        self.routes = {path: frozenset(found) for path, found in routes.items()}
        self.unique = {path: frozenset(found) for path, found in unique.items()}
        told = json.dumps([_VERSION, *(sorted(set().union(*each.values())) for each in (routes, unique))])
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]

    def newly_unique(self, before: IndexPlan | None) -> frozenset[str]:
        """Give the paths that are unique, and were not at the same places under the plan before."""
        return frozenset(
            path for path, routes in self.unique.items() if before is None or before.unique.get(path) != routes
        )

    def same(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether two documents have the same entries for certain: the same values at the same places."""
        pairs = zip_longest(_values(self._root, one, (), "index"), _values(self._root, other, (), "index"))
        return all(this == that and isinstance(this[1], bool) is isinstance(that[1], bool) for this, that in pairs)

    def entries(self, data: dict[str, Any]) -> tuple[Entry, ...]:
        """Give the entries of a document, in its order, each once; of ``MAX_VALUES`` values at most."""
        found: dict[Entry, None] = {}
        values: set[tuple[str, bool, Scalar]] = set()
        paths: set[str] = set()
        for path, value, _ in _values(self._root, data, (), "index"):
            key = (path, isinstance(value, bool), value)
            if key not in values and len(values) < MAX_VALUES:
                if path in paths:
                    found[Entry(SEVERAL + path, is_bool=True, value=True)] = None
                values.add(key)
                paths.add(path)
                found.update(dict.fromkeys(_entries(path, value)))
        return tuple(found)

    def count(self, data: dict[str, Any]) -> tuple[int, int]:
        """Count the different values of a document that are indexed, and those that are unique."""
        indexed = {(path, isinstance(value, bool), value) for path, value, _ in _values(self._root, data, (), "index")}
        return len(indexed), len({(each.path, each.value) for each in self._uniques(data)})

    def uniques(self, data: dict[str, Any]) -> list[Unique]:
        """Give what of a document nobody else may have, each value of a path once, at its first place."""
        found: dict[tuple[str, str], Unique] = {}
        for each in self._uniques(data):
            found.setdefault((each.path, each.value), each)
        return list(found.values())[:MAX_UNIQUE]

    def _uniques(self, data: dict[str, Any]) -> Iterator[Unique]:
        if self.unique:
            for path, value, tokens in _values(self._root, data, (), "unique"):
                yield Unique(path, spelled(value), pointer("data", *tokens))


def _values(place: Marked, value: Any, at: Tokens, mark: str) -> Iterator[tuple[str, Scalar, Tokens]]:
    """Give the marked values of a document: path, value, and the tokens that lead there."""
    if isinstance(value, dict):
        for name, inner in place.members.items():
            if name in value:
                yield from _values(inner, value[name], (*at, name), mark)
    elif isinstance(value, list):
        marked = getattr(place, mark)
        for index, inner in enumerate(value):
            if marked and isinstance(inner, str | int | float):
                yield place.path, inner, (*at, index)
            elif place.items is not None:
                yield from _values(place.items, inner, (*at, index), mark)
    elif value is not None and getattr(place, mark):
        yield place.path, value, at


def _entries(path: str, value: Scalar) -> Iterator[Entry]:
    if not isinstance(value, str):
        yield Entry(VALUE + path, isinstance(value, bool), value)
        return
    folded = fold(value)
    yield Entry(VALUE + path, is_bool=False, value=value[:MAX_TEXT])
    yield Entry(FOLDED + path, is_bool=False, value=folded[:MAX_TEXT])
    yield Entry(REVERSED + path, is_bool=False, value=value[: -MAX_TEXT - 1 : -1])
    yield Entry(REVERSED_FOLDED + path, is_bool=False, value=folded[: -MAX_TEXT - 1 : -1])
    instant = instant_of(value)
    if instant is not None:
        yield Entry(TIME + path, is_bool=False, value=instant)


def instant_of(text: str) -> int | None:
    """Give the microseconds since 1970 of an RFC 3339 date or time, finer fractions cut off; None if it is neither."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    day, minutes, seconds, fraction, sign, off_hours, off_minutes = found.groups(default="")
    leap = int(seconds or 0) == _LEAP
    try:
        at = datetime.fromisoformat(f"{day}T{minutes or '00:00'}:{'59' if leap else seconds or '00'}+00:00")
        shift = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
    except ValueError:
        return None
    if int(off_hours or 0) > _LAST_HOUR or int(off_minutes or 0) > _LAST_MINUTE:
        return None
    since = at - _EPOCH - (-shift if sign == "-" else shift) + timedelta(seconds=int(leap))
    return since // timedelta(microseconds=1) + int(fraction[:6].ljust(6, "0"))


def spelled(value: Scalar) -> str:
    """Write a value so that equal ones are written alike: texts without case, 1 like 1.0, true unlike 1."""
    if isinstance(value, str):
        return "s" + fold(value)
    if isinstance(value, bool):
        return "b1" if value else "b0"
    return f"n{int(value)}" if value == int(value) else f"n{value!r}"
