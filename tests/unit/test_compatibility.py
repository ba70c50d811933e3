"""What changed between two schemas, in words, and how long it may take to tell."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from schema_user.domain.comparison import Comparison, Verdict
from schema_user.validation.compatibility import MAX_DIFFERENCES, compare
from schema_user.validation.frames import Compare
from schema_user.validation.pool import Pool, Stopped

SAFE, BREAKING, UNKNOWN = Verdict.SAFE, Verdict.BREAKING, Verdict.UNKNOWN


def compared(old: Any, new: Any, dialects: tuple[str, str] = ("2020-12", "2020-12")) -> Comparison:
    """Compare two schemas."""
    return compare(json.dumps(old), dialects[0], json.dumps(new), dialects[1], prove=True)


def within(schema: Any) -> dict[str, Any]:
    """Give a schema of objects with one property."""
    return {"type": "object", "properties": {"a": schema}}


OPEN = {"type": "object", "properties": {"a": {}}}
CLOSED = {**OPEN, "additionalProperties": False}
NAMES = {"definitions": {"n": {"maxLength": 5}}, "properties": {"a": {"$ref": "#/definitions/n"}}}

CASES: dict[str, tuple[Any, Any, Verdict, list[tuple[str, str]]]] = {
    "same": (CLOSED, json.loads(json.dumps(CLOSED)), SAFE, []),
    "required": (OPEN, {**OPEN, "required": ["a"]}, BREAKING, [("requiredAdded", "`/a` became required")]),
    "required in order": (
        OPEN,
        {**OPEN, "required": list("gfedcba")},
        BREAKING,
        [("requiredAdded", f"`/{name}` became required") for name in "gfedcba"],
    ),
    "optional": ({**OPEN, "required": ["a"]}, OPEN, SAFE, [("requiredRemoved", "`/a` is no longer required")]),
    "bound": (
        within({"minimum": 0}),
        within({"exclusiveMinimum": 18}),
        BREAKING,
        [("boundNarrowed", "`/a` narrowed to > 18")],
    ),
    "type": (
        within({"type": "number"}),
        within({"type": ["integer", "null"]}),
        BREAKING,
        [("typeNarrowed", "`/a` narrowed from number to integer or null")],
    ),
    "wider type": (
        within({"type": "integer"}),
        within({"type": "number"}),
        SAFE,
        [("typeWidened", "`/a` widened from integer to number")],
    ),
    "values": (
        within({"enum": ["m", "f"]}),
        within({"enum": ["f", "x"]}),
        BREAKING,
        [("valuesNarrowed", '`/a` no longer takes "m"'), ("valuesWidened", '`/a` also takes "x"')],
    ),
    "values become free": (
        within({"enum": [1, 2]}),
        within({"maximum": 2}),
        SAFE,
        [
            ("valuesWidened", "`/a` is no longer limited to a list of values"),
            ("boundNarrowed", "`/a` narrowed to ≤ 2"),
        ],
    ),
    "other type's keyword": (
        within({"type": "string"}),
        within({"type": "string", "maxItems": 1}),
        SAFE,
        [("boundNarrowed", "`/a` narrowed to at most 1 item")],
    ),
    "pattern": (
        within({"pattern": "a"}),
        within({"pattern": "aa"}),
        BREAKING,
        [("patternChanged", '`/a` must match the pattern "aa" instead of "a"')],
    ),
    "closed": (OPEN, CLOSED, BREAKING, [("othersForbidden", "`/*` is no longer allowed: only what is named is")]),
    "property of a closed one": (
        CLOSED,
        {**CLOSED, "properties": {"a": {}, "b": {"type": "string"}}},
        SAFE,
        [("propertyAdded", "`/b` was added")],
    ),
    "required property of a closed one": (
        {**CLOSED, "required": ["a"]},
        {**CLOSED, "properties": {"b": {"default": 1}}, "required": ["b"]},
        BREAKING,
        [
            ("requiredAdded", "`/b` was added, and is required"),
            ("propertyRemoved", "`/a` was removed, and is no longer allowed"),
        ],
    ),
    "breaking first": (
        within({"title": "A", "minLength": 1, "not": {"const": 1}}),
        {**within({"title": "B", "minLength": 2, "not": {"const": 2}}), "anyOf": [{"title": "A"}, {"title": "A"}]},
        BREAKING,
        [
            ("boundNarrowed", "`/a` narrowed to at least 2 characters"),
            ("notChanged", "`/a` differs in a schema that it must not match (not)"),
            ("anyOfAdded", "the document must match one of the alternatives in anyOf"),
            ("annotationChanged", "`/a` has another title"),
        ],
    ),
    "property of an open one": (
        OPEN,
        {**OPEN, "properties": {"a": {}, "b": {"type": "string"}}},
        BREAKING,
        [("typeNarrowed", "`/b` narrowed from any type to string"), ("propertyAdded", "`/b` was added")],
    ),
    "property gone": (
        CLOSED,
        {**CLOSED, "properties": {}},
        BREAKING,
        [("propertyRemoved", "`/a` was removed, and is no longer allowed")],
    ),
    "reference": (
        NAMES,
        {**NAMES, "definitions": {"n": {"maxLength": 4}}},
        BREAKING,
        [("boundNarrowed", "`/a` narrowed to at most 4 characters")],
    ),
    "moved definition": (
        NAMES,
        {"$defs": NAMES["definitions"], "properties": {"a": {"$ref": "#/$defs/n"}}},
        SAFE,
        [],
    ),
    "alternatives": (
        within({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        within({"type": ["string", "integer", "null"]}),
        SAFE,
        [
            ("typeNarrowed", "`/a` narrowed from any type to string or integer or null"),
            ("oneOfRemoved", "`/a` no longer has alternatives of which exactly one must match (oneOf)"),
        ],
    ),
    "not": (
        within({"not": {"minLength": 5}}),
        within({"not": {"minLength": 4}}),
        BREAKING,
        [("notChanged", "`/a` differs in a schema that it must not match (not)")],
    ),
    "unevaluated": (
        {**OPEN, "unevaluatedProperties": False},
        {**OPEN, "required": [], "unevaluatedProperties": False, "allOf": [{"properties": {"b": {}}}]},
        UNKNOWN,
        [
            (
                "unexplored",
                "the document changed, and what unevaluated… and dynamic references then mean is not followed",
            ),
            ("partAdded", "the document has one more part in allOf to match"),
        ],
    ),
    "words": (within({"title": "A"}), within({"title": "B"}), SAFE, [("annotationChanged", "`/a` has another title")]),
    "unique": (
        within({"type": "string"}),
        within({"type": "string", "urn:schema-user:unique": True}),
        UNKNOWN,
        [("uniqueAdded", "`/a` must be unique: whether stored users share a value is not known from the schemas")],
    ),
    "items": (
        within({"items": {"type": "string"}}),
        within({"prefixItems": [{"type": "string"}], "items": False}),
        BREAKING,
        [("forbidden", "`/a/*` is no longer allowed")],
    ),
}


@pytest.mark.parametrize(("old", "new", "verdict", "told"), CASES.values(), ids=CASES)
def test_differences_are_told_in_words(old: Any, new: Any, verdict: Verdict, told: list[tuple[str, str]]) -> None:
    """Each has its place, a stable kind and what it means; the verdict follows from all of them."""
    found = compared(old, new)
    assert [(each.kind, each.description) for each in found.differences] == told
    assert found.verdict is verdict


def test_a_dialect_is_compared_by_its_meaning() -> None:
    """Draft 4's exclusive limits, arrays of items and dependencies mean what they mean; its integers are others."""
    old = {"items": [{"maximum": 5, "exclusiveMaximum": True}], "dependencies": {"a": ["b"]}}
    new = {"prefixItems": [{"exclusiveMaximum": 5}], "dependentRequired": {"a": ["b"]}}
    found = compared(old, new, ("draft-04", "2020-12"))
    assert [(each.kind, each.breaking) for each in found.differences] == [("dialectChanged", None)]
    assert compared({"items": [{}]}, {"prefixItems": [{}]}, ("draft-07", "2020-12")).verdict is SAFE


