from __future__ import annotations

import json
from typing import Any

import pytest

from schema_user.validation import gate
from schema_user.validation.dialect import Dialect

_OLD = ["http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-06/schema#"]
_DIALECTS = [each.uri for each in Dialect]


def found(document: object, *, max_bytes: int = gate.MAX_BYTES) -> list[tuple[str, str]]:
    """List where the gate refuses a document, and why."""
    return [(each.field, each.reason) for each in gate.check(document, max_bytes=max_bytes).violations]


def warned(document: object) -> list[tuple[str, str]]:
    """List the gate's warnings."""
    return [(each.field, each.reason) for each in gate.check(document).warnings]


class TestShape:
    @pytest.mark.parametrize("document", [None, True, False, [], "{}", 1])
    def test_no_object(self, document: object) -> None:
        """Anything but an object is refused, a boolean schema too."""
        assert found(document) == [("schema", "type")]

    def test_empty_object(self) -> None:
        """The empty schema is taken, in the newest dialect."""
        assert gate.check({}) == gate.Findings(dialect="2020-12")

    def test_too_large(self) -> None:
        """A document above the limit is refused, and the limit is named; at the limit it is taken."""
        document = {"description": "é" * 40}
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        assert found(document, max_bytes=size) == []
        (violation,) = gate.check(document, max_bytes=size - 1).violations
        assert (violation.field, violation.reason) == ("schema", "size")
        assert str(size - 1) in violation.description

    def test_default_size(self) -> None:
        """Without a setting the limit is 256 KiB."""
        assert found({"description": "x" * 256 * 1024}) == [("schema", "size")]

    @pytest.mark.parametrize("levels", [64, 65, 100_000])
    def test_depth(self, levels: int) -> None:
        """64 levels are taken, more are refused with the pointer, and even absurd depth ends no process."""
        document: dict[str, Any] = {}
        for _ in range(levels - 1):
            document = {"not": document}
        assert found(document) == ([] if levels <= 64 else [("schema" + "/not" * 64, "depth")])

    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            ({"properties": {"a": {"title": "\ud800"}}}, ("schema/properties/a/title", "surrogate")),
            ({"properties": {"\ud800": {}}}, ("schema/properties", "surrogate")),
            ({"properties": {1: {}}}, ("schema/properties", "surrogate")),
            ({"maximum": float("inf")}, ("schema/maximum", "number")),
            ({"items": {"enum": [float("nan")]}}, ("schema/items/enum/0", "number")),
            ({"maximum": 10**5000}, ("schema", "json")),
            ({"enum": [b"bytes"]}, ("schema", "json")),
        ],
    )
    def test_no_json(self, document: object, expected: tuple[str, str]) -> None:
        """What no JSON text can say is refused with its pointer."""
        assert found(document) == [expected]


class TestDialect:
    @pytest.mark.parametrize("dialect", list(Dialect))
    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("end", ["", "#"])
    def test_spellings(self, dialect: Dialect, scheme: str, end: str) -> None:
        """Each dialect is known by http or https, with or without the trailing #."""
        name = f"{scheme}://{dialect.uri.partition('://')[2].removesuffix('#')}{end}"
        assert gate.check({"$schema": name}) == gate.Findings(dialect=str(dialect))

    def test_own_name(self) -> None:
        """The service's own name of a dialect means 2020-12."""
        findings = gate.check({"$schema": "urn:zitadel:schema:v1", "prefixItems": [{"type": "string"}]})
        assert findings == gate.Findings(dialect="2020-12")

    @pytest.mark.parametrize(
        "name",
        [
            "http://json-schema.org/draft-03/schema#",
            "json-schema.org/draft-07/schema",
            "",
            7,
            None,
            [],
            "urn:zitadel:schema:v2",
        ],
    )
    def test_unknown(self, name: object) -> None:
        """Another dialect, or none that is one, is refused and nothing else is judged."""
        assert found({"$schema": name, "type": "wrong"}) == [("schema/$schema", "dialect")]

    def test_mixed(self) -> None:
        """An inner schema can't be of another dialect."""
        inner = {"$id": "https://example.com/a", "$schema": "http://json-schema.org/draft-04/schema#"}
        assert found({"$defs": {"a": inner}}) == [("schema/$defs/a/$schema", "dialect")]


