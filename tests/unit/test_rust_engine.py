from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.validation import formats
from schema_user.validation.dialect import Dialect
from schema_user.validation.formats import FORMATS, is_phone
from schema_user.validation.rust import compile_schema

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLES = {
    "date": ("2026-02-28", "2026-02-30"),
    "date-time": ("2026-02-28T12:00:00Z", "2026-02-28 12:00"),
    "duration": ("P1DT12H", "1 day"),
    "email": ("a@example.com", "a@"),
    "hostname": ("example.com", "-example-"),
    "idn-email": ("实例@example.com", "实例"),
    "idn-hostname": ("实例.com", "〮한국"),
    "ipv4": ("192.0.2.1", "192.0.2.256"),
    "ipv6": ("2001:db8::1", "2001:db8:::1"),
    "iri": ("https://ƒøø.example/", "ƒøø"),
    "iri-reference": ("/ƒøø", "\\\\ƒøø"),
    "json-pointer": ("/a~1b", "/a~2b"),
    "phone": ("+41 44 668 18 00", "044 668 18 00"),
    "regex": ("^[a-z]+$", "^(abc]"),
    "relative-json-pointer": ("1/a", "/a"),
    "time": ("12:00:00Z", "25:00:00Z"),
    "uri": ("https://example.com/a", "//example.com/a b"),
    "uri-reference": ("/a", "\\\\a"),
    "uri-template": ("https://example.com/{user}", "https://example.com/{user"),
    "uuid": ("2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2eb8aa08-aa98-11ea-b4aa"),
}


def reasons(document: dict[str, Any], data: Any, dialect: str = "2020-12") -> list[str]:
    """List why a document doesn't fit a schema."""
    return [each.reason for each in compile_schema(document, dialect).violations(data)]


class TestFormats:
    def test_each_has_samples(self) -> None:
        """The samples below are of exactly the formats that are asserted."""
        assert set(_SAMPLES) == FORMATS

    @pytest.mark.parametrize("dialect", list(Dialect))
    @pytest.mark.parametrize("name", sorted(_SAMPLES))
    def test_asserted_in_every_dialect(self, name: str, dialect: Dialect) -> None:
        """Each format is asserted in each dialect, of texts only."""
        good, bad = _SAMPLES[name]
        schema = {"format": name}
        assert reasons(schema, good, dialect) == []
        assert reasons(schema, bad, dialect) == ["format"]
        assert reasons(schema, 12, dialect) == []

    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_unknown(self, dialect: Dialect) -> None:
        """A format that is not known asserts nothing."""
        assert reasons({"format": "color"}, "no colour", dialect) == []

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("+41791234567", True),
            ("+1 (650) 253-0000", True),
            ("+49.30.123456", True),
            ("+41 79", False),
            ("0791234567", False),
            ("41791234567", False),
            ("+999123456789", False),
            ("+41791234567;ext=5", False),
            ("+٤١٧٩١٢٣٤٥٦٧", False),
            ("+", False),
            ("", False),
            ("+" + "1" * 100_000, False),
            ("tel:+41791234567", False),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_phone(self, value: str, *, expected: bool) -> None:
        """A phone number has its leading + and a length that its country knows."""
        assert is_phone(value) is expected

    def test_never_raises(self) -> None:
        """A lent format answers no to what is no text, rather than failing."""
        assert not formats.checkers(Dialect.DRAFT_4)["uuid"]("\ud800")


class TestDialects:
    @pytest.mark.parametrize(
        ("dialect", "schema", "data", "expected"),
        [
            ("draft-04", {"maximum": 3, "exclusiveMaximum": True}, 3, ["exclusiveMaximum"]),
            ("draft-04", {"const": 1}, 2, []),
            ("draft-06", {"const": 1}, 2, ["const"]),
            ("draft-06", {"if": True, "then": False}, 2, []),
            ("draft-07", {"if": True, "then": False}, 2, ["falseSchema"]),
            ("draft-07", {"$ref": "#/definitions/a", "type": "string", "definitions": {"a": {}}}, 2, []),
            ("draft-07", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, []),
            ("2019-09", {"$ref": "#/$defs/a", "type": "string", "$defs": {"a": {}}}, 2, ["type"]),
            ("2019-09", {"items": [{"type": "string"}]}, [2], ["type"]),
            ("2020-12", {"prefixItems": [{"type": "string"}]}, [2], ["type"]),
            ("2020-12", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, ["required"]),
        ],
    )
    def test_keywords(self, dialect: str, schema: dict[str, Any], data: Any, expected: list[str]) -> None:
        """Each dialect has its own keywords, whatever the document's spelling of its name."""
        assert reasons(schema, data, dialect) == expected
        assert reasons({"$schema": "urn:any", **schema}, data, dialect) == expected

    def test_identifier_with_empty_fragment(self) -> None:
        """An identifier that ends in # is the same as one that doesn't."""
        schema = {"$id": "https://example.com/a#", "items": {"$ref": "a#/definitions/b"}, "definitions": {"b": False}}
        assert reasons(schema, [1], "draft-07") == ["falseSchema"]


