"""Queries that hold others, as every search of every version has them: or, and, not; 1,000 at most, 20 deep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schema_user.api.body import refused
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.domain import search
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Leaf = Callable[[Body, Body, str, list[Violation]], search.Query]
    """Makes a query of the member of a body, at a pointer; what is wrong with it is added to the violations."""


class QueriesBody(Body, kw_only=True):
    """Several queries, of which ``orQuery`` needs one and ``andQuery`` all; subclasses say of which kind."""

    queries: list[Any]


class NotBody(Body, kw_only=True):
    """A query that must not hold; subclasses say of which kind."""

    query: Any


def query_tree(bodies: Sequence[Body], leaf: Leaf, at: str = "queries") -> search.Query:
    """Turn the queries of a search, which stand in its body ``at`` a pointer, into one that all of them must satisfy.

    Raises:
        Malformed: for a query with no member or several, nested more than 20 deep, or more than 1,000 of them.
    """
    found: list[Violation] = []
    if _count(bodies, search.MAX_QUERIES) > search.MAX_QUERIES:
        raise refused(
            [Violation(at, f"must be at most {search.MAX_QUERIES} queries, nested ones included", "maxItems")]
        )
    made = _all(bodies, at, search.MAX_DEPTH, leaf, found)
    if found:
        raise refused(found)
    return search.AllOf(made)


def _count(bodies: Sequence[Body], most: int) -> int:
    """Count queries with those that they hold; of more than ``most``, only that they are more."""
    count, waiting = 0, [iter(bodies)]
    while waiting and count <= most:
        body = next(waiting[-1], None)
        if body is None:
            waiting.pop()
            continue
        count += 1
        for field in body.__struct_fields__:
            member = getattr(body, field)
            if isinstance(member, QueriesBody):
                waiting.append(iter(member.queries))
            elif isinstance(member, NotBody):
                waiting.append(iter([member.query]))
    return count


def _all(bodies: Sequence[Body], at: str, levels: int, leaf: Leaf, found: list[Violation]) -> tuple[search.Query, ...]:
    return tuple(_query(body, f"{at}/{index}", levels, leaf, found) for index, body in enumerate(bodies))


def _query(body: Body, at: str, levels: int, leaf: Leaf, found: list[Violation]) -> search.Query:
    given = {
        name: member
        for name, field in zip(body.__struct_encode_fields__, body.__struct_fields__, strict=True)
        if (member := getattr(body, field)) is not None
    }
    if len(given) != 1:
        words = "must have one member" if not given else "must have one member, not " + ", ".join(given)
        found.append(Violation(at, words, "alternatives"))
        return search.AllOf(())
    if levels == 0:
        found.append(Violation(at, f"is nested more than {search.MAX_DEPTH} deep", "depth"))
        return search.AllOf(())
    ((name, member),) = given.items()
    if isinstance(member, QueriesBody):
        inner = _all(member.queries, f"{at}/{name}/queries", levels - 1, leaf, found)
        return search.AnyOf(inner) if name in {"orQuery", "orFilter"} else search.AllOf(inner)
    if isinstance(member, NotBody):
        (inside,) = member.__struct_encode_fields__
        return search.Not(_query(member.query, f"{at}/{name}/{inside}", levels - 1, leaf, found))
    return leaf(body, member, f"{at}/{name}", found)
