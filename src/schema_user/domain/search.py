"""What can be searched for, as typed values: no filter is ever built from a client's own document."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

MAX_DEPTH: Final = 20
MAX_QUERIES: Final = 1000
"""Queries of one search, nested ones included."""

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000


class TextMethod(enum.StrEnum):
    """How a text is compared."""

    EQUALS = "TEXT_QUERY_METHOD_EQUALS"
    EQUALS_IGNORE_CASE = "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE"
    STARTS_WITH = "TEXT_QUERY_METHOD_STARTS_WITH"
    STARTS_WITH_IGNORE_CASE = "TEXT_QUERY_METHOD_STARTS_WITH_IGNORE_CASE"
    CONTAINS = "TEXT_QUERY_METHOD_CONTAINS"
    CONTAINS_IGNORE_CASE = "TEXT_QUERY_METHOD_CONTAINS_IGNORE_CASE"
    ENDS_WITH = "TEXT_QUERY_METHOD_ENDS_WITH"
    ENDS_WITH_IGNORE_CASE = "TEXT_QUERY_METHOD_ENDS_WITH_IGNORE_CASE"

    @property
    def ignores_case(self) -> bool:
        """Whether both sides are folded first."""
        return self.endswith("_IGNORE_CASE")


@dataclass(frozen=True, slots=True)
class Text:
    """The field ``name`` compared with a text."""

    name: str
    value: str
    method: TextMethod


@dataclass(frozen=True, slots=True)
class Is:
    """The field ``name`` has exactly this value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class During:
    """The time in the field ``name`` is not before ``since``, and before ``before``; None: no bound."""

    name: str
    since: datetime | None
    before: datetime | None


class DataMethod(enum.StrEnum):
    """How a value in ``data`` is compared by its kind: numbers by size, times by order, texts by code point."""

    EQUALS = "DATA_QUERY_METHOD_EQUALS"
    LESS = "DATA_QUERY_METHOD_LESS"
    LESS_OR_EQUALS = "DATA_QUERY_METHOD_LESS_OR_EQUALS"
    GREATER = "DATA_QUERY_METHOD_GREATER"
    GREATER_OR_EQUALS = "DATA_QUERY_METHOD_GREATER_OR_EQUALS"


@dataclass(frozen=True, slots=True)
class Data:
    """A value at an indexed path of ``data``, or an item of an array there, compares so; ``at`` names the query."""

    path: str
    method: TextMethod | DataMethod
    value: str | int | float | bool
    at: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """The field ``name``, a whole number, compares so with a value."""

    name: str
    value: int
    method: DataMethod


@dataclass(frozen=True, slots=True)
class Entries:
    """A ``Data`` as the database is asked: an entry under ``key`` meets each of ``bounds``.

    Bounds are pairs of ``eq``, ``lt``, ``lte``, ``gt``, ``gte`` or ``contains`` and a value. The query is true or
    false of users of ``schemas`` only, and of nobody whose id is ``unseen``: of others it is neither, and so not found
    by it nor by its opposite.
    """

    key: str
    bounds: tuple[tuple[str, str | int | float | bool], ...]
    schemas: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    unseen: str | None = None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the queries holds."""

    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every query holds; without any, everything is found."""

    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The query does not hold."""

    query: Query


Query = Text | Is | During | Number | Data | Entries | AnyOf | AllOf | Not


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the results: at most ``limit``, after ``offset`` of them or after the page that ``token`` ended."""

    sort: str
    ascending: bool = False
    offset: int = 0
    limit: int = DEFAULT_LIMIT
    token: str | None = None


def fold(text: str) -> str:
    """Fold a text for comparison without case: NFKC, case-folded, NFKC once more (Unicode 3.13, D147)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
