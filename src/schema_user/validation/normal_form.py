"""A schema as it is compared with another: one spelling for every dialect, references followed, annotations apart.

What a dialect ignores is left out, and so are formats that are not asserted. Spelled as in 2020-12 are ``const`` and
``enum`` (one list of values), draft 4's exclusive limits, arrays of ``items``, and ``dependencies``. A schema that is
nothing but a reference is what it refers to; a reference beside other keywords is one more member of ``allOf``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.document import same
from schema_user.validation.dialect import OLD, Dialect
from schema_user.validation.formats import FORMATS
from schema_user.validation.outline import Outline

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS: Final = ("urn:zitadel:schema:permission", "urn:schema-user:index", "urn:schema-user:unique")
"""Keywords of this service: they say nothing about validity."""

NOTES: Final = ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment")
MAPS: Final = ("properties", "patternProperties", "dependentSchemas")
LISTS: Final = ("prefixItems", "allOf", "anyOf", "oneOf")
SINGLES: Final = (
    "additionalProperties",
    "propertyNames",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
)
DYNAMIC: Final = ("$dynamicRef", "$recursiveRef")
_EVERYWHERE: Final = frozenset({
    "type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "pattern", "format", "properties", "patternProperties", "additionalProperties", "minProperties", "maxProperties",
    "required", "items", "minItems", "maxItems", "uniqueItems", "allOf", "anyOf", "oneOf", "not",
})  # fmt: skip
_FROM_6: Final = frozenset({"contains", "propertyNames"})
_FROM_7: Final = frozenset({"if", "then", "else"})
_FROM_2019: Final = frozenset({
    "dependentRequired", "dependentSchemas", "minContains", "maxContains", "unevaluatedItems",
    "unevaluatedProperties",
})  # fmt: skip
_CONTENT: Final = frozenset({"contentEncoding", "contentMediaType"})


def _known(dialect: Dialect) -> frozenset[str]:
    known = _EVERYWHERE
    if dialect is not Dialect.DRAFT_4:
        known |= _FROM_6
    if dialect not in {Dialect.DRAFT_4, Dialect.DRAFT_6}:
        known |= _FROM_7
    if dialect in {Dialect.DRAFT_6, Dialect.DRAFT_7}:
        known |= _CONTENT  # the engine asserts them there
    if dialect not in OLD:
        known |= _FROM_2019
    if dialect is Dialect.DRAFT_2019_09:
        known |= {"$recursiveRef"}
    return known | {"$dynamicRef"} if dialect is Dialect.DRAFT_2020_12 else known


class TooMuchError(Exception):
    """The schemas are larger than is looked at, or refer in a circle that enters no value."""


@dataclass(slots=True)
class Budget:
    """How many more schemas are looked at, over both sides."""

    steps: int

    def take(self, steps: int = 1) -> None:
        """Count what is looked at.

        Raises:
            TooMuchError: if that was all.
        """
        self.steps -= steps
        if self.steps < 0:
            raise TooMuchError


@dataclass(frozen=True, slots=True)
class Node:
    """One schema in normal form: the keywords that decide, those of this service, and what is only said about it.

    ``values`` are those that ``const`` and ``enum`` leave, None if they leave all. ``never``: nothing is valid.
    """

    keywords: dict[str, Any] = field(default_factory=dict)
    values: list[Any] | None = None
    never: bool = False
    marks: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def accepts_all(self) -> bool:
        """Whether it is plain that every value is valid."""
        return not self.never and not self.keywords and self.values is None


ANYTHING: Final = Node()
NOTHING: Final = Node(never=True)


class Tree:
    """A document whose schemas are given in normal form; the document is one that has passed the gate."""

    def __init__(self, text: str, dialect: Dialect, budget: Budget) -> None:
        self.dialect = dialect
        self.document: dict[str, Any] = json.loads(text)
        self._budget = budget
        self._known = _known(dialect)
        self._outline = Outline(self.document, dialect)
        self._nodes: dict[int, Node] = {}

    @property
    def is_delicate(self) -> bool:
        """Whether what one schema means depends on what others around it evaluate, or on who refers to it."""
        delicate = self._known & {"unevaluatedItems", "unevaluatedProperties", *DYNAMIC}
        return any(not delicate.isdisjoint(location.schema) for location in self._outline)

    def without_notes(self) -> dict[str, Any]:
        """Copy the document without what says nothing about validity."""
        copy: dict[str, Any] = json.loads(json.dumps(self.document))
        for location in Outline(copy, self.dialect):
            for name in (*NOTES, *MARKS):
                location.schema.pop(name, None)
        return copy

    def node(self, schema: Any) -> Node:
        """Give a schema of the document in normal form.

        Raises:
            TooMuchError: if the budget is spent.
        """
        self._budget.take()
        if not isinstance(schema, dict):
            return NOTHING if schema is False else ANYTHING
        found = self._nodes.get(id(schema))
        if found is None:
            found = self._nodes[id(schema)] = self._made(schema)
        return found

    def _made(self, schema: dict[str, Any]) -> Node:
        marks: dict[str, Any] = {}
        notes: dict[str, Any] = {}
        seen: set[int] = set()
        while True:
            hides = self.dialect in OLD and "$ref" in schema
            for names, kept in ((MARKS, marks), (NOTES, notes)):
                kept.update({name: schema[name] for name in names if name in schema and name not in kept})
            targets = self._outline.targets(schema) if "$ref" in schema else []
            deciding = self._known.union(("const", "enum", "dependencies", *DYNAMIC)).intersection(schema)
            if not targets or (deciding and not hides):
                break
            if not isinstance(targets[0], dict):
                return Node(never=targets[0] is False, marks=marks, notes=notes)
            if id(targets[0]) in seen:
                raise TooMuchError
            seen.add(id(targets[0]))
            self._budget.take()
            schema = targets[0]
        keywords = {name: value for name, value in schema.items() if name in self._known}
        self._respell(schema, keywords)
        if targets:
            keywords["allOf"] = [*keywords.get("allOf", []), targets[0]]
        return Node(_meaningful(keywords), self._values(schema), marks=marks, notes=notes)

    def _values(self, schema: dict[str, Any]) -> list[Any] | None:
        values: list[Any] | None = schema.get("enum")
        if self.dialect is not Dialect.DRAFT_4 and "const" in schema:
            constant = schema["const"]
            values = [constant] if values is None else [each for each in values if same(each, constant)]
        if values is not None:
            self._budget.take(len(values))
        return values

    def _respell(self, schema: dict[str, Any], keywords: dict[str, Any]) -> None:
        if self.dialect is Dialect.DRAFT_4:
            for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
                if keywords.pop(exclusive, False) is True and limit in keywords:
                    keywords[exclusive] = keywords.pop(limit)
        if self.dialect is Dialect.DRAFT_2020_12:
            keywords.update({"prefixItems": schema["prefixItems"]} if "prefixItems" in schema else {})
        elif isinstance(keywords.get("items"), list):
            keywords["prefixItems"] = keywords.pop("items")
            if "additionalItems" in schema:
                keywords["items"] = schema["additionalItems"]
        for name, needed in schema.get("dependencies", {}).items():
            kind = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
            if name in keywords.get(kind, {}):
                raise TooMuchError  # said twice: not worth following
            keywords[kind] = {**keywords.get(kind, {}), name: needed}

    def children(self, node: Node) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """Give each schema directly inside, with its path."""
        for keyword in SINGLES:
            if keyword in node.keywords:
                yield (keyword,), node.keywords[keyword]
        for keyword in MAPS:
            for name, inner in node.keywords.get(keyword, {}).items():
                yield (keyword, name), inner
        for keyword in LISTS:
            for index, inner in enumerate(node.keywords.get(keyword, [])):
                yield (keyword, index), inner


def _meaningful(keywords: dict[str, Any]) -> dict[str, Any]:
    """Leave out what asks for nothing."""
    if isinstance(keywords.get("type"), str):
        keywords["type"] = [keywords["type"]]
    if keywords.get("format") not in FORMATS:
        keywords.pop("format", None)
    if "if" not in keywords or ("then" not in keywords and "else" not in keywords):
        for name in ("if", "then", "else"):
            keywords.pop(name, None)
    if "contains" not in keywords:
        keywords.pop("minContains", None)
        keywords.pop("maxContains", None)
    for name, nothing in _ASKING_NOTHING:
        if name in keywords and same(keywords[name], nothing):
            del keywords[name]
    return keywords


_ASKING_NOTHING: Final[tuple[tuple[str, Any], ...]] = (
    ("required", []),
    ("properties", {}),
    ("patternProperties", {}),
    ("dependentRequired", {}),
    ("dependentSchemas", {}),
    ("allOf", []),
    ("prefixItems", []),
    ("uniqueItems", False),
    ("minLength", 0),
    ("minItems", 0),
    ("minProperties", 0),
    ("additionalProperties", True),
    ("additionalProperties", {}),
    ("items", True),
    ("items", {}),
    ("propertyNames", True),
    ("propertyNames", {}),
)


class Equivalence:
    """Tells whether schemas of two documents ask for the same, with whatever their references lead to."""

    def __init__(self, old: Tree, new: Tree) -> None:
        self._old = old
        self._new = new
        self._known: set[tuple[int, int]] = set()

    def holds(self, old: Any, new: Any) -> bool:
        """Tell whether they are the same but for annotations; schemas that refer to themselves are compared once."""
        assumed: set[tuple[int, int]] = set()
        equal = self._same(old, new, assumed)
        if equal:
            self._known |= assumed
        return equal

    def _same(self, old: Any, new: Any, assumed: set[tuple[int, int]]) -> bool:
        pair = (id(old), id(new))
        if isinstance(old, dict) and isinstance(new, dict):
            if pair in self._known or pair in assumed:
                return True
            assumed.add(pair)
        one, other = self._old.node(old), self._new.node(new)
        if one.never is not other.never or one.keywords.keys() != other.keywords.keys():
            return False
        if (one.values is None) is not (other.values is None) or not same(one.values, other.values):
            return False
        inside = dict(self._new.children(other))
        outside = dict(self._old.children(one))
        if outside.keys() != inside.keys() or not all(
            same(value, other.keywords[name])
            for name, value in one.keywords.items()
            if name not in SINGLES and name not in MAPS and name not in LISTS
        ):
            return False
        return all(self._same(inner, inside[path], assumed) for path, inner in outside.items())
