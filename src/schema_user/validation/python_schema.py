"""A schema of drafts 4, 6 and 7 as fastjsonschema and jsonschema can be given it.

Neither can be given a stranger's schema as it is. fastjsonschema writes Python from it, where references that differ
only in signs or case become one function, nested schemas nest blocks deeper than Python allows, and a ``$ref`` inside
``const`` is fetched; jsonschema follows references anywhere, and doesn't say where in a document a ``false`` was. So a
document is written anew:

- only the keywords of its draft, and nothing that asserts nothing;
- references lead to ``definitions`` of numbered names: nothing is left to fetch, to collide or to resolve;
- schemas are nested ``_MAX_NESTED`` levels at most, what is deeper becomes a definition;
- patterns are Python's (``python_patterns.py``), formats and contents names of ``python.py``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.validation.dialect import Dialect
from schema_user.validation.formats import FORMATS
from schema_user.validation.outline import Outline
from schema_user.validation.patterns import Refused
from schema_user.validation.python_patterns import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_NESTED: Final = 4
"""Levels that one generated function holds: Python takes 20 nested loops and ``try``, and a level may need four."""
_MAX_NAME: Final = 50
"""Characters of a property whose schema is generated in place: its name is in the name of each variable below it."""
_MAX_QUICK_SCHEMAS: Final = 500
_MAX_QUICK_VALUES: Final = 1_000
"""Schemas, and values of ``enum``, for which code is generated: about 0.15 s and 1 MB of it."""
_MAX_PATTERNS: Final = 200_000
"""Characters of all patterns together as Python gets them: ``\\S`` has 200, and each takes time to compile."""

_ORDER: Final = (
    "type", "const", "enum",
    "minProperties", "maxProperties", "required", "properties", "patternProperties", "additionalProperties",
    "propertyNames", "dependencies",
    "minItems", "maxItems", "uniqueItems", "items", "additionalItems", "contains",
    "minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "allOf", "anyOf", "oneOf", "not", "if", "then", "else",
)  # fmt: skip
"""The keywords, in the order in which the engine ``rust`` lists errors."""
_SINCE_7: Final = frozenset({"if", "then", "else"})
_SINCE_6: Final = _SINCE_7 | {"const", "contains", "contentEncoding", "contentMediaType", "propertyNames"}
_UNKNOWN: Final[Mapping[Dialect, frozenset[str]]] = {
    Dialect.DRAFT_4: _SINCE_6,
    Dialect.DRAFT_6: _SINCE_7,
    Dialect.DRAFT_7: frozenset(),
}
"""The keywords that mean nothing in a dialect."""
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf"})
_SINGLES: Final = frozenset({"contains", "else", "not", "then"})
IS_FALSE: Final = "$false"
"""Marks the ``enum`` of no value that stands for ``false``."""
FALSE: Final[dict[str, Any]] = {"enum": [], IS_FALSE: True}
CONTENT: Final = {"contentEncoding": "base64", "contentMediaType": "application/json"}
"""What is asserted of contents since draft 6, as the engine ``rust`` does."""


class Rewritten(NamedTuple):
    """A document, written anew."""

    schema: dict[str, Any]
    """For jsonschema."""
    for_code: dict[str, Any] | None
    """For fastjsonschema; None if it has no exact answer, or would write too much code for it."""
    patterns: dict[str, str]
    """The patterns as they were, by those that Python gets."""


def rewritten(document: dict[str, Any], dialect: Dialect) -> Rewritten:
    """Write a document anew that has passed the gate.

    Raises:
        Refused: if a pattern is not taken, or all of them together.
    """
    outline = Outline(document, dialect)
    written = _Rewriter(outline, dialect, for_code=False)
    schema = written.rewrite(document)
    for_code = _Rewriter(outline, dialect, for_code=True).rewrite(document) if written.suits_code else None
    return Rewritten(schema, for_code, written.patterns)


class _Rewriter:
    """Writes one document anew, each schema once for each place that is deep or referred to."""

    def __init__(self, outline: Outline, dialect: Dialect, *, for_code: bool) -> None:
        self.patterns: dict[str, str] = {}
        self._outline, self._dialect, self._for_code = outline, dialect, for_code
        self._names: dict[int, str] = {}
        self._waiting: list[dict[str, Any]] = []
        self._exact, self._schemas, self._values = True, 0, 0
        self._room = _MAX_PATTERNS
        self._special: Final[Mapping[str, Callable[[dict[str, Any], Any, int], dict[str, Any]]]] = {
            "additionalItems": self._additional_items,
            "additionalProperties": self._additional_properties,
            "const": self._const,
            "contentEncoding": self._encoding,
            "contentMediaType": self._media_type,
            "dependencies": self._dependencies,
            "format": self._format,
            "if": self._if,
            "items": self._items,
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "properties": self._properties,
            "propertyNames": self._property_names,
            "required": self._required,
        }

    @property
    def suits_code(self) -> bool:
        """Whether code for what was written is exact, and small."""
        return self._exact and self._schemas <= _MAX_QUICK_SCHEMAS and self._values <= _MAX_QUICK_VALUES

    def rewrite(self, document: dict[str, Any]) -> dict[str, Any]:
        """Give the document anew."""
        first, definitions = self._reference(document), dict[str, Any]()
        while self._waiting:
            schema = self._waiting.pop()
            definitions[self._names[id(schema)]] = self._schema(schema, 0)
        return {"$schema": self._dialect.uri, "allOf": [first], "definitions": definitions}

    def _reference(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, dict):
            return self._schema(schema, 0)
        if id(schema) not in self._names:
            self._names[id(schema)] = f"d{len(self._names)}"
            self._waiting.append(schema)
        return {"$ref": f"#/definitions/{self._names[id(schema)]}"}

    def _inner(self, schema: Any, depth: int) -> dict[str, Any]:
        return self._schema(schema, depth + 1) if depth < _MAX_NESTED else self._reference(schema)

    def _schema(self, schema: Any, depth: int) -> dict[str, Any]:
        if not isinstance(schema, dict):
            return {} if schema else FALSE
        self._schemas += 1
        targets = self._outline.targets(schema)
        if targets:
            return self._reference(targets[0])
        written: dict[str, Any] = {}
        beside: list[dict[str, Any]] = []
        for keyword in _ORDER:
            if keyword not in schema or keyword in _UNKNOWN[self._dialect]:
                continue
            value = schema[keyword]
            if keyword in self._special:
                new = self._special[keyword](schema, value, depth)
                beside += new.pop("allOf", ())
                written |= new
            elif keyword in _LISTS:
                written[keyword] = [self._inner(each, depth) for each in value]
            elif keyword in _SINGLES:
                written[keyword] = self._inner(value, depth)
            else:
                written[keyword] = value
        self._judge(written)
        if beside:
            written["allOf"] = beside + written.get("allOf", [])
        return {keyword: written[keyword] for keyword in _ORDER if keyword in written}

    def _judge(self, written: dict[str, Any]) -> None:
        """Count what code would be written for; find what it would not be exact in."""
        values = [*written.get("enum", ()), *([written["const"]] if "const" in written else ())]
        self._values += len(values)
        if "multipleOf" in written or any(isinstance(each, dict | list) for each in values):
            self._exact = False

    def _required(self, _schema: dict[str, Any], value: list[str], _depth: int) -> dict[str, Any]:
        """For code it stands alone: of names that can't be there, fastjsonschema says that the schema is none."""
        return {"allOf": [{"required": value}]} if self._for_code else {"required": value}

    def _const(self, _schema: dict[str, Any], value: Any, _depth: int) -> dict[str, Any]:
        """For code it becomes an enum: fastjsonschema has no const without details for its errors."""
        return {"allOf": [{"enum": [value]}]} if self._for_code else {"const": value}

    def _encoding(self, _schema: dict[str, Any], value: Any, _depth: int) -> dict[str, Any]:
        """Contents become formats, of names that no format has: they are asserted of texts alone, as formats are."""
        return {"allOf": [{"format": "contentEncoding"}]} if value == CONTENT["contentEncoding"] else {}

    def _media_type(self, schema: dict[str, Any], value: Any, _depth: int) -> dict[str, Any]:
        if value != CONTENT["contentMediaType"]:
            return {}
        encoded = schema.get("contentEncoding") == CONTENT["contentEncoding"]
        return {"allOf": [{"format": "contentBoth" if encoded else "contentMediaType"}]}

    def _if(self, schema: dict[str, Any], value: Any, depth: int) -> dict[str, Any]:
        return {"if": self._inner(value, depth)} if schema.keys() & {"then", "else"} else {}

    def _format(self, _schema: dict[str, Any], value: Any, _depth: int) -> dict[str, Any]:
        return {"format": value} if value in FORMATS else {}

    def _pattern(self, schema: dict[str, Any], value: str, _depth: int) -> dict[str, Any]:
        return {"pattern": self._translated(value, schema.get("maxLength"))}

    def _translated(self, pattern: str, longest: Any = None) -> str:
        text = translated(pattern, longest)
        self.patterns.setdefault(text, pattern)
        self._room -= len(text)
        if self._room < 0:
            raise Refused("patternSize", f"has patterns that are longer than {_MAX_PATTERNS} characters for Python")
        return text

    def _properties(self, _schema: dict[str, Any], value: dict[str, Any], depth: int) -> dict[str, Any]:
        written = {
            name: self._inner(inner, depth if len(name) <= _MAX_NAME else _MAX_NESTED) for name, inner in value.items()
        }
        return {"properties": written}

    def _property_names(self, _schema: dict[str, Any], value: Any, depth: int) -> dict[str, Any]:
        """``false`` itself forbids to have names, what refers to it forbids each of them: other words."""
        inner = self._inner(value, depth)
        return {"propertyNames": {"allOf": [inner]} if inner is FALSE and value is not False else inner}

    def _pattern_properties(self, _schema: dict[str, Any], value: dict[str, Any], depth: int) -> dict[str, Any]:
        written: dict[str, list[Any]] = defaultdict(list)
        for pattern, inner in value.items():
            written[self._translated(pattern)].append(self._inner(inner, depth + 1))
        return {
            "patternProperties": {
                pattern: inner[0] if len(inner) == 1 else {"allOf": inner} for pattern, inner in written.items()
            }
        }

    def _additional_properties(self, _schema: dict[str, Any], value: Any, depth: int) -> dict[str, Any]:
        return self._unless_open("additionalProperties", value, depth)

    def _items(self, _schema: dict[str, Any], value: Any, depth: int) -> dict[str, Any]:
        if isinstance(value, list):
            return {"items": [self._inner(each, depth) for each in value]}
        return {"items": inner} if (inner := self._inner(value, depth)) else {}

    def _additional_items(self, schema: dict[str, Any], value: Any, depth: int) -> dict[str, Any]:
        return self._unless_open("additionalItems", value, depth) if isinstance(schema.get("items"), list) else {}

    def _unless_open(self, keyword: str, value: Any, depth: int) -> dict[str, Any]:
        if value is False:
            return {keyword: False}
        return {keyword: inner} if (inner := self._inner(value, depth)) else {}

    def _dependencies(self, _schema: dict[str, Any], value: dict[str, Any], depth: int) -> dict[str, Any]:
        self._schemas += len(value)
        written = {
            name: {"required": inner} if isinstance(inner, list) else self._inner(inner, depth)
            for name, inner in value.items()
            if inner not in ([], True)
        }
        return {"dependencies": written} if written else {}
