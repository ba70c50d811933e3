"""A schema as somebody may see it whom its permissions keep from fields: without those, for forms.

A subschema means something else at each place where it applies, so all of them are gone through together with the rule
of the place. A member goes if at no such place anything of it may be read, and so does its name where it is required,
or where something depends on it; a definition goes if nothing leads to it any more. The rest stays as it is, with its
permissions, so that a form can tell what may be written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.field_access import BARE, OPEN
from schema_user.validation.dialect import Dialect
from schema_user.validation.outline import Outline
from schema_user.validation.permission_keyword import Graph, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema_user.domain.field_access import FieldAccess, Rule
    from schema_user.domain.schema import UserSchema

    Place = tuple[int, Rule, int]

_MOST_PLACES: Final = 100_000
"""Subschemas at places that are gone through, about 0.3 s; a schema that needs more is not shown at all."""

_DEFINITIONS: Final = ("$defs", "definitions")
_DEPENDENT: Final = ("dependentRequired", "dependentSchemas", "dependencies")
_ITEMS: Final = frozenset({"items", "contains", "unevaluatedItems"})


def seen_schema(schema: UserSchema, access: FieldAccess) -> str:
    """Write the JSON Schema as far as a caller may see it; it is one too."""
    document = json.loads(schema.text)
    seen = _Seen(document, schema.dialect, access)
    shown = seen.shown(document)
    if not seen.complete or Outline(shown, Dialect(schema.dialect)).bad_references:
        shown = {keyword: document[keyword] for keyword in ("$schema", "type") if keyword in document}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


class _Seen:
    """What of a document is seen: nodes by number, members of nodes by keyword and name."""

    def __init__(self, document: dict[str, Any], dialect: str, access: FieldAccess) -> None:
        self._graph = Graph(Outline(document, Dialect(dialect)))
        self._access = access
        self._members: set[tuple[int, str, str]] = set()
        self._nodes: set[int] = set()
        self._holders: set[int] = set()
        self.complete = self._go()
        self._find_holders(document)

    def _go(self) -> bool:
        """Go through all nodes at all places where they can apply; whether they were few enough."""
        access = self._access
        todo: list[Place] = [(0, access.root, access.bits(access.root, OPEN))]
        done: set[tuple[int, int, int]] = set()
        while todo:
            number, rule, bits = todo.pop()
            key = (number, id(rule), bits)
            if key in done:
                continue
            done.add(key)
            if len(done) > _MOST_PLACES:
                return False
            self._nodes.add(number)
            node = self._graph.nodes[number]
            todo += ((each, rule, bits) for each in (*node.in_place, *node.dynamic))
            todo += ((each, BARE, OPEN) for each in node.silent)
            for keyword, name, child, rules in self._inside(node, rule):
                shown = [each for each in rules if access.shows(each, access.bits(each, bits))]
                if shown:
                    self._members.add((number, keyword, name))
                if child is not None:
                    todo += ((child, each, access.bits(each, bits)) for each in shown)
        return True

    @staticmethod
    def _inside(node: Node, rule: Rule) -> Iterator[tuple[str, str, int | None, Iterable[Rule]]]:
        """Give what a node says of members and items, with the rules that may hold for them."""
        names = dict.fromkeys(node.named) | dict.fromkeys(_mentioned(node.location.schema))
        for name in names:
            yield "properties", name, node.named.get(name), (rule.member(name),)
        texts = [each.text for each in rule.patterns]
        own = sum(1 << at for at, text in enumerate(texts) if text in node.patterns)
        for pattern, child in node.patterns.items():
            bit = 1 << texts.index(pattern) if pattern in texts else 0
            yield "patternProperties", pattern, child, [r for at, r in enumerate(rule.others) if at & bit == bit]
        for index, child in enumerate(node.prefix):
            yield "", str(index), child, (rule.item(index),)
        for keyword, child in node.singles.items():
            if keyword == "items":
                yield keyword, "", child, (*rule.leading[len(node.prefix) :], rule.rest)
            elif keyword in _ITEMS:
                yield keyword, "", child, rule.items
            else:
                yield keyword, "", child, [r for at, r in enumerate(rule.others) if not at & own]

    def _find_holders(self, value: Any) -> bool:
        """Note each object and array in which something seen stands: what is referred to must stay where it is."""
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        inside = [self._find_holders(each) for each in inner]
        holds = any(inside) or self._graph.number(value) in self._nodes
        if holds:
            self._holders.add(id(value))
        return holds

    def shown(self, value: Any) -> Any:
        """Copy a part of the document as far as it is seen."""
        number = self._graph.number(value)
        if number in self._nodes:
            return dict(self._keywords(number, value))
        if number is not None:
            return {name: self.shown(inner) for name, inner in value.items() if id(inner) in self._holders}
        if isinstance(value, dict):
            return {name: self.shown(inner) for name, inner in value.items()}
        return [self.shown(inner) for inner in value] if isinstance(value, list) else value

    def _keywords(self, number: int, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for keyword, value in schema.items():
            if keyword in _DEFINITIONS and isinstance(value, dict):
                kept = {name for name, inner in value.items() if isinstance(inner, bool) or id(inner) in self._holders}
            elif keyword in {"properties", "patternProperties"}:
                kept = {name for name, inner in value.items() if self._keeps(number, keyword, name, inner)}
            elif keyword in _DEPENDENT:
                kept = {name for name in value if (number, "properties", name) in self._members}
            elif keyword == "required" and isinstance(value, list):
                names = self._named(number, value)
                yield from [(keyword, names)] if names else []
                continue
            else:
                single = "items" if keyword == "additionalItems" else keyword
                alone = single in self._graph.nodes[number].singles and not isinstance(value, list)
                if not alone or self._keeps(number, single, "", value):
                    yield keyword, self.shown(value)
                continue
            members = {name: self._dependent(number, value[name]) for name in value if name in kept}
            yield keyword, {name: inner for name, inner in members.items() if inner != []}

    def _keeps(self, number: int, keyword: str, name: str, value: Any) -> bool:
        return (number, keyword, name) in self._members or id(value) in self._holders

    def _named(self, number: int, names: list[Any]) -> list[Any]:
        return [name for name in names if (number, "properties", name) in self._members]

    def _dependent(self, number: int, value: Any) -> Any:
        return self._named(number, value) if isinstance(value, list) else self.shown(value)


def _mentioned(schema: dict[str, Any]) -> Iterator[str]:
    """Give the names of members that a schema speaks of without saying what they are."""
    required = schema.get("required")
    yield from (name for name in required if isinstance(name, str)) if isinstance(required, list) else ()
    for keyword in _DEPENDENT:
        dependent = schema.get(keyword)
        for name, inner in dependent.items() if isinstance(dependent, dict) else ():
            yield name
            yield from (each for each in inner if isinstance(each, str)) if isinstance(inner, list) else ()
