"""The engine jsonschema-rs: fast, complete, and linear in patterns; never fetches anything.

``is_valid`` comes first: listing errors costs far more, and is asked only for a document that is not valid. Both hold
the interpreter's lock for the whole call.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs

from schema_user.validation.dialect import Dialect
from schema_user.validation.formats import checkers
from schema_user.validation.violations import describe, unencodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schema_user.errors import Violation

PATTERN_BYTES: Final = 10 * 1024 * 1024
"""The most that one pattern may compile to: ``^[\\p{L} '-]{1,200}$`` takes 8.7 MB."""
_CACHE_BYTES: Final = 2 * 1024 * 1024

_OPTIONS: Final = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=_CACHE_BYTES)
_CLASSES: Final[Mapping[Dialect, type[jsonschema_rs.Validator]]] = {
    Dialect.DRAFT_4: jsonschema_rs.Draft4Validator,
    Dialect.DRAFT_6: jsonschema_rs.Draft6Validator,
    Dialect.DRAFT_7: jsonschema_rs.Draft7Validator,
    Dialect.DRAFT_2019_09: jsonschema_rs.Draft201909Validator,
    Dialect.DRAFT_2020_12: jsonschema_rs.Draft202012Validator,
}
_BASE_BYTES: Final = 40_000
_BYTES_FOR_EACH: Final = 30


class RustValidator:
    """One compiled schema; ``size`` estimates the bytes that it holds."""

    __slots__ = ("_compiled", "size")

    def __init__(self, compiled: jsonschema_rs.Validator, size: int) -> None:
        self._compiled = compiled
        self.size = size

    def violations(self, data: Any, prefix: str = "data") -> list[Violation]:
        """List what is wrong with a document: at most 100, then how many more; empty if it is valid."""
        try:
            if self._compiled.is_valid(data):
                return []
            return describe(self._compiled.iter_errors(data), data, prefix)
        except ValueError:  # no JSON: a lone surrogate, a key that is no text, nesting beyond the engine's limit
            return unencodable(data, prefix)


def compile_schema(document: Mapping[str, Any], dialect: str) -> RustValidator:
    """Compile a schema that has passed the gate.

    Raises:
        ValueError, jsonschema_rs.ReferencingError: if the engine doesn't take it.
    """
    known = Dialect(dialect)
    adapted = {**document, "$schema": known.uri}
    identifier = document.get(known.id_keyword)
    if isinstance(identifier, str) and identifier.endswith("#"):
        adapted[known.id_keyword] = identifier.removesuffix("#")
    compiled = _CLASSES[known](
        adapted,
        offline=True,
        validate_formats=True,
        formats=dict(checkers(known)),
        pattern_options=_OPTIONS,
    )
    return RustValidator(compiled, _BASE_BYTES + _BYTES_FOR_EACH * len(json.dumps(document)))


def takes_pattern(pattern: str) -> bool:
    """Tell whether the linear engine takes a pattern within its size."""
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=_OPTIONS)
    except ValueError:
        return False
    return True


@cache
def _metaschema(dialect: Dialect) -> jsonschema_rs.Validator:
    return _CLASSES[dialect]({"$ref": dialect.uri}, offline=True, validate_formats=False, pattern_options=_OPTIONS)


def metaschema_violations(schema: Any, dialect: Dialect, prefix: str) -> Iterable[Violation]:
    """List where a schema breaks its dialect's metaschema."""
    return RustValidator(_metaschema(dialect), 0).violations(schema, prefix)