_SLOW = "^(?=a)(a|a|b)*(?=c)c$"


class TestSafety:
    def test_nothing_fetched(self, tmp_path: Path) -> None:
        """A reference to elsewhere fetches neither over the network nor from the disk: it is an error."""
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
        (tmp_path / "a.json").write_text("{}")
        try:
            for uri in (f"http://127.0.0.1:{server.server_port}/a.json", (tmp_path / "a.json").as_uri()):
                with pytest.raises(ValueError, match="disabled"):
                    compile_schema({"$ref": uri}, "draft-07")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        assert asked == []

    @pytest.mark.parametrize("pattern", [r"\p{L}{2000}", r"(?=\p{L}{2000})"])
    def test_size_of_patterns(self, pattern: str) -> None:
        """Both engines for patterns have a limit of what one compiles to, gate or no gate."""
        with pytest.raises(ValueError, match="regex"):
            compile_schema({"pattern": pattern}, "2020-12")

    @pytest.mark.parametrize(
        ("pattern", "good", "bad"),
        [
            ("^(?!admin$)[a-z]+$", "administrator", "admin"),
            ("^(?=.*[0-9])(?=.*[a-z]).{8,}$", "abcdefg1", "abcdefgh"),
            ("(?<=a)b", "ab", "cb"),
            ("(?<!a)b", "cb", "ab"),
            (r"^(['\"]).*\1$", "'a'", "'a\""),
            (r"^(?!\bfoo\b)\p{L}+ \d$", "bar 1", "foo 1"),
        ],
        ids=["ahead", "several", "behind", "not-behind", "back-reference", "mixed"],
    )
    def test_look_around(self, pattern: str, good: str, bad: str) -> None:
        """Patterns that look around or refer back are matched as ECMA-262 says."""
        assert (reasons({"pattern": pattern}, good), reasons({"pattern": pattern}, bad)) == ([], ["pattern"])

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"a": {"pattern": _SLOW}}},
            {"properties": {"a": {"not": {"pattern": _SLOW}}}},
            {"properties": {"a": {"if": {"pattern": _SLOW}, "then": False}}},
            {"properties": {"a": {"oneOf": [{"pattern": _SLOW}, {"type": "string"}]}}},
            {"additionalProperties": {"contains": {"pattern": _SLOW}, "minContains": 0, "maxContains": 0}},
        ],
        ids=["plain", "not", "if", "oneOf", "contains"],
    )
    def test_backtracking_is_bounded(self, schema: dict[str, Any]) -> None:
        """A text for which a pattern gives up makes the document invalid, wherever the pattern stands."""
        text = "a" * 5_000
        data = {"b": [text]} if "additionalProperties" in schema else {"a": text}
        assert not compile_schema(schema, "2020-12").is_valid(data)

    def test_linear_time(self) -> None:
        """A pattern that ruins a backtracking engine is matched at once."""
        assert reasons({"pattern": "^(a+)+$"}, "a" * 100_000 + "!") == ["pattern"]

    @pytest.mark.parametrize(
        ("data", "field"),
        [
            ({"a": ["x", "\ud800"]}, "data/a/1"),
            ({"a": {"\udfff": 1}}, "data/a"),
            ("\ud800", "data"),
        ],
        ids=["value", "name", "whole"],
    )
    def test_surrogates(self, data: Any, field: str) -> None:
        """A lone surrogate that the engine comes upon is a violation with its pointer, not a failure."""
        inner = {"items": {"pattern": "^x"}, "propertyNames": {"pattern": "^x"}}
        schema = {"pattern": "^x", "properties": {"a": inner}}
        violations = compile_schema(schema, "2020-12").violations(data)
        assert [(each.field, each.reason) for each in violations] == [(field, "surrogate")]
        "".join(each.field for each in violations).encode()

    def test_exact_numbers(self) -> None:
        """Decimals and large integers are compared as they are written."""
        assert reasons({"multipleOf": 0.01}, 19.01) == []
        assert reasons({"maximum": 2**70}, 2**70 + 1) == ["maximum"]

    def test_writes_nothing(self) -> None:
        """Neither the schema nor the data is changed."""
        schema = {"properties": {"a": {"default": 1}}}
        data: dict[str, Any] = {}
        assert reasons(schema, data) == []
        assert (schema, data) == ({"properties": {"a": {"default": 1}}}, {})


class TestSize:
    def test_grows(self) -> None:
        """The estimate counts the schema and what its patterns compile to."""
        small = compile_schema({}, "2020-12").size
        wide = compile_schema({"properties": {f"p{n}": {"type": "string"} for n in range(500)}}, "2020-12").size
        name = r"^[\p{L} '-]{1,200}$"
        heavy = compile_schema({"properties": {"a": {"pattern": name}, "b": {"pattern": name}}}, "2020-12").size
        assert small < 50_000 < wide < 1_000_000
        assert 8_000_000 < heavy < 20_000_000
