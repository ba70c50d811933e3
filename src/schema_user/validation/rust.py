"""The engine jsonschema-rs: fast, complete, and linear in patterns; never fetches anything.

``is_valid`` comes first: listing errors costs far more, and is asked only for a document that is not valid. Both hold
the interpreter's lock for the whole call.

A pattern that looks around or refers back has its schema compiled with the backtracking engine, which gives up after
``BACKTRACK_LIMIT`` steps for a text (the slowest pattern found takes 4 ms for them); the document is then not valid,
also where the pattern stands under ``not`` or ``if``. Other patterns are linear in the text with either engine.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs

from schema_user.errors import Violation
from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.dialect import Dialect
from schema_user.validation.lenient import strict_document
from schema_user.validation.patterns import MAX_BYTES, Refused, patterns_in, read, summed
from schema_user.validation.violations import describe, pointer, unencodable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CLASSES: Final[Mapping[Dialect, type[jsonschema_rs.Validator]]] = {
    Dialect.DRAFT_4: jsonschema_rs.Draft4Validator,
    Dialect.DRAFT_6: jsonschema_rs.Draft6Validator,
    Dialect.DRAFT_7: jsonschema_rs.Draft7Validator,
    Dialect.DRAFT_2019_09: jsonschema_rs.Draft201909Validator,
    Dialect.DRAFT_2020_12: jsonschema_rs.Draft202012Validator,
}
BACKTRACK_LIMIT: Final = 1_000
_LOOK_UP_BYTES: Final = 2 * 1024 * 1024
_LINEAR: Final = jsonschema_rs.RegexOptions(size_limit=MAX_BYTES, dfa_size_limit=_LOOK_UP_BYTES)
_BACKTRACKING: Final = jsonschema_rs.FancyRegexOptions(
    backtrack_limit=BACKTRACK_LIMIT, size_limit=MAX_BYTES, dfa_size_limit=_LOOK_UP_BYTES
)
_BASE_BYTES: Final = 20_000
_BYTES_FOR_EACH: Final = 20
"""Bytes held for each of the schema's: 15 on average over 453 published schemas, beside their patterns."""


class RustValidator:
    """One compiled schema.

    ``size`` estimates the bytes that it holds; ``patterns`` are those of its author, by those that the engine got.
    """

    __slots__ = ("_compiled", "_patterns", "size")

    def __init__(self, compiled: jsonschema_rs.Validator, size: int, patterns: Mapping[str, str]) -> None:
        self._compiled = compiled
        self._patterns = patterns
        self.size = size

    def is_valid(self, data: Any) -> bool:
        """Tell whether a document is valid; what is no JSON is not."""
        try:
            return self._compiled.is_valid(data)
        except ValueError:  # a lone surrogate, a key that is no text, nesting beyond the engine's limit
            return False

    def violations(self, data: Any, prefix: str = "data") -> list[Violation]:
        """List what is wrong with a document: at most 100, then how many more; empty if it is valid."""
        try:
            if self._compiled.is_valid(data):
                return []
            found = describe(self._compiled.iter_errors(data), data, prefix)
            return [self._as_written(each) for each in found] if self._patterns else found
        except ValueError:
            return unencodable(data, prefix)

    def _as_written(self, violation: Violation) -> Violation:
        """Show a pattern as its author wrote it."""
        text = violation.description
        for strict in sorted(self._patterns, key=len, reverse=True):  # one may be the beginning of another
            text = text.replace(f"the pattern {strict}", f"the pattern {self._patterns[strict]}")
        return Violation(violation.field, text, violation.reason)


class RustEngine:
    """The engine as the gate and the workers know it."""

    name = "rust"
    dialects = frozenset(Dialect)

    def refusals(self, document: dict[str, Any], dialect: Dialect) -> list[Violation]:
        """Compile it: the engine itself has the last word."""
        try:
            compile_schema(document, dialect)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever the engine refuses is a finding, never a failure of ours
            path = getattr(error, "instance_path", [])
            if path[-1:] == ["pattern"] or path[-2:-1] == ["patternProperties"]:
                return [Violation(pointer("schema", path), "is no regular expression of ECMA-262", "patternSyntax")]
            return [Violation(pointer("schema", path), "is not taken by the validator", "compile")]
        return []

    def compile(self, document: dict[str, Any], dialect: Dialect) -> RustValidator:
        """Compile a schema that has passed the gate."""
        return compile_schema(document, dialect)


RUST: Final = RustEngine()


def compile_schema(document: Mapping[str, Any], dialect: str, *, quick: bool = False) -> RustValidator:
    """Compile a schema that has passed the gate; ``quick`` says no where a format takes long (``formats.py``).

    Raises:
        ValueError, jsonschema_rs.ReferencingError: if the engine doesn't take it.
    """
    from schema_user.validation.formats import checkers  # noqa: PLC0415 -- takes longer than a worker may to start

    known = Dialect(dialect)
    all_patterns = patterns_in(document)
    document, written = strict_document(document, known, all_patterns)
    adapted = {**document, "$schema": known.uri}
    identifier = document.get(known.id_keyword)
    if isinstance(identifier, str) and identifier.endswith("#"):
        adapted[known.id_keyword] = identifier.removesuffix("#")
    patterns = summed(all_patterns)
    compiled = _CLASSES[known](
        adapted,
        offline=True,
        validate_formats=True,
        formats=dict(checkers(known, quick=quick)),
        pattern_options=_BACKTRACKING if patterns.backtracks else _LINEAR,
    )
    size = _BASE_BYTES + _BYTES_FOR_EACH * len(json.dumps(document)) + patterns.size
    return RustValidator(compiled, size, written)


def pattern_refusal(pattern: str) -> Refused | None:
    """Say why a pattern is not taken, or None."""
    try:
        size, backtracks = read(pattern)
    except Refused as refused:
        return refused
    options = _BACKTRACKING if backtracks else _LINEAR
    try:
        jsonschema_rs.Draft202012Validator({"pattern": strict_pattern(pattern)}, offline=True, pattern_options=options)
    except ValueError:
        if size > MAX_BYTES / 2:
            return Refused("patternSize", f"compiles to more than {MAX_BYTES} bytes: repeat less")
        return Refused("patternSyntax", "is no regular expression of ECMA-262 that the engine takes")
    return None


def pattern_matcher(pattern: str) -> Callable[[str], bool]:
    """Give what tells whether a text matches a pattern that has passed the gate, as the engine would."""
    options = _BACKTRACKING if read(pattern).backtracks else _LINEAR
    strict = {"pattern": strict_pattern(pattern)}
    return jsonschema_rs.Draft202012Validator(strict, offline=True, pattern_options=options).is_valid


@cache
def _metaschema(dialect: Dialect) -> jsonschema_rs.Validator:
    return _CLASSES[dialect]({"$ref": dialect.uri}, offline=True, validate_formats=False, pattern_options=_LINEAR)


def fits_metaschema(schema: Any, dialect: Dialect) -> bool:
    """Tell whether a schema is one by its dialect's metaschema."""
    return _metaschema(dialect).is_valid(schema)


def metaschema_violations(schema: Any, dialect: Dialect, prefix: str) -> list[Violation]:
    """List where a schema breaks its dialect's metaschema; keep what is given here small."""
    return describe(_metaschema(dialect).iter_errors(schema), schema, prefix)
