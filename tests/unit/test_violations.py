from __future__ import annotations

import json
from typing import Any

import pytest

from schema_user.errors import Violation
from schema_user.validation.rust import compile_schema

Listed = list[tuple[str, str, str]]


def listed(schema: dict[str, Any], data: Any, dialect: str = "2020-12") -> Listed:
    """List the violations as field, reason and description."""
    found = compile_schema(schema, dialect).violations(data)
    return [(each.field, each.reason, each.description) for each in found]


class TestWords:
    @pytest.mark.parametrize(
        ("schema", "data", "expected"),
        [
            ({"type": "string"}, 1, ("data", "type", "must be of type string, not integer")),
            ({"type": ["string", "null"]}, 1.5, ("data", "type", "must be of type null or string, not number")),
            ({"type": "string"}, True, ("data", "type", "must be of type string, not boolean")),
            ({"type": "string"}, None, ("data", "type", "must be of type string, not null")),
            ({"type": "object"}, [], ("data", "type", "must be of type object, not array")),
            ({"type": "array"}, {}, ("data", "type", "must be of type array, not object")),
            ({"type": "array"}, "a", ("data", "type", "must be of type array, not string")),
            ({"type": "integer"}, 1.5, ("data", "type", "must be of type integer, not number")),
            ({"minLength": 2}, "a", ("data", "minLength", "must be at least 2 characters long")),
            ({"maxLength": 1}, "ab", ("data", "maxLength", "must be at most 1 character long")),
            ({"pattern": "^a$"}, "b", ("data", "pattern", "must match the pattern ^a$")),
            ({"pattern": "^" + "a" * 300}, "b", ("data", "pattern", "must match a long pattern")),
            ({"format": "email"}, "b", ("data", "format", "must be an email address")),
            ({"format": "ipv4"}, "b", ("data", "format", "must be of the format ipv4")),
            ({"enum": ["a", 1, None]}, "b", ("data", "enum", 'must be one of "a", 1, null')),
            ({"enum": ["a" * 300, 1]}, "b", ("data", "enum", "must be one of …, 1")),
            ({"enum": list(range(500))}, "b", ("data", "enum", "must be one of the 500 values that the schema lists")),
            ({"const": {"a": 1}}, "b", ("data", "const", 'must be {"a": 1}')),
            ({"const": "a" * 300}, "b", ("data", "const", "must be the one value that the schema names")),
            ({"minimum": 3}, 2, ("data", "minimum", "must be at least 3")),
            ({"maximum": 2.5}, 3, ("data", "maximum", "must be at most 2.5")),
            ({"exclusiveMinimum": 3}, 3, ("data", "exclusiveMinimum", "must be greater than 3")),
            ({"exclusiveMaximum": 3}, 3, ("data", "exclusiveMaximum", "must be less than 3")),
            ({"multipleOf": 0.5}, 0.3, ("data", "multipleOf", "must be a multiple of 0.5")),
            ({"minItems": 2}, [], ("data", "minItems", "must have at least 2 items, not 0")),
            ({"maxItems": 1}, [1, 2], ("data", "maxItems", "must have at most 1 item, not 2")),
            ({"uniqueItems": True}, [1, 1], ("data", "uniqueItems", "must not have equal items")),
            ({"minProperties": 2}, {}, ("data", "minProperties", "must have at least 2 properties, not 0")),
            ({"maxProperties": 1}, {"a": 1, "b": 1}, ("data", "maxProperties", "must have at most 1 property, not 2")),
            ({"not": {"type": "null"}}, None, ("data", "not", "is of a form that the schema excludes")),
            ({"contains": {"const": 1}}, [2], ("data", "contains", "has no item of the form that it must contain")),
            (
                {"contains": {"const": 1}, "minContains": 2},
                [1],
                ("data", "minContains", "has too few items of the form that it must contain"),
            ),
            (
                {"contains": {"const": 1}, "maxContains": 1},
                [1, 1],
                ("data", "maxContains", "has too many items of the form that it may contain only so often"),
            ),
            (
                {"prefixItems": [True], "unevaluatedItems": False},
                [1, 2],
                ("data", "unevaluatedItems", "has items that are not allowed"),
            ),
            ({"properties": {"a": False}}, {"a": 1}, ("data/a", "falseSchema", "is not allowed")),
            ({"prefixItems": [True], "items": False}, [1, 2], ("data/1", "falseSchema", "is not allowed")),
        ],
        ids=lambda value: json.dumps(value, default=str)[:40],
    )
    def test_one(self, schema: dict[str, Any], data: Any, expected: tuple[str, str, str]) -> None:
        """Each keyword has words for people and says its limit."""
        assert listed(schema, data) == [expected]

    @pytest.mark.parametrize(
        ("schema", "data", "description"),
        [
            ({"items": [True], "additionalItems": False}, [1, 2], "must have at most 1 item, not 2"),
            ({"contentEncoding": "base64"}, "!", "must be encoded as base64"),
            ({"contentMediaType": "application/json"}, "!", "must hold application/json"),
        ],
        ids=["additionalItems", "contentEncoding", "contentMediaType"],
    )
    def test_of_draft_7(self, schema: dict[str, Any], data: Any, description: str) -> None:
        """Keywords that only an older dialect asserts have words too."""
        assert [each[2] for each in listed(schema, data, "draft-07")] == [description]


