from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.validation import engines, gate
from schema_user.validation.dialect import Dialect
from schema_user.validation.engines import ENGINES, engine_named
from schema_user.validation.formats import FORMATS
from schema_user.validation.patterns import Refused
from schema_user.validation.python import PYTHON
from schema_user.validation.python_patterns import MAX_CHARACTERS, translated
from schema_user.validation.rust import RUST

if TYPE_CHECKING:
    from schema_user.errors import Violation

_DRAFT_7 = Dialect.DRAFT_7


def violations(document: dict[str, Any], data: Any, dialect: Dialect = _DRAFT_7) -> list[Violation]:
    """List what is wrong, once both engines say the same, word for word."""
    listed = PYTHON.compile(document, dialect).violations(data)
    assert listed == RUST.compile(document, dialect).violations(data)
    assert PYTHON.compile(document, dialect).is_valid(data) is not bool(listed)
    return listed


def reasons(document: dict[str, Any], data: Any, dialect: Dialect = _DRAFT_7) -> list[str]:
    """List why a document doesn't fit a schema."""
    return [each.reason for each in violations(document, data, dialect)]


def refused(document: dict[str, Any], dialect: Dialect = _DRAFT_7) -> list[tuple[str, str]]:
    """List where the engine refuses a document that the gate takes, and why."""
    whole = {"$schema": dialect.uri, **document}
    assert gate.check(whole).violations == ()
    found = gate.check(whole, engine=PYTHON).violations
    return [(each.field, each.reason) for each in found]


