"""The keyword ``urn:zitadel:schema:permission``: what it must be, and the rules of fields that a schema makes of it.

To a place of a document all subschemas count that could apply there, whichever branch of the schema matches: through
``$ref``, allOf, anyOf, oneOf, not, if, then, else and what depends on other members. So rules are made as a finite
automaton is made deterministic: one for each set of subschemas that can meet at a place. Those from which no keyword is
reached mean nothing and are left out, which leaves few sets in all but schemas that are made for it; those are refused
when they are uploaded (``MOST_STEPS``). After that a place costs one look-up, and the few patterns that matter there.

``unevaluated…`` counts where nothing beside it, nor in its ``$ref`` and ``allOf``, is sure to evaluate the place.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jsonschema_rs

from schema_user.domain.field_access import BARE, READ, WRITE, FieldPermissions, NamePattern, Rule
from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.dialect import IN_PLACE, Dialect, subschemas
from schema_user.validation.outline import Location, Outline
from schema_user.validation.patterns import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schema_user.domain.schema import UserSchema

KEYWORD: Final = "urn:zitadel:schema:permission"
ROLES: Final = ("owner", "self")
"""In the order of ``FieldRole``."""

_VALUES: Final = {"r": READ, "w": WRITE, "rw": READ | WRITE}

MOST_STEPS: Final = 100_000
"""Subschemas and members that are looked at, over all sets of subschemas, while rules are made: less than 1 s."""

MOST_PATTERNS: Final = 6
"""Patterns that can matter at one place: each combination of them can be another rule."""

LARGEST_PATTERN: Final = 50_000
"""Bytes that such a pattern compiles to: a property such as ``\\p{L}``, or 300 letters. It runs beside other work."""

_SILENT: Final = frozenset({"propertyNames", "contentSchema"})
"""Keywords whose schemas apply to no place of a document."""


class Refusal(NamedTuple):
    """Why a keyword is not taken: ``tokens`` lead from the location to what is wrong."""

    location: Location
    tokens: tuple[str, ...]
    text: str
    reason: str


class TooWide(Exception):
    """More subschemas meet at the places of a document than rules are made for."""


def malformed(schema: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Give what is wrong with the form of the keyword in a schema: where from it, in words, and the reason."""
    given = schema.get(KEYWORD, {})
    if not isinstance(given, dict):
        yield (KEYWORD,), "must be an object with owner, self or both", "type"
        return
    for role, value in given.items():
        if role not in ROLES:
            yield (KEYWORD, role), f"is no role: only {' and '.join(ROLES)} are", "permissionRole"
        elif not isinstance(value, str) or value not in _VALUES:
            yield (KEYWORD, role), f"must be one of {', '.join(_VALUES)}; without the role, nothing", "permissionValue"


def refusals(outline: Outline) -> Iterator[Refusal]:
    """Give why the keywords of a document that has passed all else are not taken: where they stand, and how many."""
    marked = [location for location in outline if KEYWORD in location.schema]
    if not marked:
        return
    graph = Graph(outline)
    stray = graph.reached_dynamically()
    for location in marked:
        if graph.number(location.schema) in stray:
            yield Refusal(location, (KEYWORD,), "must not be reached through a dynamic reference", "permissionDynamic")
        if is_silent(location):
            yield Refusal(location, (KEYWORD,), "stands where no place of a document is described", "permissionPlace")
    costly = list(_costly(graph))
    yield from costly
    if not costly:
        try:
            _Compiler(graph).compile()
        except TooWide as error:
            yield Refusal(marked[0], (KEYWORD,), str(error), "permissionSpread")


def _costly(graph: Graph) -> Iterator[Refusal]:
    text = f"decides about permissions, so it must not look around or back, nor compile to over {LARGEST_PATTERN} bytes"
    decided: set[str] = set()
    for number in graph.useful:
        for node, pattern in graph.deciding_patterns(number):
            if pattern not in decided:
                decided.add(pattern)
                size, backtracks = read(pattern)
                if backtracks or size > LARGEST_PATTERN:
                    yield Refusal(node.location, ("patternProperties", pattern), text, "permissionPattern")


def is_silent(location: Location) -> bool:
    """Whether a schema applies to no place of a document."""
    here: Location | None = location
    while here is not None:
        if here.tokens[:1] and here.tokens[0] in _SILENT:
            return True
        here = here.parent
    return False


def compile_permissions(document: dict[str, Any], dialect: str) -> FieldPermissions | None:
    """Make the rules of a schema that has passed the gate; None if it has no permissions.

    Raises:
        TooWide: for what the gate would not let pass.
    """
    compiler = _Compiler(Graph(Outline(document, Dialect(dialect))))
    root = compiler.compile()
    return None if root is BARE else FieldPermissions(root, compiler.steps)


