"""Which schemas have a bound, and how it grows with what they ask."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import pytest

from schema_user.validation.bound import Bound, bound, ordered
from schema_user.validation.dialect import Dialect
from schema_user.validation.rust import compile_schema

_NEW: Final = Dialect.DRAFT_2020_12
_SHIPPED: Final = sorted((Path(__file__).parents[2] / "schemas").glob("*.json"))
_SLOW: Final = {"pattern": "(a|ab|b){3,30}$"}
_MS: Final = 1_000_000


def found(schema: dict[str, Any], dialect: Dialect = _NEW) -> Bound:
    """Give the bound of a schema that must have one."""
    result = bound(schema, dialect)
    assert result is not None
    return result


def rate(schema: dict[str, Any]) -> float:
    """Give the price of a byte among items, where nothing is visited only once."""
    return found({"items": schema}).ns_per_byte


def tree(*references: str) -> dict[str, Any]:
    """Make a schema that refers to itself in these keywords of its items."""
    inner = {"allOf": [{"$ref": each} for each in references]}
    return {"$ref": "#/$defs/a", "$defs": {"a": {"type": ["array", "null"], "items": inner}, "leaf": {"minimum": 1}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}, "required": ["a"]},
        {"additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^[a-z]{1,9}$"}},
        {"patternProperties": {"^x-": {"type": "integer"}}, "minProperties": 1},
        {"items": {"minimum": 0.5, "multipleOf": 0.01}, "contains": {"const": 1}, "minContains": 2},
        {"prefixItems": [{"enum": ["a", 1, [None]]}], "items": False},
        {"if": {"type": "string"}, "then": {"format": "email"}, "else": {"not": {"const": 5}}},
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "dependentRequired": {"a": ["c"]}},
        {"dependentSchemas": {"a": {"required": ["b"]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "string"}}},
        {"properties": {"child": {"$ref": "#"}, "children": {"items": {"$ref": "#"}}}},
        tree("#/$defs/a"),
        tree("#/$defs/a", "#/$defs/leaf"),
        {"format": "phone"},
        {"format": "unknown"},
        {"pattern": "^(a|b)+$"},
        {"allOf": [{"uniqueItems": True}], "items": {"type": "string"}},
        {"uniqueItems": False},
    ],
)
def test_has_a_bound(schema: dict[str, Any]) -> None:
    """What does a limited amount of work at each value has a bound."""
    assert found(schema).ns_per_byte > 0
    assert found(schema).fixed_ns > 0


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"anyOf": [{"$ref": "#"}]}]},
        {"propertyNames": {"$ref": "#"}},
        tree("#/$defs/a", "#/$defs/a"),
        {"additionalProperties": {"if": {"$ref": "#"}, "then": {"$ref": "#"}}},
        {"items": {"$ref": "#"}, "contains": {"$ref": "#"}},
        {"patternProperties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
        {"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a"}}},
        {"unevaluatedProperties": False},
        {"properties": {"a": {"unevaluatedItems": {}}}},
        {"uniqueItems": True},
        {"uniqueItems": True, "items": {"type": "string"}},
        {"allOf": [{"uniqueItems": True}]},
        {"allOf": [{"uniqueItems": True}], "items": {"type": ["string", "number"]}},
        {"allOf": [{"uniqueItems": True}], "prefixItems": [{}], "items": {"type": "string"}},
        {"format": "regex"},
        {"items": {"format": "idn-hostname"}},
        {"pattern": "(?=a)b"},
        {"pattern": "(a)\\1"},
        {"pattern": "a\\b"},
        {"pattern": "(?i)a"},
        {"pattern": "a{5000}b"},
        {"patternProperties": {"(?!a)": {}}},
        {"contentMediaType": "application/json"},
        {"enum": [10**400]},
    ],
)
def test_has_none(schema: dict[str, Any]) -> None:
    """Circles in place, doubling at each level, and what nobody can price have none."""
    assert bound(schema, _NEW) is None


def test_recursive_ref_has_none() -> None:
    """The dynamic reference of 2019-09 has none either."""
    assert bound({"items": {"$recursiveRef": "#"}}, Dialect.DRAFT_2019_09) is None


@pytest.mark.parametrize(
    ("one", "more"),
    [
        ({"minimum": 1}, {"minimum": 0.5}),
        ({"minimum": 1}, {"allOf": [{"minimum": 1}] * 10}),
        ({"type": "string"}, {"oneOf": [{"type": "string"}] * 10}),
        ({"const": "a"}, {"const": 1}),
        ({"enum": ["a"]}, {"enum": [["a"]] * 10}),
        ({"enum": [1]}, {"enum": [1, 2, 3]}),
        ({"pattern": "^[a-z]{2}$"}, _SLOW),
        ({"pattern": "(a|b){9}"}, {"pattern": "(a|b){90}"}),
        ({"patternProperties": {"(a|b)*": {}}}, {"patternProperties": {"(a|b)*": {}, "(b|c)*": {}}}),
        ({"dependentRequired": {"a": ["b"]}}, {"dependentRequired": {"a": ["b", "c"], "d": ["e"]}}),
        ({"properties": {"name": _SLOW}}, {"items": {"properties": {"name": _SLOW}}, "contains": _SLOW}),
    ],
)
def test_more_costs_more(one: dict[str, Any], more: dict[str, Any]) -> None:
    """A byte has a higher price where more is asked of it."""
    assert rate(more) > rate(one)


def test_children_apart_cost_the_most_of_them() -> None:
    """A byte is in one property only; what applies to the same one adds up."""
    apart = rate({"properties": {"a": _SLOW, "b": _SLOW}})
    assert apart == rate({"properties": {"a": _SLOW}})
    assert rate({"properties": {"a": {"allOf": [_SLOW, _SLOW]}}}) > 1.5 * apart


def test_once_is_fixed() -> None:
    """What can be in a document only once is no price of each byte."""
    number = {"enum": [1, 2, 3]}
    once, many = found({"properties": {"a": number}}), found({"items": number})
    assert once.ns_per_byte < many.ns_per_byte / 10
    assert once.fixed_ns > many.fixed_ns


def test_length_bounds_a_pattern() -> None:
    """The engine looks at ``maxLength`` first, so a pattern reads no more than that."""
    schema = {"properties": {"a": {**_SLOW, "maxLength": 20}}}
    assert found(schema).ns_per_byte < found({"properties": {"a": _SLOW}}).ns_per_byte / 10
    validator, text = compile_schema({"pattern": "x{200}y", "maxLength": 20}, _NEW), "x" * 10_000_000
    begun = time.thread_time()
    assert not validator.is_valid(text)
    assert time.thread_time() - begun < 0.01  # it would take 20 ms to read the text


@pytest.mark.parametrize(
    ("schema", "chain"),
    [
        ({"type": "string"}, 1),
        ({"properties": {"a": {"properties": {"b": {}}}}}, 1),
        ({"allOf": [{"not": {"anyOf": [{}]}}]}, 4),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"if": {}}}}, 4),
    ],
)
def test_chain(schema: dict[str, Any], chain: int) -> None:
    """The chain counts schemas inside one another at one value."""
    assert found(schema).chain == chain


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{} for _ in range(30_000)]},
        {"properties": {str(number): {"$ref": "#"} for number in range(14_000)}},
        {"pattern": "^" + "(" * 30_000 + "a" + ")" * 30_000},
        {"patternProperties": {f"^[a-z]{{2,{number}}}x|b": {} for number in range(6_000)}},
        {"$defs": {str(number): {"items": {"$ref": f"#/$defs/{number // 2}"}} for number in range(9_000)}},
    ],
    ids=["schemas", "references", "pattern", "patterns", "definitions"],
)
def test_gives_up_in_time(schema: dict[str, Any]) -> None:
    """A large schema costs no more than finding out that it is too large."""
    begun = time.thread_time()
    assert bound(ordered(schema, _NEW), _NEW) is None
    assert time.thread_time() - begun < 1


def test_order_moves_what_compares_texts() -> None:
    """``uniqueItems`` goes behind items that are texts, and stays elsewhere; the schema given is left alone."""
    text = {"uniqueItems": True, "items": {"$ref": "#/$defs/t"}}
    schema = {"properties": {"a": text, "b": {"uniqueItems": True}}, "$defs": {"t": {"type": ["string", "null"]}}}
    before = json.dumps(schema)
    properties = ordered(schema, _NEW)["properties"]
    assert properties["a"] == {"items": {"$ref": "#/$defs/t"}, "allOf": [{"uniqueItems": True}]}
    assert properties["b"] == {"uniqueItems": True}
    assert json.dumps(schema) == before
    assert bound(ordered({"properties": {"a": text}, "$defs": schema["$defs"]}, _NEW), _NEW)


def test_engine_keeps_the_order() -> None:
    """The engine comes to ``allOf`` after ``items``; else it would compare 3,000 arrays that hash alike."""
    alike = [[[1] if bits >> place & 1 else 1 for place in range(12)] for bits in range(3_000)]
    validator = compile_schema(ordered({"items": {"type": "string"}, "uniqueItems": True}, _NEW), _NEW)
    begun = time.thread_time()
    assert not validator.is_valid(alike)
    assert time.thread_time() - begun < 0.05


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_shipped_schemas_are_cheap(path: Path) -> None:
    """Each schema that comes along validates 5 KB in the server, within 5 ms."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    result = found(ordered(schema, Dialect.DRAFT_7), Dialect.DRAFT_7)
    assert result.fixed_ns + 5_000 * result.ns_per_byte < 5 * _MS