class TestNames:
    @pytest.mark.parametrize("name", ENGINES)
    def test_by_name(self, name: str) -> None:
        """Each engine is found by its name."""
        assert engine_named(name).name == name

    def test_unknown(self) -> None:
        """Another name is an error that lists those there are."""
        with pytest.raises(ValueError, match="rust, python"):
            engine_named("os")

    def test_missing_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without its libraries, the text says which extra to install."""
        monkeypatch.delitem(sys.modules, "schema_user.validation.python")
        monkeypatch.setitem(sys.modules, "fastjsonschema", None)
        monkeypatch.setattr(engines, "import_module", _import_anew)
        with pytest.raises(ModuleNotFoundError, match=r"schema-user\[python-validator\]"):
            engine_named("python")


def _import_anew(name: str) -> None:
    raise ModuleNotFoundError(f"import of fastjsonschema halted by {name}", name="fastjsonschema")


class TestDialects:
    @pytest.mark.parametrize("dialect", [Dialect.DRAFT_2019_09, Dialect.DRAFT_2020_12])
    def test_later(self, dialect: Dialect) -> None:
        """Dialects of which both libraries ignore keywords in silence are refused."""
        assert refused({"prefixItems": [{"type": "string"}]}, dialect) == [("schema/$schema", "dialect")]
        with pytest.raises(Refused, match="draft-07"):
            PYTHON.compile({}, dialect)

    @pytest.mark.parametrize(
        ("dialect", "schema", "data", "expected"),
        [
            (Dialect.DRAFT_4, {"maximum": 3, "exclusiveMaximum": True}, 3, ["exclusiveMaximum"]),
            (Dialect.DRAFT_4, {"minimum": 3, "exclusiveMinimum": False}, 3, []),
            (Dialect.DRAFT_4, {"const": 1}, 2, []),
            (Dialect.DRAFT_4, {"type": "integer"}, 1.0, ["type"]),
            (Dialect.DRAFT_6, {"type": "integer"}, 1.0, []),
            (Dialect.DRAFT_6, {"const": 1}, 2, ["const"]),
            (Dialect.DRAFT_6, {"if": True, "then": False}, 2, []),
            (Dialect.DRAFT_7, {"if": True, "then": False}, 2, ["falseSchema"]),
            (Dialect.DRAFT_7, {"dependentRequired": {"a": ["b"]}, "minContains": 2}, {"a": 1}, []),
            (Dialect.DRAFT_7, {"$ref": "#/definitions/a", "type": "null", "definitions": {"a": {}}}, 2, []),
        ],
    )
    def test_keywords(self, dialect: Dialect, schema: dict[str, Any], data: Any, expected: list[str]) -> None:
        """Each dialect has its own keywords."""
        assert reasons(schema, data, dialect) == expected

    @pytest.mark.parametrize("dialect", sorted(PYTHON.dialects))
    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_formats(self, name: str, dialect: Dialect) -> None:
        """Each format is asserted in each dialect as the engine rust does."""
        assert reasons({"format": name}, "\\ {", dialect) == ["format"]
        assert reasons({"format": name}, 12, dialect) == []

    @pytest.mark.parametrize("dialect", [Dialect.DRAFT_6, Dialect.DRAFT_7])
    def test_contents(self, dialect: Dialect) -> None:
        """Encodings and media types are asserted as the engine rust does."""
        both = {"contentEncoding": "base64", "contentMediaType": "application/json"}
        assert reasons(both, "e30=", dialect) == []
        assert reasons(both, "e30", dialect) == ["contentEncoding"]
        assert reasons(both, "ew==", dialect) == ["contentMediaType"]
        assert reasons({"contentMediaType": "application/json"}, "{", dialect) == ["contentMediaType"]


class TestWhereTheLibrariesErr:
    @pytest.mark.parametrize(
        ("one", "other"), [("a-b", "a_b"), ("Foo", "foo"), ("a/b", "a~b"), ("a.b", "a b"), ("é", "à"), ("x", "x_")]
    )
    def test_names_that_collide(self, one: str, other: str) -> None:
        """Definitions whose names differ only in signs or case stay two."""
        escaped = [each.replace("~", "~0").replace("/", "~1").replace(" ", "%20") for each in (one, other)]
        schema = {
            "definitions": {one: {"type": "string"}, other: {"type": "integer"}},
            "properties": {
                "p": {"$ref": f"#/definitions/{escaped[0].replace('é', '%C3%A9')}"},
                "q": {"$ref": f"#/definitions/{escaped[1].replace('à', '%C3%A0')}"},
            },
        }
        assert reasons(schema, {"p": "a", "q": 1}) == []
        assert reasons(schema, {"p": 1, "q": 1}) == ["type"]
        assert reasons(schema, {"p": "a", "q": "a"}) == ["type"]

    def test_properties_that_collide(self) -> None:
        """So do properties, with names that are signs of Python or of its formats."""
        names = ["a-b", "a_b", "{a}", "{data.__class__}", 'a"\\', "a\n", "def", "é", "len", "keys", "missing"]
        inner = {"properties": {name: {"items": {"type": "null"}, "minItems": 1} for name in names}}
        schema = {"properties": {name: inner for name in names}, "required": names}  # noqa: C420 -- shared on purpose
        good = {name: {name: [None] for name in names} for name in names}
        assert reasons(schema, good) == []
        for name in names:
            assert reasons(schema, {**good, name: {name: [1]}}) == ["type"]
            assert reasons(schema, {**good, name: {name: []}}) == ["minItems"]

    @pytest.mark.parametrize("levels", [20, 50])
    def test_deep_schemas(self, levels: int) -> None:
        """Schemas may be nested deeper than Python's blocks."""
        schema: dict[str, Any] = {"type": "null"}
        data: Any = 1
        for _ in range(levels):
            schema, data = {"items": schema}, [data]
        assert reasons(schema, data) == ["type"]

    @pytest.mark.parametrize(
        ("schema", "data", "valid"),
        [
            ({"multipleOf": 0.01}, 19.01, True),
            ({"multipleOf": 0.01}, 19.015, False),
            ({"multipleOf": 2}, 2**63 + 1, False),
            ({"multipleOf": 3}, 1e300, False),
            ({"maximum": 2**60}, 2**60 + 1, False),
            ({"const": 2**53}, float(2**53), True),
            ({"const": 2**53}, 2**53 + 1, False),
            ({"const": 1}, 1.0, True),
            ({"const": 1}, True, False),
            ({"const": False}, 0, False),
            ({"enum": [[1, {"a": True}]]}, [1.0, {"a": True}], True),
            ({"enum": [[1, {"a": True}]]}, [1, {"a": 1}], False),
            ({"type": "integer"}, True, False),
            ({"minimum": 5}, True, True),
            ({"uniqueItems": True}, [1, 1.0], False),
            ({"uniqueItems": True}, [1, True, 0, False, None], True),
            ({"uniqueItems": True}, [[1], [True], [1]], False),
            ({"uniqueItems": True}, [True, ["b", 1], ["b", True]], True),
            ({"uniqueItems": True, "multipleOf": 2}, [[1], [True], [1]], False),
            ({"pattern": "^a$"}, "a\n", False),
            ({"pattern": "^\\d$"}, "\u0663", False),
            ({"pattern": "^\\w$"}, "é", False),
            ({"pattern": "^\\s$"}, "\ufeff", True),
            ({"pattern": "^\\s$"}, "\x1f", False),
            ({"pattern": "[$]"}, "a$b", True),
            ({"required": ["a"], "additionalProperties": False}, {}, False),
            ({"required": ["a"], "additionalProperties": False}, {"a": 1}, False),
            ({"const": 1, "enum": [1, 2]}, 2, False),
            ({"minLength": 2}, "\U0001f600", False),
        ],
        ids=repr,
    )
    def test_exact(self, schema: dict[str, Any], data: Any, valid: bool) -> None:
        """Numbers, equality and patterns are judged as the specification has it, also below other keywords."""
        assert bool(violations(schema, data)) is not valid
        assert bool(violations({"anyOf": [{"items": schema, "maxItems": 1}, {"type": "null"}]}, [data])) is not valid
        assert bool(violations({"properties": {"p": {"allOf": [schema]}}}, {"p": data})) is not valid

    def test_places_of_false(self) -> None:
        """A schema of false is reported where it applies."""
        schema = {"properties": {"a": False}, "items": [True, False], "anyOf": [{"type": "array"}, {"not": False}]}
        assert [each.field for each in violations(schema, {"a": 1})] == ["data/a"]
        assert [each.field for each in violations(schema, [1, 2])] == ["data/1"]


