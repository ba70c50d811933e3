"""Two schemas compared, against what the engine says of documents.

Schemas and documents are made from a seed: drawing them by strategies takes a hundred times as long as comparing them.
"""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from schema_user.domain.comparison import Verdict
from schema_user.validation.compatibility import compare
from schema_user.validation.dialect import Dialect
from schema_user.validation.gate import check
from schema_user.validation.rust import compile_schema

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = ("a", "b", "cc")
_SCALARS: Final = (None, True, False, 0, 1, 1.0, 1.5, -2, 7, "", "a", "bb", "x@y.org", "2026-01-31", "+41791234567")
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_PATTERNS: Final = ("a", "^c", ".", "^a+$", "b$")


class _Maker:
    """Makes schemas and documents by chance."""

    def __init__(self, chance: random.Random, dialect: Dialect) -> None:
        self.chance = chance
        self.dialect = dialect
        one, several, named = self.schema, self._schemas, self._named_schemas
        names = self._names
        self._keywords: dict[str, Callable[[int], Any]] = {
            "type": lambda _: chance.choice([chance.choice(_TYPES), chance.sample(_TYPES, chance.randint(1, 3))]),
            "enum": lambda _: [self.document(1) for _ in range(chance.randint(1, 3))],
            "const": lambda _: chance.choice(_SCALARS),
            "minimum": lambda _: chance.randint(-3, 8),
            "maximum": lambda _: chance.randint(-3, 8),
            "multipleOf": lambda _: chance.choice([1, 2, 4, 0.5]),
            "minLength": lambda _: chance.randint(0, 3),
            "maxLength": lambda _: chance.randint(0, 3),
            "pattern": lambda _: chance.choice(_PATTERNS),
            "format": lambda _: chance.choice(["email", "date", "phone", "uuid", "unknown"]),
            "minItems": lambda _: chance.randint(0, 2),
            "maxItems": lambda _: chance.randint(0, 2),
            "uniqueItems": lambda _: chance.random() < 0.5,
            "minProperties": lambda _: chance.randint(0, 2),
            "maxProperties": lambda _: chance.randint(0, 3),
            "required": lambda _: names() or ["a"],
            "dependencies": lambda depth: {name: chance.choice([names() or ["a"], one(depth)]) for name in names()},
            "title": lambda _: chance.choice(["One", "Two"]),
            "properties": named,
            "patternProperties": lambda depth: {p: one(depth) for p in chance.sample(_PATTERNS, chance.randint(1, 2))},
            "additionalProperties": one,
            "propertyNames": one,
            "items": one,
            "contains": one,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": one,
        }
        if dialect is Dialect.DRAFT_4:
            self._keywords |= {"exclusiveMinimum": lambda _: chance.random() < 0.5}
        else:
            self._keywords |= {"exclusiveMinimum": lambda _: chance.randint(-3, 8), "if": one, "then": one, "else": one}
        if dialect is Dialect.DRAFT_2020_12:
            self._keywords |= {
                "prefixItems": several,
                "dependentRequired": lambda _: {name: names() for name in names()},
                "dependentSchemas": named,
                "minContains": lambda _: chance.randint(0, 2),
                "maxContains": lambda _: chance.randint(0, 2),
                "unevaluatedProperties": lambda depth: one(depth) if chance.random() < 0.2 else True,
            }
        else:
            self._keywords |= {
                "additionalItems": one,
                "items": lambda depth: chance.choice([one(depth), several(depth)]),
            }

    def _names(self) -> list[str]:
        return self.chance.sample(_NAMES, self.chance.randint(0, 2))

    def _schemas(self, depth: int) -> list[Any]:
        return [self.schema(depth) for _ in range(self.chance.randint(1, 2))]

    def _named_schemas(self, depth: int) -> dict[str, Any]:
        return {name: self.schema(depth) for name in self._names()}

    def schema(self, depth: int) -> Any:
        """Make a schema that nests no deeper than so."""
        if depth <= 0 and self.chance.random() < 0.2:
            return {"$ref": f"#/definitions/{self.chance.choice(_NAMES)}"}
        if self.dialect is not Dialect.DRAFT_4 and self.chance.random() < 0.15:
            return self.chance.random() < 0.7
        names = self.chance.sample(list(self._keywords), self.chance.choice([0, 1, 1, 2, 2, 3, 4]))
        if depth <= 0:
            names = [name for name in names if name in _FLAT]
        return {name: self._keywords[name](depth - 1) for name in names}

    def root(self) -> dict[str, Any]:
        """Make a document that is a schema."""
        made = self.schema(2)
        if self.chance.random() < 0.5:
            made = {"properties": {name: self.schema(1) for name in _NAMES[:2]}}
        definitions = {name: self.schema(1) for name in _NAMES}
        return {**(made if isinstance(made, dict) else {}), "$schema": self.dialect.uri, "definitions": definitions}

    def document(self, depth: int) -> Any:
        """Make a document."""
        kind = self.chance.random() if depth > 0 else 0
        if kind < 0.3:
            return self.chance.choice(_SCALARS)
        if kind < 0.5:
            return [self.document(depth - 1) for _ in range(self.chance.randint(0, 3))]
        return {name: self.document(depth - 1) for name in self.chance.sample(_NAMES, self.chance.randint(0, 3))}

    def revised(self, old: dict[str, Any]) -> dict[str, Any]:
        """Change a schema at one or two places."""
        new = copy.deepcopy(old)
        for _ in range(self.chance.randint(1, 2)):
            if self.chance.random() < 0.4:
                name = self.chance.choice(list(self._keywords))
                new[name] = self._keywords[name](1)
                continue
            places = _places(new)
            if self.chance.random() < 0.7:
                places = [place for place in places if place[1] not in _OF_ROOTS] or places
            if not places:
                return new
            holder, last = self.chance.choice(places)
            value, dice = holder[last], self.chance.random()
            if isinstance(value, int | float) and not isinstance(value, bool):
                holder[last] = value + self.chance.choice([-1, 1])
            elif isinstance(value, dict) and dice < 0.5 and last not in _MAPS:
                holder[last] = value | {name: made for name, made in self.root().items() if name not in _OF_ROOTS}
            elif isinstance(value, list) and dice < 0.7:
                holder[last] = value[:-1] if dice < 0.35 else [*value, *value[:1]]
            elif isinstance(holder, dict):
                del holder[last]
        return new


