"""The keywords ``urn:schema-user:index`` and ``urn:schema-user:unique``: where they may stand, and the plan they make.

As with permissions, to a place all subschemas count that could apply there, whichever branch of the schema matches. A
place must be known by its names: what stands where names are not given, or can be reached in endlessly many ways, is
refused when the schema is uploaded, as is an index over what those who search may not read for certain. So a plan is a
small tree, whatever the schema is.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.field_access import OPEN, READ, FieldAccess, FieldRole
from schema_user.domain.indexing import IndexPlan, Marked, path_of
from schema_user.validation.dialect import Dialect
from schema_user.validation.outline import Location, Outline
from schema_user.validation.permission_keyword import Graph, Refusal, closed, compile_permissions, is_silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema_user.domain.field_access import Rule
    from schema_user.domain.schema import UserSchema

    Route = tuple[str | None, ...]
    Held = list[tuple[Rule, int]]

INDEX: Final = "urn:schema-user:index"
UNIQUE: Final = "urn:schema-user:unique"
KEYWORDS: Final = (INDEX, UNIQUE)

MOST_INDEXED: Final = 50
MOST_UNIQUE: Final = 10
"""Paths of one schema."""

LONGEST_PATH: Final = 500
DEEPEST: Final = 16
"""Members and arrays on the way to a place."""

MOST_STEPS: Final = 20_000
"""Subschemas at places that are gone through: some milliseconds."""

_ITEMS: Final = frozenset({"items", "contains", "unevaluatedItems"})
_WORDS: Final = {INDEX: "indexed", UNIQUE: "unique"}


class TooWide(Exception):
    """The marks of a schema stand at more places than a plan may have; ``reason`` names the limit."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def marks(schema: dict[str, Any]) -> list[str]:
    """Give those of the keywords that a subschema sets."""
    return [keyword for keyword in KEYWORDS if schema.get(keyword) is True]


def refusals(outline: Outline, document: dict[str, Any]) -> Iterator[Refusal]:
    """Give why the keywords of a document that has passed all else are not taken, and where they stand."""
    marked = [location for location in outline if marks(location.schema)]
    if not marked:
        return
    graph = Graph(outline)
    misplaced = list(_misplaced(graph, marked))
    yield from misplaced
    if misplaced:
        return
    try:
        root = _tree(graph)
        _require_few(root)
    except TooWide as error:
        yield Refusal(marked[0], (marks(marked[0].schema)[0],), str(error), error.reason)
        return
    permissions = compile_permissions(document, str(outline.dialect))
    if permissions is not None:
        for path in sorted(_hidden(root, permissions.of(FieldRole.OWNER))):
            text = f"marks {path}, which those who search may not always read"
            yield Refusal(marked[0], (INDEX,), text, "indexHidden")


def _misplaced(graph: Graph, marked: list[Location]) -> Iterator[Refusal]:
    unnamed = closed(_unnamed(graph), lambda number: (*graph.nodes[number].in_place, *graph.nodes[number].inside))
    stray = graph.reached_dynamically()
    for location in marked:
        number = graph.number(location.schema)
        for keyword in marks(location.schema):
            if number in stray:
                yield Refusal(location, (keyword,), "must not be reached through a dynamic reference", "indexDynamic")
            elif number in unnamed:
                text = "stands where members are not named: only properties and items have places that can be indexed"
                yield Refusal(location, (keyword,), text, "indexPlace")
            elif is_silent(location):
                yield Refusal(location, (keyword,), "stands where no place of a document is described", "indexPlace")
            elif number == 0:
                yield Refusal(location, (keyword,), "must stand at a member, not at the whole document", "indexPlace")


def _unnamed(graph: Graph) -> Iterator[int]:
    """Give the subschemas of members that the schema doesn't name."""
    for node in graph.nodes:
        yield from (child for child in node.patterns.values() if child is not None)
        for keyword, child in node.singles.items():
            if keyword not in _ITEMS and child is not None:
                yield child