class TestMetaschema:
    def test_all_at_once(self) -> None:
        """Every error of the metaschema comes with its pointer, beside the findings of the other rules."""
        document = {
            "type": "strnig",
            "properties": {"a/b": {"minLength": -1, "pattern": "(?>a)"}, "c": {"required": ["x", 3]}},
            "items": 7,
            "allOf": [{"$ref": "#/nowhere"}, {}],
        }
        assert set(found(document)) == {
            ("schema/type", "anyOf"),
            ("schema/type", "enum"),
            ("schema/properties/a~1b/minLength", "minimum"),
            ("schema/properties/a~1b/pattern", "patternSyntax"),
            ("schema/properties/c/required/1", "type"),
            ("schema/items", "type"),
            ("schema/allOf/0/$ref", "refUnresolved"),
        }

    @pytest.mark.parametrize("name", _DIALECTS)
    def test_each_dialect(self, name: str) -> None:
        """A wrong limit is found in every dialect, however deep."""
        document = {"$schema": name, "properties": {"a": {"items": {"not": {"maxLength": "3"}}}}}
        assert found(document) == [("schema/properties/a/items/not/maxLength", "type")]

    @pytest.mark.parametrize("name", _OLD)
    def test_old_rules(self, name: str) -> None:
        """An old dialect has its own rules: required may be empty only since draft 6."""
        assert bool(found({"$schema": name, "required": []})) == (name == _OLD[0])

    def test_data_is_no_schema(self) -> None:
        """What looks like a schema inside data is data."""
        inner = {"type": "wrong", "pattern": "(?>a)", "$ref": "https://example.com", gate.PERMISSION: {}}
        document = {
            "const": inner,
            "enum": [inner],
            "default": inner,
            "examples": [inner],
            "x-more": {"inner": inner},
            "properties": {"pattern": {}, "$ref": {}, gate.PERMISSION: {}},
        }
        assert found(document) == []

    def test_reached_by_reference(self) -> None:
        """What only a reference makes a schema is judged as one, and named where it is."""
        document = {
            "components": {"a": {"type": "wrong", "properties": {"b": {"pattern": "(?>b)"}}}},
            "$ref": "#/components/a",
        }
        assert set(found(document)) == {
            ("schema/components/a/type", "anyOf"),
            ("schema/components/a/type", "enum"),
            ("schema/components/a/properties/b/pattern", "patternSyntax"),
        }

    def test_many(self) -> None:
        """At most 100 findings are listed, then that there are more."""
        findings = found({"properties": {f"p{number:04}": {"type": "x"} for number in range(1_000)}})
        assert len(findings) == 101
        assert findings[-1] == ("schema", "more")