_FLAT: Final = frozenset({"type", "enum", "const", "minimum", "maxLength", "pattern", "format", "required", "title"})
_MAPS: Final = frozenset(
    {"definitions", "properties", "patternProperties", "dependencies", "dependentSchemas", "dependentRequired"}
)
_OF_ROOTS: Final = frozenset({"$schema", "definitions"})


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for last, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if last != "$schema":
            found.append((value, last))
            if isinstance(inner, dict | list):
                found += _places(inner)
    return found


def _hold_the_promise(seed: int) -> None:
    chance = random.Random(seed)
    dialects = [chance.choice([Dialect.DRAFT_2020_12, Dialect.DRAFT_7, Dialect.DRAFT_4])] * 2
    maker = _Maker(chance, dialects[0])
    old = maker.root()
    new = maker.revised(old)
    if chance.random() < 0.1:
        new["$schema"] = Dialect.DRAFT_7.uri
        dialects[1] = Dialect.DRAFT_7
    if check(old).violations or check(new).violations:
        return
    texts = (json.dumps(old), dialects[0], json.dumps(new), dialects[1])
    walked, found = compare(*texts, prove=False), compare(*texts, prove=True)
    before, after = (compile_schema(each, dialect) for each, dialect in zip((old, new), dialects, strict=True))
    documents = [maker.document(3) for _ in range(40)]
    lost = [each for each in documents if before.is_valid(each) and not after.is_valid(each)]
    event(f"{walked.verdict}, {found.verdict}: {'lost' if lost else 'nothing lost'}")
    assert not lost or found.verdict is not Verdict.SAFE, f"{old}\n{new}\n{lost}\n{found.differences}"


@given(st.integers(0, 2**48))
@settings(max_examples=150, deadline=None)
def test_no_document_is_lost_where_the_verdict_is_safe(seed: int) -> None:
    """Whatever changed: if the old schema takes a document that the new one refuses, the verdict is not safe."""
    _hold_the_promise(seed)


@pytest.mark.soak
@given(st.integers(0, 2**48))
@settings(max_examples=50_000, deadline=None)
def test_no_document_is_lost_in_many_revisions(seed: int) -> None:
    """The same of many more."""
    _hold_the_promise(seed)