def _tree(graph: Graph) -> Marked:
    """Make the tree of marked places.

    Raises:
        TooWide: if they are too many, or endless.
    """
    nodes = graph.nodes
    useful = graph.leading_to(number for number, node in enumerate(nodes) if marks(node.location.schema))
    root = Marked()
    todo: list[tuple[int, Route]] = [(0, ())] if 0 in useful else []
    done = set(todo)
    while todo:
        number, route = todo.pop()
        if len(done) > MOST_STEPS:
            raise TooWide(f"meet in too many ways: finding their places takes over {MOST_STEPS} steps", "indexSpread")
        if len(route) > DEEPEST:
            raise TooWide(f"are reached endlessly, or more than {DEEPEST} levels deep", "indexDepth")
        node = nodes[number]
        for keyword in marks(node.location.schema):
            place = root.at(route)
            place.index = place.index or keyword == INDEX
            place.unique = place.unique or keyword == UNIQUE
        following: list[tuple[int | None, Route]] = [(child, route) for child in node.in_place]
        following += [(child, (*route, name)) for name, child in node.named.items()]
        following += [(child, (*route, None)) for child in node.prefix]
        following += [(child, (*route, None)) for keyword, child in node.singles.items() if keyword in _ITEMS]
        for child, onward in following:
            if child in useful and (child, onward) not in done:
                done.add((child, onward))
                todo.append((child, onward))
    return root


def _require_few(root: Marked) -> None:
    plan = IndexPlan(root)
    for keyword, paths, most in ((INDEX, plan.routes, MOST_INDEXED), (UNIQUE, plan.unique, MOST_UNIQUE)):
        if len(paths) > most:
            raise TooWide(f"make {len(paths)} paths {_WORDS[keyword]}, which may be {most}", "indexMany")
        if any(len(path) > LONGEST_PATH for path in paths):
            raise TooWide(f"make a path {_WORDS[keyword]} of over {LONGEST_PATH} characters", "indexPath")


def _hidden(root: Marked, access: FieldAccess) -> set[str]:
    """Give the indexed paths that a role may not read in every document.

    An array is hidden as a whole for one item that is, so all items on the way must be readable too.
    """

    def look(place: Marked, held: Held, route: Route, *, open_: bool) -> Iterator[str]:
        items = _each_once((inner, access.bits(inner, bits)) for rule, bits in held for inner in rule.items)
        whole = all(bits & READ for _, bits in items)
        if place.index and not (open_ and whole and all(bits & READ for _, bits in held)):
            yield path_of(route)
        for name, inner in place.members.items():
            onward = _each_once((rule.member(name), access.bits(rule.member(name), bits)) for rule, bits in held)
            yield from look(inner, onward, (*route, name), open_=open_)
        if place.items is not None:
            yield from look(place.items, items, (*route, None), open_=open_ and whole)

    return set(look(root, [(access.root, access.bits(access.root, OPEN))], (), open_=True))


def _each_once(held: Iterable[tuple[Rule, int]]) -> Held:
    return list({(id(rule), bits): (rule, bits) for rule, bits in held}.values())


def compile_plan(document: dict[str, Any], dialect: str) -> IndexPlan | None:
    """Make the plan of a schema that has passed the gate; None if it marks nothing.

    Raises:
        TooWide: for what the gate would not let pass.
    """
    outline = Outline(document, Dialect(dialect))
    root = _tree(Graph(outline))
    _require_few(root)
    if not (root.members or root.items):
        return None
    permissions = compile_permissions(document, dialect)
    not_own = _hidden(root, permissions.of(FieldRole.SELF)) if permissions is not None else ()
    return IndexPlan(root, frozenset(not_own))


class PlanCache:
    """Keeps plans by schema and revision, which never change; a schema without marks costs one look into a dictionary.

    At most ``most`` are kept, the oldest go first.
    """

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._held: dict[tuple[str, int], IndexPlan | None] = {}

    async def get(self, schema: UserSchema) -> IndexPlan | None:
        """Give the plan of a schema's revision; None if it marks nothing."""
        key = (schema.schema_id, schema.revision)
        if key in self._held:
            return self._held[key]
        plan = await self.compiled(schema)
        while len(self._held) >= self._most:
            del self._held[next(iter(self._held))]
        self._held[key] = plan
        return plan

    @staticmethod
    async def compiled(schema: UserSchema) -> IndexPlan | None:
        """Make the plan of a schema that may never be stored; nothing is kept."""
        if INDEX in schema.text or UNIQUE in schema.text or "\\u" in schema.text:
            return await asyncio.to_thread(_compiled, schema)
        return None


def _compiled(schema: UserSchema) -> IndexPlan | None:
    return compile_plan(json.loads(schema.text), schema.dialect)