class TestReferences:
    @pytest.mark.parametrize(
        "document",
        [
            {"$ref": "#"},
            {"$ref": ""},
            {"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {}}},
            {"$ref": "#/$defs/a/properties/0", "$defs": {"a": {"properties": {"0": {}}}}},
            {"$ref": "#/allOf/0", "allOf": [{}]},
            {"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}},
            {"$dynamicRef": "#name", "$defs": {"a": {"$dynamicAnchor": "name"}}},
            {"$id": "https://example.com/a", "$ref": "https://example.com/a#/$defs/b", "$defs": {"b": {}}},
            {"$id": "https://example.com/a", "$ref": "a#/$defs/b", "$defs": {"b": {}}},
            {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#b", "definitions": {"b": {"$id": "#b"}}},
            {"$schema": "http://json-schema.org/draft-04/schema#", "$ref": "#b", "definitions": {"b": {"id": "#b"}}},
            {"$schema": "http://json-schema.org/draft-07/schema#", "$dynamicRef": "https://example.com/ignored"},
            {"$schema": "https://json-schema.org/draft/2019-09/schema", "items": {"$recursiveRef": "#"}},
            {"$defs": {"a": {"$id": "https://example.com/a", "$ref": "#/$defs/b", "$defs": {"b": {}}}}},
            {"properties": {"next": {"$ref": "#"}}},
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "$id": "https://example.com/a.json#",
                "items": {"$ref": "https://example.com/a.json#/definitions/b"},
                "definitions": {"b": {"$id": "#/definitions/b"}},
            },
        ],
    )
    def test_inside(self, document: dict[str, Any]) -> None:
        """References to the document itself are taken, in every form."""
        assert found(document) == []

    @pytest.mark.parametrize(
        ("reference", "reason"),
        [
            ("https://example.com/other.json", "refRemote"),
            ("other.json#/a", "refRemote"),
            ("file:///etc/passwd", "refRemote"),
            ("http://[", "refRemote"),
            ("#/nope", "refUnresolved"),
            ("#/$defs/0", "refUnresolved"),
            ("#/enum/0", "refUnresolved"),
            ("#/enum/99999999999999999999", "refUnresolved"),
            ("#nope", "refUnresolved"),
            ("#/a b", "refUnresolved"),
            ("#/%zz", "refUnresolved"),
            ("#a b", "refSyntax"),
        ],
    )
    def test_refused(self, reference: str, reason: str) -> None:
        """References that leave the document, or lead nowhere, are refused where they stand."""
        document = {"enum": [1], "$defs": {"a": {}}, "properties": {"p": {"$ref": reference}}}
        assert found(document) == [("schema/properties/p/$ref", reason)]

    def test_dynamic_refused(self) -> None:
        """A dynamic reference needs its anchor in the document."""
        assert found({"items": {"$dynamicRef": "#nope"}}) == [("schema/items/$dynamicRef", "refUnresolved")]

    def test_recursive_refused(self) -> None:
        """A recursive reference can only be #."""
        document = {"$schema": "https://json-schema.org/draft/2019-09/schema", "items": {"$recursiveRef": "#a"}}
        assert found(document) == [("schema/items/$recursiveRef", "refUnresolved")]

    def test_long_identifier(self) -> None:
        """An identifier has a limit, for each reference is joined to it."""
        assert found({"$id": "https://example.com/" + "a" * 2_048}) == [("schema/$id", "maxLength")]


class TestPatterns:
    @pytest.mark.parametrize(
        "pattern",
        [
            "^.{1,200}$",
            r"^[\p{L} '-]{1,200}$",
            r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$",
            r"^\p{L}+([ '-]\p{L}+)*$",
            r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
            r"^([a-z][a-z0-9]{0,39})(\.[a-z][a-z0-9]{0,39})*$",
            r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$",
            r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "[0-9a-f]{64}",
            r"\bfoo\b",
            "(?i)^yes|no$",
            "^(Zürich|Genève|Neuchâtel|Bâle|Graubünden|Łódź|Málaga)$",
            r"^[\u0041-\u005a\x61]\/\cA$",
            "^$",
            "",
            "(?=a)b",
            "^(?!admin).{1,20}$",
            "(?<=a)b",
            "(?<!a)b",
            r"^(a)\1$",
            "x.{100}y",
            "^(.{0,50}x)*$",
            "(a|b)*a(a|b){20}",
            "a" * 20_000,
        ],
    )
    def test_taken(self, pattern: str) -> None:
        """What honest authors write is taken, and what may be slow too, as a pattern and for names of properties."""
        assert found({"pattern": pattern, "patternProperties": {pattern: {}}}) == []

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("(", "patternSyntax"),
            (")", "patternSyntax"),
            ("[a", "patternSyntax"),
            ("a\\", "patternSyntax"),
            ("a**", "patternSyntax"),
            ("a++", "patternSyntax"),
            ("(?x) a", "patternSyntax"),
            ("(?>a)", "patternSyntax"),
            (r"\Aa\z", "patternSyntax"),
            (r"\<a", "patternSyntax"),
            (r"\p{Nope}", "patternSyntax"),
            ("a{3,1}", "patternSyntax"),
            (r"(?<n>a)\k<n>", "patternSyntax"),
            ("(" * 300 + "a" + ")" * 300, "patternSyntax"),
            (r"^\p{L}{1,2000}$", "patternSize"),
            ("^.{1,100000}$", "patternSize"),
            ("(((a{1000}){1000}){1000}){1000}", "patternSize"),
            (r"(?=\p{L}{2000})", "patternSize"),
        ],
    )
    def test_refused(self, pattern: str, reason: str) -> None:
        """What is no pattern, or compiles to too much, is refused, also among names of properties."""
        assert found({"items": {"pattern": pattern}}) == [("schema/items/pattern", reason)]
        expected = [("schema/patternProperties/" + pattern.replace("~", "~0").replace("/", "~1"), reason)]
        assert found({"patternProperties": {pattern: {}}}) == expected

    def test_names_the_limit(self) -> None:
        """A refusal for size says the limit and what helps."""
        (violation,) = gate.check({"pattern": "^.{1,100000}$"}).violations
        assert "10485760 bytes" in violation.description
        assert "repeat less" in violation.description


_MARK = {gate.INDEX: True}


