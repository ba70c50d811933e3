r"""What is taken more freely than the engines read it, and that it means what its specification says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schema_user.domain.field_access import FieldRole
from schema_user.validation import gate
from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.bound import bound
from schema_user.validation.dialect import OLD, Dialect
from schema_user.validation.lenient import strict_document, strict_reference
from schema_user.validation.patterns import Refused, patterns_in, read
from schema_user.validation.permission_keyword import KEYWORD, compile_permissions
from schema_user.validation.python_patterns import translated
from schema_user.validation.rust import compile_schema

# Which texts match was read off V8, without the flag u, or with it where the pattern is right with it.
_MEANINGS = [
    ("a]", ["a]"], ["a"]),
    ("^}$", ["}"], ["]"]),
    ("x{", ["x{"], ["x"]),
    ("^{{x}}$", ["{{x}}"], ["{x}"]),
    (r"^\${.*?}$", ["${a}"], ["$a"]),
    (r"^\${{\s*if(.*?)\s*}}$", ["${{ if a }}"], ["${ if a }"]),
    ("^[a-z]{2}-[a-z]{2}]?$", ["en-gb]", "en-gb"], ["en-g"]),
    ("^x{1", ["x{1"], ["x"]),
    ("^x{,3}$", ["x{,3}"], ["xxx"]),
    ("^x{{2}$", ["x{{"], ["x{2}"]),
    ("^(?:{|})$", ["{", "}"], [""]),
    (r"\b{a}", ["x{a}"], ["{a}"]),
    (r"^[\w-_.]+$", ["a-_."], ["a/b"]),
    (r"^[\w-a-z]$", ["z", "-", "b"], ["%"]),
    (r"^[a-\d]$", ["a", "-", "5"], ["b"]),
    (r"^[\d--a]$", ["-", "a", "7"], ["Z", "b"]),
    (r"^[\d-a--\w]$", ["-", "a", "b"], ["."]),
    (r"^[^\s-x]$", ["y"], ["-", "x", " "]),
    (r"^[--\d]$", ["-", "3"], ["."]),
    ("[]", [], ["", "]"]),
    ("^[^]$", ["\n", "]"], [""]),
    ("^[]a]$", [], ["]", "a", ""]),
    ("^[^]a]$", ["\na]"], ["b"]),
    (r"^[\b]$", ["\b"], ["b"]),
    (r"^[\b-\d]$", ["\b", "-", "1"], ["\t"]),
    ("^[[-a&&~~]$", ["[", "&", "~", "]"], ["Z"]),
    (r"^[\]-a]{1}}$", ["]}", "a}"], ["b}"]),
]
_IDS = [pattern for pattern, _, _ in _MEANINGS]


def refused(document: dict[str, Any]) -> list[str]:
    """List why the gate refuses a document."""
    return [each.reason for each in gate.check(document).violations]


class TestPatterns:
    @pytest.mark.parametrize("dialect", list(Dialect))
    @pytest.mark.parametrize(("pattern", "matching", "others"), _MEANINGS, ids=_IDS)
    def test_meaning(self, pattern: str, matching: list[str], others: list[str], dialect: Dialect) -> None:
        """Such a pattern is taken in every dialect and matches what ECMA-262 says, as a value's and as a name's."""
        schema = {"$schema": dialect.uri, "patternProperties": {pattern: {"maximum": 0}}}
        schema |= {"properties": {"text": {"pattern": pattern}}}
        assert refused(schema) == []
        compiled = compile_schema(schema, dialect)
        assert [text for text in matching + others if compiled.is_valid({"text": text})] == matching
        assert [text for text in matching + others if not compiled.is_valid({text: 1})] == matching

    @pytest.mark.parametrize(("pattern", "matching", "others"), _MEANINGS, ids=_IDS)
    def test_the_other_engine_agrees(self, pattern: str, matching: list[str], others: list[str]) -> None:
        """The python validator matches the same; boundaries, and classes of nothing or with a bare [, it refuses."""
        if any(each in pattern for each in (r"\b{", "[]", "[[")):
            with pytest.raises(Refused):
                translated(pattern, 20)
            return
        searched = re.compile(translated(pattern, 20))
        assert [text for text in matching + others if searched.search(text)] == matching

    @pytest.mark.parametrize(("pattern", "matching", "others"), _MEANINGS, ids=_IDS)
    def test_permissions_agree(self, pattern: str, matching: list[str], others: list[str]) -> None:
        """A name's pattern gives permissions where it lets values through."""
        schema = {
            "patternProperties": {pattern: {KEYWORD: {"owner": "r"}}},
            "additionalProperties": {KEYWORD: {"self": "r"}},
        }
        assert refused(schema) == []
        permissions = compile_permissions(schema, Dialect.DRAFT_2020_12)
        assert permissions is not None
        assert list(permissions.of(FieldRole.OWNER).visible(dict.fromkeys(matching + others, 1))) == matching

    @pytest.mark.parametrize("pattern", _IDS)
    def test_written_once(self, pattern: str) -> None:
        """What is written anew stays as it is, and whoever reads patterns reads the new one."""
        assert strict_pattern(strict_pattern(pattern)) == strict_pattern(pattern)
        assert read(pattern) == read(strict_pattern(pattern))
        assert bound({"pattern": pattern}, Dialect.DRAFT_2020_12) == bound(
            {"pattern": strict_pattern(pattern)}, Dialect.DRAFT_2020_12
        )

    @pytest.mark.parametrize(
        "pattern",
        ["^[A-Z]{2}[0-9a-f.-]{3,}$", r"^\p{L}[\w.-]*\.\{x\}$", r"[\]\[-]", r"\u{1F600}{2}", "[[a&&b]", "[a-]"],
    )
    def test_left_alone(self, pattern: str) -> None:
        """What is right with the flag u is not touched."""
        assert strict_pattern(pattern) == pattern
        assert refused({"pattern": pattern}) == []

    @pytest.mark.parametrize(
        "pattern",
        [r"\p{L}{{", r"\p{L}[\w-.]", r"[\w-\u{41}]", "a|{2}", "(?:{2})", "a{2}{3}", r"\A", "[a", "x{\\", "[\\"],
    )
    def test_refused(self, pattern: str) -> None:
        """What is wrong with the flag and without, or would mean something else with it, is refused."""
        assert refused({"pattern": pattern}) == ["patternSyntax"]

    def test_only_where_it_is_a_keyword(self) -> None:
        """A value or a member that is called pattern is left alone."""
        schema = {
            "const": {"pattern": "a{", "patternProperties": {"a{": 1}},
            "properties": {"pattern": {"const": "x{"}, "patternProperties": {"pattern": "y{"}},
        }
        strict, _ = strict_document(schema, Dialect.DRAFT_2020_12, patterns_in(schema))
        assert strict["const"] == schema["const"]
        assert strict["properties"]["pattern"] == {"const": "x{"}
        assert strict["properties"]["patternProperties"] == {"pattern": r"y\{"}

    def test_shown_as_written(self) -> None:
        """Who is told of a pattern reads it as its author wrote it, also where one begins like another."""
        schema = {"properties": {"a": {"pattern": "^{"}, "b": {"pattern": "^{b"}, "c": {"enum": ["^{"]}}}
        found = compile_schema(schema, Dialect.DRAFT_7).violations({"a": "x", "b": "x"})
        assert [each.description for each in found] == ["must match the pattern ^{", "must match the pattern ^{b"]

    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_reference_through_a_name(self, dialect: Dialect) -> None:
        """A reference finds what stands under a pattern, however that is written."""
        schema = {
            "$schema": dialect.uri,
            "patternProperties": {"^{~/%41": {"items": {"type": "null"}}},
            "properties": {"a": {"$ref": "#/patternProperties/^{~0~1%2541/items"}, "b": {"pattern": "}"}},
        }
        assert refused(schema) == []
        compiled = compile_schema(schema, dialect)
        assert compiled.is_valid({"a": None, "{~/%41": []})
        assert not compiled.is_valid({"a": 1})

    def test_two_that_become_one(self) -> None:
        """Two patterns of names that mean the same, written in two ways, are refused and none is lost."""
        schema = {"patternProperties": {"a{": {"type": "null"}, r"a\{": {"type": "string"}}}
        assert refused(schema) != []


class TestReferences:
    @pytest.mark.parametrize("dialect", list(Dialect))
    @pytest.mark.parametrize(
        "name",
        ["Conditional<ValueDef>", "option export", "a|b", "{x?:string;[k]:y}", "100%", "é", '"\\^`', "a#b", "%zz"],
    )
    def test_signs_of_no_uri(self, name: str, dialect: Dialect) -> None:
        """A pointer with signs that should be percent-encoded leads to what it names."""
        schema = {
            "$schema": dialect.uri,
            "properties": {"a": {"$ref": f"#/definitions/{name}"}},
            "definitions": {name: {"type": "null"}},
        }
        assert refused(schema) == []
        compiled = compile_schema(schema, dialect)
        assert compiled.is_valid({"a": None})
        assert not compiled.is_valid({"a": 1})

    def test_encoded_already(self) -> None:
        """What is percent-encoded is not encoded twice, and what is no pointer stays."""
        for reference in ("#/a%20b/%7B", "#/$defs/a~1b(c)*!", "#anchor", "#", "other#a b"):
            assert strict_reference(reference) == reference

    def test_dangling(self) -> None:
        """A reference to nothing stays refused: JSON Schema says nothing of what it means."""
        assert refused({"not": {"$ref": "#/a b"}}) == ["refUnresolved"]


class TestIdentifiers:
    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_shared(self, dialect: Dialect) -> None:
        """Of two schemas with one identifier each has its own definitions."""
        keyword = dialect.id_keyword

        def with_own(kind: str) -> dict[str, Any]:
            return {
                keyword: "https://example.com/t",
                "properties": {"value": {"allOf": [{"$ref": "#/definitions/own"}]}},
                "definitions": {"own": {"type": kind}},
            }

        schema = {
            "$schema": dialect.uri,
            keyword: "https://example.com/root",
            "properties": {"a": with_own("string"), "b": with_own("null"), "c": with_own("number")},
        }
        assert refused(schema) == []
        compiled = compile_schema(schema, dialect)
        assert compiled.is_valid({"a": {"value": ""}, "b": {"value": None}, "c": {"value": 1}})
        for name, value in (("a", None), ("b", ""), ("c", None)):
            assert not compiled.is_valid({name: {"value": value}})

    @pytest.mark.parametrize("dialect", [each for each in Dialect if each not in OLD])
    def test_shared_with_the_root(self, dialect: Dialect) -> None:
        """A schema inside may have the identifier of the whole; each finds its own."""
        schema = {
            "$schema": dialect.uri,
            "$id": "https://example.com/t?x",
            "$defs": {"own": {"type": "string"}},
            "properties": {
                "a": {"$id": "https://example.com/t?x", "$ref": "#/$defs/own", "$defs": {"own": {"type": "null"}}},
                "b": {"$ref": "#/$defs/own"},
            },
        }
        assert refused(schema) == []
        compiled = compile_schema(schema, dialect)
        assert compiled.is_valid({"a": None, "b": ""})
        assert not compiled.is_valid({"a": ""})
        assert not compiled.is_valid({"b": None})


def test_nothing_to_do() -> None:
    """A document in which all is strict is not copied."""
    schema = {"$id": "urn:x", "pattern": "^a{2}$", "properties": {"a": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": {}}}
    assert strict_document(schema, Dialect.DRAFT_2020_12, patterns_in(schema)).document is schema
