"""The index over users' ``data``: two compound multikey indexes, whatever schemas there are.

A user's document holds in ``indexed`` an entry for each value and each way to look for it (``domain/indexing.py``). A
query is one range under one key, and so a range of an index: within organizations of the one that begins with
``organization_id``, over all of them of the other one. The id follows, so that what equals a value comes sorted by id,
and the time of creation, so that a page by it is found without the users (``store/data_ranges.py``). They hold nothing
of users whose schema marks nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.search import AllOf, AnyOf, Entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.domain.search import Query
    from schema_user.store.connection import Document

    Index = tuple[tuple[str, int], ...]

BY_VALUE: Final[Index] = (("indexed.k", 1), ("indexed.v", 1), ("_id", 1), ("created_at", 1))
BY_ORGANIZATION: Final[Index] = (("organization_id", 1), *BY_VALUE)
MARKED: Final[Document] = {"marking": {"$exists": True}}
"""What holds of each user that the indexes hold; a query must say it, or they are not used."""


def entries_filter(query: Entries) -> Document:
    """Build the filter of what a query is true of."""
    value: Document = {}
    for name, bound in query.bounds:
        value |= {"$regex": re.escape(str(bound)), "$options": "s"} if name == "contains" else {f"${name}": bound}
    found: Document = MARKED | {"indexed": {"$elemMatch": {"k": query.key, "v": value}}}
    return _restricted(query, found)


def opposite_filter(query: Entries) -> Document:
    """Build the filter of what a query is false of: only users of schemas that index the path can be told."""
    known = query.schemas - query.stale
    bare = Entries(query.key, query.bounds)
    return _restricted(query, {"schema_id": {"$in": sorted(known)}, "$nor": [entries_filter(bare)]})


def _restricted(query: Entries, found: Document) -> Document:
    if query.stale:
        found.setdefault("schema_id", {"$nin": sorted(query.stale)})
    if query.unseen is not None:
        found["_id"] = {"$ne": query.unseen}
    return found


def leads(query: Query) -> Iterator[Entries]:
    """Give the ranges of entries that everything found must have: any one of them leads to all of it.

    One without bounds stands for several ranges that do so together.
    """
    match query:
        case Entries(_, bounds):
            if all(name != "contains" for name, _ in bounds):
                yield query
        case AllOf(queries):
            for each in queries:
                yield from leads(each)
        case AnyOf(queries):
            led = [list(leads(each)) for each in queries]
            if led and all(led):
                yield replace(led[0][0], bounds=())


def is_equality(query: Entries) -> bool:
    """Whether what a query finds comes sorted by id."""
    return [name for name, _ in query.bounds] == ["eq"]


def index_for(scope: Document) -> Index:
    """Give the index for a part of the users."""
    return BY_ORGANIZATION if "organization_id" in scope else BY_VALUE


def is_one_organization(scope: Document) -> bool:
    """Whether a part of the users lies in one organization, if it is not everywhere."""
    organizations: Any = scope.get("organization_id", {"$in": [None]})
    return len(organizations["$in"]) == 1