class TestOwnKeywords:
    def test_permission(self) -> None:
        """Field permissions are taken where they are well-formed; ``test_field_access.py`` tells the rest."""
        document = {"properties": {"a": {gate.PERMISSION: {"owner": "rw"}}}, gate.PERMISSION: {}}
        assert found(document) == []
        document["properties"]["a"][gate.PERMISSION] = {"owner": "all"}
        assert found(document) == [(f"schema/properties/a/{gate.PERMISSION}/owner", "permissionValue")]

    @pytest.mark.parametrize(
        ("keyword", "value", "reasons"),
        [
            (gate.UNIQUE, True, []),
            (gate.UNIQUE, False, []),
            (gate.UNIQUE, "yes", ["type"]),
            (gate.INDEX, True, []),
            (gate.INDEX, False, []),
            (gate.INDEX, 1, ["type"]),
            (gate.INDEX, None, ["type"]),
        ],
    )
    def test_unique_and_index(self, keyword: str, value: object, reasons: list[str]) -> None:
        """Both keywords are booleans."""
        document = {"properties": {"a": {keyword: value}}}
        assert found(document) == [(f"schema/properties/a/{keyword}", reason) for reason in reasons]

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            ({"$defs": {"a": {"propertyNames": {gate.INDEX: True}}}}, "indexPlace"),
            (
                {"properties": {"a": {"$dynamicRef": "#x"}}, "$defs": {"x": {**_MARK, "$dynamicAnchor": "x"}}},
                "indexDynamic",
            ),
            ({"properties": {str(number): _MARK for number in range(51)}}, "indexMany"),
            ({"properties": {"a" * 501: _MARK}}, "indexPath"),
            ({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"b": _MARK}}]}, "indexDepth"),
            (
                {
                    "$ref": "#/$defs/0",
                    "$defs": {
                        str(level): {"properties": {name: {"$ref": f"#/$defs/{level + 1}"} for name in "abcd"}}
                        for level in range(14)
                    }
                    | {"14": _MARK},
                },
                "indexSpread",
            ),
        ],
        ids=["silent", "dynamic", "many", "long", "endless", "spread"],
    )
    def test_marks_stand_where_places_are_few_and_known(self, document: dict[str, Any], reason: str) -> None:
        """What would make endlessly many paths, or names none, is refused, and soon."""
        assert {each[1] for each in found(document)} == {reason}

    def test_unknown_format(self) -> None:
        """A format that is not known is a warning, not a refusal."""
        document = {"properties": {"a": {"format": "color"}, "b": {"format": "uuid"}, "c": {"format": "phone"}}}
        assert found(document) == []
        assert warned(document) == [("schema/properties/a/format", "formatUnknown")]

    @pytest.mark.parametrize("name", ["urn:schema-user:indexed", "urn:zitadel:schema:permissions"])
    def test_a_misspelt_keyword_of_ours(self, name: str) -> None:
        """It is taken, as any other that nobody knows, and named."""
        document = {"properties": {"a": {name: True, "urn:schema-user:index": True, "urn:else": 1}}}
        assert found(document) == []
        assert warned(document) == [(f"schema/properties/a/{name}", "keywordUnknown")]


class TestHostile:
    @pytest.mark.parametrize("keyword", ["not", "items", "if", "contains", "unevaluatedItems"])
    def test_long_chain(self, keyword: str) -> None:
        """A chain of thousands of references ends no process."""
        chain = {f"a{number}": {keyword: {"$ref": f"#/$defs/a{number + 1}"}} for number in range(3_000)}
        gate.check({"$ref": "#/$defs/a0", "$defs": {**chain, "a3000": {}}})

    @pytest.mark.parametrize(
        "document",
        [
            {"properties": {"k" * 100_000: {"properties": {f"{number}": {"type": "x"} for number in range(5_000)}}}},
            {"dependencies": {f"{number}": 3 for number in range(15_000)}},
            {"required": list(range(30_000))},
            {"allOf": [{"type": "x"} for _ in range(15_000)]},
            {"$id": "a/" * 1_000, "allOf": [{"$ref": "../b"} for _ in range(3_000)]},
            {"x": {f"{n}": {"type": 3} for n in range(5_000)}, "allOf": [{"$ref": f"#/x/{n}"} for n in range(3_000)]},
        ],
        ids=["long-name", "dependencies", "required", "types", "identifier", "references"],
    )
    def test_many_errors(self, document: dict[str, Any]) -> None:
        """Documents made to have huge lists of errors get a short one."""
        findings = gate.check(document).violations
        assert 1 <= len(findings) <= 101
        assert sum(len(each.field) for each in findings) < 300_000