class TestSafety:
    def test_nothing_fetched(self) -> None:
        """Neither a reference nor what only looks like one leads to a request."""
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        away = {"$ref": f"http://127.0.0.1:{server.server_port}/a.json", "$id": "http://127.0.0.1:1/b", "id": "c"}
        try:
            for schema in (
                {"const": away},
                {"const": {"a": [away]}, "default": away, "examples": [away]},
                {"enum": [away, {"a": away}]},
                {"properties": {"$ref": {"const": away}, "$id": {"type": "string"}}},
                {"unknown": away, "definitions": {"a": {"default": away}}},
            ):
                assert refused(schema) == []
                violations(schema, away)
                violations(schema, {"a": 1})
            assert reasons({"const": away}, dict(away)) == []
            assert gate.check({"$schema": _DRAFT_7.uri, "$ref": away["$ref"]}, engine=PYTHON).violations
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        assert asked == []

    def test_writes_nothing(self) -> None:
        """Neither the schema nor the data is changed, whatever has a default."""
        schema = {
            "$id": "https://example.com/a",
            "properties": {"a": {"default": 1}, "b": {"$ref": "#/definitions/c"}},
            "items": [{"default": 2}],
            "definitions": {"c": {"default": 3}},
        }
        before = json.dumps(schema)
        data: dict[str, Any] | list[Any]
        for data in ({}, []):
            assert violations(schema, data) == []
            assert not data
        assert json.dumps(schema) == before

    @pytest.mark.parametrize(
        ("schema", "expected"),
        [
            ({"$ref": "#"}, ("schema", "refCircle")),
            (
                {"not": {"$ref": "#/definitions/a"}, "definitions": {"a": {"allOf": [{"$ref": "#"}]}}},
                ("schema", "refCircle"),
            ),
            ({"properties": {"a": {"pattern": "^(a+)+$"}}}, ("schema/properties/a/pattern", "patternCost")),
            ({"patternProperties": {"a.*b": {}}}, ("schema/patternProperties/a.*b", "patternCost")),
            ({"pattern": "\\p{L}"}, ("schema/pattern", "patternUnsupported")),
            ({"pattern": "\\ba"}, ("schema/pattern", "patternUnsupported")),
        ],
    )
    def test_refused(self, schema: dict[str, Any], expected: tuple[str, str]) -> None:
        """What it would judge otherwise, or without bounds, is refused with its pointer."""
        assert expected in refused(schema)

    @pytest.mark.parametrize(("length", "expected"), [(63, []), (64, [("schema", "refChain")])])
    def test_chains(self, length: int, expected: list[tuple[str, str]]) -> None:
        """References in a row are taken as long as Python's stack has room for them on each level of a document."""
        links: dict[str, Any] = {f"a{n}": {"$ref": f"#/definitions/a{n + 1}"} for n in range(1, length)}
        links[f"a{length}"] = {"properties": {"a": {"$ref": "#/definitions/a1"}}}
        schema = {"properties": {"a": {"$ref": "#/definitions/a1"}}, "definitions": links}
        assert [(field.partition("/")[0], reason) for field, reason in refused(schema)] == expected

    def test_too_deep(self) -> None:
        """A document that is too deep for the stack is not valid, and it is not told where."""
        links: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/definitions/a{n + 1}"}]} for n in range(30)}
        links["a30"] = {"properties": {"a": {"$ref": "#/definitions/a0"}}}
        compiled = PYTHON.compile({"$ref": "#/definitions/a0", "definitions": links}, _DRAFT_7)
        data: dict[str, Any] = {}
        for _ in range(63):
            data = {"a": data}
        assert not compiled.is_valid(data)
        assert [each.reason for each in compiled.violations(data)] == ["schema"]
        assert compiled.is_valid({"a": {}})

    def test_surrogates(self) -> None:
        """A lone surrogate in a document that is not valid is named."""
        compiled = PYTHON.compile({"items": {"format": "date"}}, _DRAFT_7)
        assert [(each.field, each.reason) for each in compiled.violations(["\ud800"])] == [("data/0", "surrogate")]

    def test_at_most_100(self) -> None:
        """Of very many violations 100 are listed, and one counts the others."""
        listed = PYTHON.compile({"items": {"type": "string"}}, _DRAFT_7).violations([1] * 5000)
        assert len(listed) == 101
        assert (listed[-1].field, listed[-1].reason) == ("data", "more")

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"x" * 60_000: {"properties": {f"a{n}": {"minLength": 1} for n in range(400)}}}},
            {"dependencies": {"k" * 50_000: [f"a{n}" for n in range(10_000)]}},
            {"const": {"k" * 10_000: {"k" * 10_000: list(range(10_000))}}},
            {"enum": list(range(30_000))},
            {"properties": {f"p{n}": {"type": "string"} for n in range(5_000)}},
        ],
        ids=["long name", "long dependency", "deep constant", "wide enum", "wide object"],
    )
    def test_bounded_code(self, schema: dict[str, Any]) -> None:
        """No schema makes megabytes of code: it compiles in a moment."""
        begun = time.process_time()
        assert violations(schema, {"a": 1}) == violations(schema, {"a": 1})
        assert time.process_time() - begun < 10


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "good", "bad"),
        [
            ("^a$", "a", "a\n"),
            ("^[a-z]+(-[a-z]+)*$", "ab-c", "ab-"),
            ("^[a-z][a-z0-9-]{0,61}[a-z0-9]$", "a-1", "a-"),
            ("^(AF|AX|AL|DZ)$", "AX", "AZ"),
            ("[0-9]{3}-[0-9]{4}", "x123-4567y", "123-456"),
            ("\\d+", "a1", "\u0663"),
            ("^.$", "\u2028", "\n"),
            ("a|^b", "xa", "xb"),
            ("^[\\w.-]+$", "a.b-c", "é"),
            ("^(?<year>\\d{4})(?:-\\d{2})?$", "2026-01", "2026-1"),
            ("^\\x41\\u0042\\u{43}\\/[\\]\\\\]$", "ABC/]", "ABC/"),
            ("^\\S+$", "é", "a\u00a0"),
            ("^$", "", "\n"),
        ],
    )
    def test_taken(self, pattern: str, good: str, bad: str) -> None:
        """Honest patterns are taken, with the meaning of ECMA-262."""
        assert reasons({"pattern": pattern}, good) == []
        assert reasons({"pattern": pattern}, bad) == ["pattern"]

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("^(a+)+$", "patternCost"),
            ("^(a|ab)*$", "patternCost"),
            ("^(a|a)*$", "patternCost"),
            ("^\\d+\\d+$", "patternCost"),
            ("^.*.*x$", "patternCost"),
            ("^" + "(|)" * 100 + "$", "patternCost"),
            ("^" + "a?" * 30 + "a" * 30, "patternCost"),
            ("^(a?){50}$", "patternCost"),
            ("a+b", "patternCost"),
            ("(x+)y", "patternCost"),
            ("a++", "patternUnsupported"),
            ("(?i)a", "patternUnsupported"),
            ("(?=a)", "patternUnsupported"),
            ("(a)\\1", "patternUnsupported"),
            ("\\Aa\\Z", "patternUnsupported"),
            ("[a[b]]", "patternUnsupported"),
            ("[]", "patternUnsupported"),
            ("[^\\s\\S]", "patternUnsupported"),
            ("[b-a]", "patternSyntax"),
            ("(a", "patternSyntax"),
            ("a)", "patternUnsupported"),
            ("a\\", "patternSyntax"),
            ("[a", "patternSyntax"),
            ("\\ud83d\\ude00", "patternUnsupported"),
            ("a" * (MAX_CHARACTERS + 1), "patternSize"),
            ("(" * 30 + ")" * 30, "patternCost"),
            ("a{20000}", "patternCost"),
            ("^*", "patternUnsupported"),
        ],
        ids=lambda value: value[:20],
    )
    def test_refused(self, pattern: str, reason: str) -> None:
        """What could go back and forth, or means something else to Python, is refused."""
        with pytest.raises(Refused) as caught:
            translated(pattern)
        assert caught.value.reason == reason

    def test_bounded_by_length(self) -> None:
        """A pattern that may go back is taken where maxLength bounds the text; the verdict is the same."""
        pattern = "^[a-z.]+@[a-z.-]+\\.[a-z]{2,}$"
        assert refused({"pattern": pattern}) == [("schema/pattern", "patternCost")]
        schema = {"pattern": pattern, "maxLength": 254}
        assert refused(schema) == []
        assert reasons(schema, "ann.b@c.d-e.org") == []
        assert reasons(schema, "ann.b@c.d-e.o") == ["pattern"]
        compiled = PYTHON.compile(schema, _DRAFT_7)
        begun = time.process_time()
        assert not compiled.is_valid("a@" + "a." * 500_000 + "!")
        assert compiled.violations("a@" + "a." * 500_000 + "!")
        assert time.process_time() - begun < 5
