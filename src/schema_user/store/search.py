"""Searches as MongoDB filters, with page tokens that go on where the last page ended.

Filters are built from typed queries over known fields only; a client's text is always a value, escaped where it
becomes part of a pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import msgspec

from schema_user.domain.keyring import SealError
from schema_user.domain.search import AllOf, AnyOf, During, Is, Not, Page, Query, Text, TextMethod, fold
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Collection, Document, Pipeline

T = TypeVar("T")

_PATTERNS: Final = {
    TextMethod.STARTS_WITH: "^{}",
    TextMethod.STARTS_WITH_IGNORE_CASE: "^{}",
    TextMethod.CONTAINS: "{}",
    TextMethod.CONTAINS_IGNORE_CASE: "{}",
    TextMethod.ENDS_WITH: "{}$",
    TextMethod.ENDS_WITH_IGNORE_CASE: "{}$",
}
_NOTHING: Final[dict[str, Any]] = {"_id": {"$in": []}}


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One page of results; ``total`` counts all of them, ``next_token`` leads to the next page if there is one."""

    items: tuple[T, ...]
    total: int
    next_token: str | None


class _Mark(msgspec.Struct, array_like=True):
    """Where a page ended: the value of the sorted field and the id of the last result."""

    value: str | int | datetime | None
    last_id: str
    kind: str = "text"


def text_filter(field: str, folded: str | None, query: Text) -> Document:
    """Compare a stored text; without case on its folded copy, or on itself where case means nothing."""
    name, value = (folded or field, fold(query.value)) if query.method.ignores_case else (field, query.value)
    pattern = _PATTERNS.get(query.method)
    if pattern is None:
        return {name: {"$eq": value}}
    # re.escape writes \- and \  that PCRE takes as they are; the s flag lets a stored line break be any character.
    return {name: {"$regex": pattern.format(re.escape(value)), "$options": "s"}}


class SearchStore(Generic[T]):
    """Searches one collection.

    ``fields`` maps the names of queries and sort columns to those of documents, ``folded`` to those of the copies
    without case, ``joins`` to the stages that fetch a column from elsewhere.
    """

    fields: ClassVar[Mapping[str, str]]
    folded: ClassVar[Mapping[str, str]] = {}
    joins: ClassVar[Mapping[str, Pipeline]] = {}

    def __init__(self, collection: Collection, keyring: Keyring, read: Callable[[Document], T]) -> None:
        """Search a collection as readers see it; the keyring seals page tokens, ``read`` makes values of documents."""
        self._searched = collection
        self._tokens = keyring
        self._read = read

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
                return {"$nor": [self.filter(inner)]}

    async def search(self, scope: Document, query: Query, page: Page, binding: str) -> Found[T]:
        """Find one page within ``scope``, the part of the collection that the caller may see.

        ``binding`` names caller, organization and query: a page token serves only where all three are the same.

        Raises:
            Malformed: for a page token that is not one of these.
        """
        where = {"$and": [scope, self.filter(query)]}
        column = self.fields[page.sort]
        order = 1 if page.ascending else -1
        context = f"page|{binding}|{page.sort}|{order}"
        documents = await self._searched.aggregate(
            [
                {"$match": where},
                *self.joins.get(page.sort, ()),
                *([{"$match": self._after(column, order, self._open(page.token, context))}] if page.token else []),
                {"$sort": {column: order, "_id": order}},
                {"$skip": 0 if page.token else page.offset},
                {"$limit": page.limit + 1},
            ]
        )
        shown = documents[: page.limit]
        token = self._seal(shown[-1], column, context) if len(documents) > page.limit and shown else None
        total = await self._searched.count(where)
        return Found(tuple(map(self._read, shown)), total, token)

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


class _StoredMark(msgspec.Struct, array_like=True):
    value: str | int | None
    last_id: str
    kind: str