class TestPlaces:
    def test_required(self) -> None:
        """A missing property is named by its own pointer, one violation for each."""
        schema = {"properties": {"a": {"required": ["y", "x"]}}, "required": ["name", "a"]}
        assert listed(schema, {"a": {}}) == [
            ("data/a/x", "required", "is required"),
            ("data/a/y", "required", "is required"),
            ("data/name", "required", "is required"),
        ]

    def test_dependent_required(self) -> None:
        """So is one that another property asks for."""
        schema = {"dependentRequired": {"a": ["b"]}}
        assert listed(schema, {"a": 1}) == [("data/b", "required", "is required")]

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"ok": True}, "additionalProperties": False},
            {"patternProperties": {"^ok$": True}, "additionalProperties": False},
        ],
        ids=["properties", "patternProperties"],
    )
    def test_additional(self, schema: dict[str, Any]) -> None:
        """Each unexpected property is named by its own escaped pointer."""
        found = listed(schema, {"ok": 1, "b": 1, "a/~": 1})
        assert found == [
            ("data/a~1~0", "additionalProperties", "is not allowed"),
            ("data/b", "additionalProperties", "is not allowed"),
        ]

    def test_additional_alone(self) -> None:
        """An object that may have no property at all names each one it has."""
        schema = {"properties": {"a": {"additionalProperties": False}}}
        found = listed(schema, {"a": {"x": 1, "y": 2}})
        assert [each[:2] for each in found] == [
            ("data/a/x", "additionalProperties"),
            ("data/a/y", "additionalProperties"),
        ]

    def test_unevaluated(self) -> None:
        """Unevaluated properties are named likewise."""
        schema = {"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False}
        assert listed(schema, {"a": 1, "b": 1}) == [("data/b", "unevaluatedProperties", "is not allowed")]

    def test_names(self) -> None:
        """A wrong name is named where it stands, with what is wrong about it."""
        schema = {"propertyNames": {"maxLength": 2}}
        assert listed(schema, {"abc": 1}) == [
            ("data/abc", "propertyNames", "has a name that is not allowed: it must be at most 2 characters long")
        ]

    def test_order(self) -> None:
        """Violations come by pointer, items by number."""
        schema = {"items": {"type": "string"}}
        found = listed(schema, list(range(12)))
        assert [each[0] for each in found] == [f"data/{number}" for number in range(12)]

    def test_order_of_data(self) -> None:
        """The order in which a document happens to have its members makes no difference."""
        schema = {"additionalProperties": {"anyOf": [{"type": "string"}, {"required": ["x", "y"]}]}, "required": ["n"]}
        data: dict[str, Any] = {f"p{number}": [1, {}, None][number % 3] for number in range(30)}
        assert listed(schema, data) == listed(schema, dict(reversed(data.items())))

    def test_prefix(self) -> None:
        """The first part of the pointer can be chosen."""
        found = compile_schema({"required": ["a"]}, "2020-12").violations({}, "body/data")
        assert found == [Violation("body/data/a", "is required", "required")]

    def test_same_twice(self) -> None:
        """What two branches of allOf find alike is said once."""
        assert len(listed({"allOf": [{"required": ["a"]}, {"required": ["a"]}]}, {})) == 1


class TestAlternatives:
    def test_types(self) -> None:
        """Alternatives that differ by type only are named together."""
        schema = {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
        assert listed(schema, {"a": 1}) == [("data/a", "anyOf", "must be of type null or string, not integer")]

    def test_nearest(self) -> None:
        """The nearest alternative's own violations follow, at their places."""
        card = {"properties": {"kind": {"const": "card"}, "number": {"type": "string"}}, "required": ["number"]}
        iban = {"properties": {"kind": {"const": "iban"}, "iban": {"type": "string"}}, "required": ["iban"]}
        schema = {"properties": {"pay": {"oneOf": [card, iban]}}}
        assert listed(schema, {"pay": {"kind": "iban"}}) == [
            ("data/pay", "oneOf", "fits none of the 2 alternatives; the nearest, number 2: iban is required"),
            ("data/pay/iban", "required", "is required (alternative 2)"),
        ]

    def test_constants(self) -> None:
        """A value of the right type but another constant is told what it may be."""
        schema = {"anyOf": [{"enum": ["a", "b"]}, {"type": "array"}]}
        assert listed(schema, "c") == [
            ("data", "anyOf", 'fits none of the 2 alternatives; the nearest, number 1: must be one of "a", "b"'),
            ("data", "enum", 'must be one of "a", "b" (alternative 1)'),
        ]

    def test_none_near(self) -> None:
        """If no alternative is nearer than another, none is guessed; what each lacks is told if it is one thing."""
        schema = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
        assert listed(schema, {}) == [
            ("data", "anyOf", "fits none of the 2 alternatives; the nearest: a is required, or b is required")
        ]
        schema = {"anyOf": [{"required": ["a", "c"]}, {"required": ["b", "c"]}]}
        assert listed(schema, {}) == [("data", "anyOf", "fits none of the 2 alternatives")]
        schema = {"anyOf": [{"required": [name]} for name in "abcdef"]}
        assert listed(schema, {}) == [("data", "anyOf", "fits none of the 6 alternatives")]

    def test_shape_counts_more_than_content(self) -> None:
        """An alternative whose shape the value has is nearer than one that it has not, whatever is wrong inside."""
        iban = {"required": ["iban"], "properties": {"iban": {"minLength": 15, "pattern": "^[A-Z]"}}}
        schema = {"oneOf": [{"required": ["card"]}, iban]}
        assert listed(schema, {"iban": "0"})[0][2] == (
            "fits none of the 2 alternatives; the nearest, number 2: iban must be at least 15 characters long"
        )

    def test_deeper_is_nearer(self) -> None:
        """Of two alternatives with as many errors, that one is nearer in which more was right on the way."""
        schema = {
            "anyOf": [
                {"properties": {"a": {"type": "string"}}},
                {"properties": {"a": {"properties": {"b": {"type": "string"}}}}},
            ]
        }
        assert listed(schema, {"a": {"b": 1}})[0][2] == (
            "fits none of the 2 alternatives; the nearest, number 2: a/b must be of type string, not integer"
        )

    def test_long_names(self) -> None:
        """A long name is cut where it is told in passing; its own pointer is whole."""
        schema = {"anyOf": [{"additionalProperties": {"type": "string"}}, {"type": "null"}]}
        found = listed(schema, {"n" * 5000: 1})
        assert len(found[0][2]) < 400
        assert found[1][0] == "data/" + "n" * 5000

    def test_several_fit(self) -> None:
        """More than one fitting alternative of oneOf is said so."""
        schema = {"oneOf": [{"type": "integer"}, {"minimum": 0}]}
        assert listed(schema, 1) == [("data", "oneOf", "fits the alternatives 1 and 2; exactly one must fit")]
        assert listed({"oneOf": [{"minimum": n} for n in range(10)]}, 8) == [
            ("data", "oneOf", "fits 9 of the 10 alternatives; exactly one must fit")
        ]

    def test_nested(self) -> None:
        """Alternatives inside alternatives are named, not listed, and the listing is short."""
        schema: dict[str, Any] = {"type": "string"}
        for _ in range(8):
            schema = {"anyOf": [{"properties": {"a": schema}, "required": ["a"]}, {"required": ["a", "b", "c"]}]}
        data: Any = 1
        for _ in range(8):
            data = {"a": data}
        assert listed(schema, data) == [
            (
                "data",
                "anyOf",
                "fits none of the 2 alternatives; the nearest, number 1: a fits none of the 2 alternatives",
            ),
            ("data/a", "anyOf", "fits none of the 2 alternatives (alternative 1)"),
        ]

    def test_at_most_ten(self) -> None:
        """At most ten violations of an alternative are listed."""
        schema = {"anyOf": [{"type": "null"}, {"required": [f"p{n}" for n in range(50)]}]}
        assert len(listed(schema, {})) == 11


class TestLimits:
    def test_hundred(self) -> None:
        """At most 100 violations are listed, then the number of the others."""
        found = listed({"items": {"type": "string"}}, list(range(250)))
        assert len(found) == 101
        assert found[-1] == ("data", "more", "has 150 other violations that are not listed")

    def test_exactly_hundred(self) -> None:
        """A hundred are all there are."""
        assert len(listed({"items": {"type": "string"}}, list(range(100)))) == 100

    def test_one_more(self) -> None:
        """One too many is one other."""
        found = listed({"items": {"type": "string"}}, list(range(101)))
        assert found[-1] == ("data", "more", "has 1 other violation that are not listed")

    def test_thousands(self) -> None:
        """Beyond ten thousand nobody counts on."""
        found = listed({"items": {"type": "string"}}, list(range(20_000)))
        assert found[-1][2] == "has more than 9900 other violations that are not listed"

    def test_long_names(self) -> None:
        """Long names of properties can't make the answer large."""
        data = {f"{number}" + "x" * 30_000: 1 for number in range(30)}
        found = listed({"additionalProperties": False}, data)
        assert 1 < len(found) < 5
        assert found[-1][1] == "more"


class TestSecrecy:
    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "integer"},
            {"maxLength": 3},
            {"pattern": "^x$"},
            {"format": "email"},
            {"enum": ["x"]},
            {"const": "x"},
            {"not": {"type": "string"}},
            {"anyOf": [{"type": "integer"}, {"const": "x"}]},
            {"oneOf": [{"type": "string"}, {"minLength": 1}]},
            {"contentEncoding": "base64"},
            False,
        ],
        ids=json.dumps,
    )
    def test_value_never_shown(self, schema: Any) -> None:
        """No description, field or reason holds the value that was found."""
        value = "s3cret-värde!"
        document = {"properties": {"a": {"items": schema}}, "unevaluatedItems": False}
        for each in listed(
            document, {"a": [value]}, "draft-07" if schema == {"contentEncoding": "base64"} else "2020-12"
        ):
            assert value not in "".join(each)

    def test_unevaluated_items(self) -> None:
        """Nor where the engine's own message would hold it."""
        ((field, reason, text),) = listed({"prefixItems": [True], "unevaluatedItems": False}, [1, "s3cret"])
        assert "s3cret" not in field + reason + text
