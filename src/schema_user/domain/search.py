"""What can be searched for, as typed values: no filter is ever built from a client's own document."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

MAX_DEPTH: Final = 20
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


Query = Text | Is | During | AnyOf | AllOf | Not


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