@dataclass(slots=True, eq=False)
class Node:
    """A subschema: its keyword, and where it leads; None stands for true or false, where no keyword can be.

    ``prefix`` are the schemas of the first items and ``items`` that of the others, whatever the dialect calls them.
    """

    location: Location
    own: tuple[int, int] | None = None
    in_place: list[int] = field(default_factory=list)
    sure: list[int] = field(default_factory=list)
    """Those in place that apply whenever this one does."""
    dynamic: list[int] = field(default_factory=list)
    """Those to which a dynamic reference may lead."""
    silent: list[int] = field(default_factory=list)
    named: dict[str, int | None] = field(default_factory=dict)
    patterns: dict[str, int | None] = field(default_factory=dict)
    prefix: list[int | None] = field(default_factory=list)
    singles: dict[str, int | None] = field(default_factory=dict)

    @property
    def inside(self) -> Iterator[int]:
        """The nodes that apply to what is inside the value."""
        for children in (self.named.values(), self.patterns.values(), self.prefix, self.singles.values()):
            yield from (child for child in children if child is not None)


class Graph:
    """The subschemas of a document and how they lead to one another."""

    def __init__(self, outline: Outline) -> None:
        self.nodes = [Node(location) for location in outline]
        self._numbers = {id(node.location.schema): number for number, node in enumerate(self.nodes)}
        anchored: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            schema = node.location.schema
            if isinstance(schema.get("$dynamicAnchor"), str):
                anchored.setdefault(schema["$dynamicAnchor"], []).append(number)
            if schema.get("$recursiveAnchor") is True:
                anchored.setdefault("", []).append(number)
        for node in self.nodes:
            self._connect(node, outline)
            self._refer(node, outline, anchored)
        self.useful = self.leading_to(number for number, node in enumerate(self.nodes) if node.own is not None)
        self._evaluating: dict[int, list[Node]] = {}

    def number(self, schema: Any) -> int | None:
        """Find a node by its schema."""
        return self._numbers.get(id(schema))

    def _connect(self, node: Node, outline: Outline) -> None:
        schema = node.location.schema
        if isinstance(schema.get(KEYWORD), dict):
            owner, self_ = (_VALUES.get(schema[KEYWORD].get(role), 0) for role in ROLES)
            node.own = owner, self_
        for tokens, inner in subschemas(schema, outline.dialect):
            child = self.number(inner) if isinstance(inner, dict) else None
            keyword = tokens[0]
            if keyword in IN_PLACE:
                node.in_place += [] if child is None else [child]
                node.sure += [child] if keyword == "allOf" and child is not None else []
            elif keyword == "properties":
                node.named[str(tokens[1])] = child
            elif keyword == "patternProperties":
                node.patterns[str(tokens[1])] = child
            elif keyword in {"items", "prefixItems"} and len(tokens) > 1:
                node.prefix.append(child)
            elif keyword == "additionalItems":
                if isinstance(schema.get("items"), list):
                    node.singles["items"] = child
            elif keyword in _SILENT:
                node.silent += [] if child is None else [child]
            elif len(tokens) == 1:
                node.singles[str(keyword)] = child

    def _refer(self, node: Node, outline: Outline, anchored: dict[str, list[int]]) -> None:
        schema = node.location.schema
        targets = [self.number(target) for target in outline.targets(schema)]
        if isinstance(schema.get("$ref"), str) and targets:
            target = targets.pop(0)
            node.in_place += [] if target is None else [target]
            node.sure += [] if target is None else [target]
        for keyword in ("$dynamicRef", "$recursiveRef"):
            if targets and isinstance(schema.get(keyword), str):
                node.dynamic += [target for target in targets if target is not None]
                node.dynamic += anchored.get(schema[keyword].rpartition("#")[2], [])

    def leading_to(self, numbers: Iterable[int]) -> set[int]:
        """Find the nodes that lead to any of these, and these; not through dynamic references."""
        leading: dict[int, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for child in (*node.in_place, *node.inside):
                leading.setdefault(child, []).append(number)
        return closed(numbers, lambda number: leading.get(number, ()))

    def reached_dynamically(self) -> set[int]:
        """Find the nodes that a dynamic reference leads to, in the end."""
        starts = [number for node in self.nodes for number in node.dynamic]
        return closed(starts, lambda number: (*self.nodes[number].in_place, *self.nodes[number].inside))

    def leads_on(self, child: int | None) -> bool:
        """Whether a schema has the keyword, or one inside or in place has."""
        return child in self.useful

    def catching(self, number: int) -> list[Node]:
        """Give the nodes whose members a node exempts from what it says of all others; none if that means nothing."""
        node = self.nodes[number]
        if self.leads_on(node.singles.get("unevaluatedProperties")):
            return self.evaluating(number)
        return [node] if self.leads_on(node.singles.get("additionalProperties")) else []

    def deciding_patterns(self, number: int) -> Iterator[tuple[Node, str]]:
        """Give the patterns on which it depends what a node means for a member, each with the node that has it."""
        node = self.nodes[number]
        catching = self.catching(number)
        yield from ((each, pattern) for each in catching for pattern in each.patterns)
        if not catching:
            yield from ((node, pattern) for pattern, child in node.patterns.items() if self.leads_on(child))

    def evaluating(self, number: int) -> list[Node]:
        """Give the nodes whose evaluation is sure wherever this one applies, this one first."""
        known = self._evaluating.get(number)
        if known is None:
            sure = closed([number], lambda each: self.nodes[each].sure) - {number}
            known = self._evaluating[number] = [self.nodes[number], *(self.nodes[each] for each in sorted(sure))]
        return known


def closed(starts: Iterable[int], following: Callable[[int], Iterable[int]]) -> set[int]:
    """Give what can be reached."""
    reached = set(starts)
    todo = list(reached)
    while todo:
        for each in following(todo.pop()):
            if each not in reached:
                reached.add(each)
                todo.append(each)
    return reached


class _Compiler:
    """Makes rules of sets of nodes that meet at a place; ``steps`` counts what was looked at."""

    def __init__(self, graph: Graph) -> None:
        self.steps = 0
        self._graph = graph
        self._rules: dict[frozenset[int], Rule] = {}
        self._leaves: dict[tuple[int, int], Rule] = {}
        self._patterns: dict[str, NamePattern] = {}
        self._todo: list[tuple[Rule, frozenset[int]]] = []

    def compile(self) -> Rule:
        """Give the rule of the whole document.

        Raises:
            TooWide: after ``MOST_STEPS``, or with more than ``MOST_PATTERNS`` at one place.
        """
        root = self._rule([0])
        while self._todo:
            rule, numbers = self._todo.pop()
            self._lead_to_members(rule, numbers)
            self._lead_to_items(rule, numbers)
        return root

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise TooWide(f"meet in too many ways: making their rules would take more than {MOST_STEPS} steps")

    def _rule(self, targets: Iterable[int | None]) -> Rule:
        """Give the rule of the places to which these nodes, and those in place with them, may apply."""
        graph = self._graph
        numbers = frozenset(
            closed(
                (each for each in targets if each is not None and each in graph.useful),
                lambda each: graph.useful.intersection(graph.nodes[each].in_place),
            )
        )
        self._count(1 + len(numbers))
        if not numbers:
            return BARE
        if numbers in self._rules:
            return self._rules[numbers]
        own = None
        for number in numbers:
            given = graph.nodes[number].own
            if given is not None:
                own = given if own is None else (own[0] & given[0], own[1] & given[1])
        if own is not None and all(graph.useful.isdisjoint(graph.nodes[each].inside) for each in numbers):
            rule = self._leaves.setdefault(own, Rule(own))
        else:
            rule = Rule(own, uniform=False)
            self._todo.append((rule, numbers))
        self._rules[numbers] = rule
        return rule

    def _lead_to_members(self, rule: Rule, numbers: frozenset[int]) -> None:
        deciding = {each: {text for _, text in self._graph.deciding_patterns(each)} for each in numbers}
        patterns = sorted(set().union(*deciding.values()))
        self._count(sum(map(len, deciding.values())))
        if len(patterns) > MOST_PATTERNS:
            raise TooWide(f"depend at one place on {len(patterns)} patterns, which may be {MOST_PATTERNS}")
        wide = [each for each in numbers if deciding[each] or self._graph.catching(each)]
        named = self._names(numbers, frozenset(wide))

        def rule_of(name: str | None, matched: set[str]) -> Rule:
            found = [target for number in wide for target in self._member_targets(number, name, matched)]
            return self._rule(found if name is None else [*found, *named[name]])

        rule.patterns = tuple(map(self._pattern, patterns))
        rule.others = tuple(
            rule_of(None, {text for at, text in enumerate(patterns) if bits >> at & 1})
            for bits in range(1 << len(patterns))
        )
        for name in named:
            rule.named[name] = rule_of(name, {each.text for each in rule.patterns if each.matches(name)})

    def _names(self, numbers: frozenset[int], wide: frozenset[int]) -> dict[str, list[int]]:
        """Find the names of members that differ from others, each with what the nodes that are not wide say of it."""
        names: dict[str, list[int]] = {}
        for number in numbers:
            node = self._graph.nodes[number]
            for each in self._graph.catching(number):
                self._count(len(each.named))
                names.update((name, []) for name in each.named if name not in names)
            self._count(len(node.named))
            for name, child in node.named.items():
                if child is not None and child in self._graph.useful:
                    names.setdefault(name, []).extend([] if number in wide else [child])
        return names

    def _member_targets(self, number: int, name: str | None, matched: set[str]) -> Iterator[int | None]:
        """Give what a node says of a member: one that it names, or (None) one that no node names."""
        node = self._graph.nodes[number]
        self._count(1 + len(matched))
        evaluated = False
        if name is not None and name in node.named:
            yield node.named[name]
            evaluated = True
        for pattern in matched:
            if pattern in node.patterns:
                yield node.patterns[pattern]
                evaluated = True
        if evaluated:
            return
        if "additionalProperties" in node.singles:
            yield node.singles["additionalProperties"]
        elif "unevaluatedProperties" in node.singles:
            others = self._graph.evaluating(number)[1:]
            self._count(len(others))
            if not any(
                name in each.named
                or not matched.isdisjoint(each.patterns)
                or "additionalProperties" in each.singles
                or "unevaluatedProperties" in each.singles
                for each in others
            ):
                yield node.singles["unevaluatedProperties"]

    def _lead_to_items(self, rule: Rule, numbers: frozenset[int]) -> None:
        graph = self._graph
        length, leading = 0, []
        for number in numbers:
            node = graph.nodes[number]
            singles = [node.singles.get(each) for each in ("items", "contains", "unevaluatedItems")]
            if any(map(graph.leads_on, (*node.prefix, *singles))):
                leading.append(number)
                evaluating = graph.evaluating(number) if singles[2] is not None else [node]
                length = max(length, *(len(each.prefix) for each in evaluating))
        rules = []
        for index in range(length + 1):
            found = [target for number in leading for target in self._item_targets(number, index)]
            rules.append(self._rule(found))
        rule.leading, rule.rest = tuple(rules[:-1]), rules[-1]

    def _item_targets(self, number: int, index: int) -> Iterator[int | None]:
        node = self._graph.nodes[number]
        self._count(1)
        yield node.singles.get("contains")
        if index < len(node.prefix):
            yield node.prefix[index]
        elif "items" in node.singles:
            yield node.singles["items"]
        elif "unevaluatedItems" in node.singles:
            others = self._graph.evaluating(number)[1:]
            self._count(len(others))
            if not any(
                index < len(each.prefix) or "items" in each.singles or "unevaluatedItems" in each.singles
                for each in others
            ):
                yield node.singles["unevaluatedItems"]

    def _pattern(self, pattern: str) -> NamePattern:
        known = self._patterns.get(pattern)
        if known is None:
            engine = jsonschema_rs.Draft202012Validator(
                {"pattern": strict_pattern(pattern)}, offline=True, validate_formats=False, pattern_options=_LINEAR
            )
            known = self._patterns[pattern] = NamePattern(pattern, engine.is_valid)
        return known


_LINEAR: Final = jsonschema_rs.RegexOptions()


class PermissionCache:
    """Keeps rules by schema and revision, the least recently used go first.

    A revision never changes, so nothing here is ever stale. ``limit`` is in steps that it took to make them, each
    about 200 bytes at most; what takes more is used and not kept. A schema without permissions counts as one.
    """

    def __init__(self, limit: int = 500_000) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, int], FieldPermissions | None] = OrderedDict()
        self.size = 0

    async def get(self, schema: UserSchema) -> FieldPermissions | None:
        """Give the rules of a schema's revision; None if it has no permissions.

        They are made in a thread, as that may take a second; those who ask meanwhile make them too.
        """
        key = (schema.schema_id, schema.revision)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        made = None
        if KEYWORD in schema.text or "\\u" in schema.text:
            made = await asyncio.to_thread(_compiled, schema)
        self.size += _weight(made) - (_weight(self._held[key]) if key in self._held else 0)
        self._held[key] = made
        while self.size > self._limit:
            _, gone = self._held.popitem(last=False)
            self.size -= _weight(gone)
        return made


def _compiled(schema: UserSchema) -> FieldPermissions | None:
    return compile_permissions(json.loads(schema.text), schema.dialect)


def _weight(held: FieldPermissions | None) -> int:
    return 1 if held is None else held.weight
