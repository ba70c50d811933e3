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
from schema_user.validation.patterns import PATTERN_OPTIONS, compiled_bytes
from schema_user.validation.violations import describe, unencodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_user.errors import Violation

_CLASSES: Final[Mapping[Dialect, type[jsonschema_rs.Validator]]] = {
    Dialect.DRAFT_4: jsonschema_rs.Draft4Validator,
    Dialect.DRAFT_6: jsonschema_rs.Draft6Validator,
    Dialect.DRAFT_7: jsonschema_rs.Draft7Validator,
    Dialect.DRAFT_2019_09: jsonschema_rs.Draft201909Validator,
    Dialect.DRAFT_2020_12: jsonschema_rs.Draft202012Validator,
}
_BASE_BYTES: Final = 20_000
_BYTES_FOR_EACH: Final = 20
"""Bytes held for each of the schema's: 15 on average over 453 published schemas, beside their patterns."""


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
        pattern_options=PATTERN_OPTIONS,
    )
    size = _BASE_BYTES + _BYTES_FOR_EACH * len(json.dumps(document)) + compiled_bytes(document)
    return RustValidator(compiled, size)


@cache
def _metaschema(dialect: Dialect) -> jsonschema_rs.Validator:
    return _CLASSES[dialect](
        {"$ref": dialect.uri}, offline=True, validate_formats=False, pattern_options=PATTERN_OPTIONS
    )


def fits_metaschema(schema: Any, dialect: Dialect) -> bool:
    """Tell whether a schema is one by its dialect's metaschema."""
    return _metaschema(dialect).is_valid(schema)


def metaschema_violations(schema: Any, dialect: Dialect, prefix: str) -> list[Violation]:
    """List where a schema breaks its dialect's metaschema; keep what is given here small."""
    return describe(_metaschema(dialect).iter_errors(schema), schema, prefix)