def test_the_list_is_bounded_and_its_meaning_is_not() -> None:
    """Of a thousand differences 200 are told; one that breaks counts also if it is not among them."""
    names = [f"p{number:04}" for number in range(1_000)]
    old = {"properties": {name: {"maxLength": 5} for name in names}}
    new = {"properties": {name: {"maxLength": 6} for name in names}}
    new["properties"]["p0999"]["maxLength"] = 4
    found = compared(old, new)
    assert len(found.differences) == MAX_DIFFERENCES + 1
    assert found.differences[-1].description == "800 more differences are not listed"
    assert found.verdict is BREAKING


HOSTILE: dict[str, tuple[Any, Any]] = {
    "doubling references": (
        {
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {}},
            "$ref": "#/$defs/d0",
        },
        {
            "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {}},
            "$ref": "#/$defs/d0",
        },
    ),
    "wide": (
        {"patternProperties": {f"{n}": {} for n in range(3_000)}, "properties": {f"p{n}": {} for n in range(9_000)}},
        {"patternProperties": {f"{n}": {"type": "null"} for n in range(3_000)}},
    ),
    "alternatives of alternatives": (
        {"oneOf": [{"anyOf": [{"type": "object", "required": [f"a{i}{j}"]} for j in range(60)]} for i in range(60)]},
        {"anyOf": [{"oneOf": [{"type": "object", "required": [f"a{j}{i}"]} for j in range(60)]} for i in range(60)]},
    ),
    "circle": ({"$ref": "#"}, {"$ref": "#", "title": "x"}),
}


async def test_hostile_schemas_take_bounded_time() -> None:
    """A worker gives what is known in time: never safe, and never for more than about two seconds of a core."""
    pool = Pool(1)
    try:
        for old, new in HOSTILE.values():
            began = time.monotonic()
            try:
                found = await pool.compare(Compare(json.dumps(old), "2020-12", json.dumps(new), "2020-12"))
            except Stopped:
                continue
            assert found.verdict is not SAFE
            assert time.monotonic() - began < 30
    finally:
        await pool.close()
