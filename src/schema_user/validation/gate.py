"""What an uploaded JSON Schema must be, before anything is stored.

A document that passes is an object of at most 256 KiB (a setting) and 64 levels, in a dialect that is known, valid by
its metaschema, refers only to itself, and is taken by the engine. Nothing is fetched, and nothing is refused for what
it may cost: the gate and the validation run where they can be stopped (``worker.py``). A schema of ``true`` or
``false`` alone is refused: a user schema has a body.

Every finding of the later checks comes at once, at most 100; what is malformed as JSON, too large, too
deep or of an unknown dialect is reported alone, for nothing behind it could be judged.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schema_user.errors import Violation
from schema_user.validation import index_keyword, permission_keyword, rust
from schema_user.validation.dialect import Dialect, alone, dialect_named, dialect_of
from schema_user.validation.formats import FORMATS
from schema_user.validation.outline import MAX_IDENTIFIER, Location, Outline
from schema_user.validation.violations import MAX_LISTED, is_surrogate, pointer

if TYPE_CHECKING:
    from schema_user.validation.engine import Engine
    from schema_user.validation.patterns import Refused

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 64
_MAX_FIELD_CHARACTERS: Final = 64 * 1024

PERMISSION: Final = permission_keyword.KEYWORD
UNIQUE: Final = index_keyword.UNIQUE
INDEX: Final = index_keyword.INDEX

_OURS: Final = ("urn:schema-user:", "urn:zitadel:schema:")
_KEYWORDS: Final = frozenset({PERMISSION, UNIQUE, INDEX})


@dataclass(frozen=True, slots=True)
class Findings:
    """What the gate found: the document is taken if there are no violations.

    ``dialect`` is empty if it is not known. Fields begin with ``schema``.
    """

    violations: tuple[Violation, ...] = ()
    warnings: tuple[Violation, ...] = ()
    dialect: str = ""


@dataclass(slots=True)
class _Listed:
    """Findings, up to a number; pointers can be long, so they are bounded together too."""

    kept: dict[tuple[str, str], Violation] = field(default_factory=dict)
    room: int = _MAX_FIELD_CHARACTERS
    full: bool = False

    def add(self, violation: Violation) -> None:
        key = (violation.field, violation.reason)
        if key in self.kept:
            return
        self.full = self.full or len(self.kept) >= MAX_LISTED or (bool(self.kept) and len(violation.field) > self.room)
        if not self.full:
            self.room -= len(violation.field)
            self.kept[key] = violation

    def add_at(self, location: Location, *more: str | int, text: str, reason: str) -> None:
        """Add a finding; its pointer is written only if there is still a place for it."""
        if not self.full:
            self.add(Violation(location.pointer(*more), text, reason))

    def result(self) -> tuple[Violation, ...]:
        listed = sorted(self.kept.values(), key=lambda each: (each.field, each.reason))
        if self.full:
            listed.append(Violation("schema", f"has more findings than these {len(listed)}", "more"))
        return tuple(listed)


def check(document: object, *, max_bytes: int = MAX_BYTES, engine: Engine = rust.RUST) -> Findings:
    """Put a document through the gate; ``document`` is what a JSON parser gave.

    What that takes has no bound: give it a process that can be ended.
    """
    if not isinstance(document, dict):
        return _alone(Violation("schema", "must be an object", "type"))
    malformed = _malformed(document) or _too_large(document, max_bytes)
    if malformed:
        return _alone(malformed)
    dialect = dialect_of(document)
    if dialect is None:
        known = ", ".join(each.uri for each in Dialect)
        return _alone(Violation("schema/$schema", f"names no known dialect: {known}", "dialect"))
    violations, warnings = _Listed(), _Listed()
    outline = Outline(document, dialect)
    _metacheck(outline, document, violations)
    _references(outline, violations)
    judged: dict[str, Refused | None] = {}
    for location in outline:
        _keywords(location, dialect, violations)
        _patterns(location, judged, violations)
        _format(location, warnings)
        _marks(location, warnings)
    if not violations.kept:
        for refusal in permission_keyword.refusals(outline):
            violations.add_at(refusal.location, *refusal.tokens, text=refusal.text, reason=refusal.reason)
    if not violations.kept:
        for refusal in index_keyword.refusals(outline, document):
            violations.add_at(refusal.location, *refusal.tokens, text=refusal.text, reason=refusal.reason)
        for violation in engine.refusals(document, dialect):
            violations.add(violation)
    return Findings(violations.result(), warnings.result(), str(dialect))


def _alone(violation: Violation) -> Findings:
    return Findings((violation,))


def _malformed(document: dict[str, Any]) -> Violation | None:
    """Find the first place that is no JSON, or too deep."""
    stack: list[tuple[Any, int, Any]] = [(document, 1, None)]
    while stack:
        here = stack.pop()
        value, depth, _ = here
        if isinstance(value, dict | list) and depth > MAX_DEPTH:
            return Violation(_path(here), f"is deeper than {MAX_DEPTH} levels", "depth")
        if isinstance(value, dict):
            if not all(isinstance(name, str) and not is_surrogate(name) for name in value):
                return Violation(_path(here), "has a name that is no text", "surrogate")
            stack.extend((inner, depth + 1, (here, name)) for name, inner in value.items())
        elif isinstance(value, list):
            stack.extend((inner, depth + 1, (here, index)) for index, inner in enumerate(value))
        elif isinstance(value, str) and is_surrogate(value):
            return Violation(_path(here), "has a lone surrogate, which is no character", "surrogate")
        elif isinstance(value, float) and not math.isfinite(value):
            return Violation(_path(here), "is no finite number", "number")
    return None


def _path(here: tuple[Any, int, Any]) -> str:
    tokens: list[str | int] = []
    step = here[2]
    while step is not None:
        around, token = step
        tokens.append(token)
        step = around[2]
    return pointer("schema", reversed(tokens))


def _too_large(document: dict[str, Any], max_bytes: int) -> Violation | None:
    try:
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError):  # a value that no JSON parser gives, or an integer of thousands of digits
        return Violation("schema", "is no JSON that can be stored", "json")
    return Violation("schema", f"is larger than {max_bytes} bytes", "size") if size > max_bytes else None


def _metacheck(outline: Outline, document: dict[str, Any], violations: _Listed) -> None:
    """Check by the metaschema: the whole, and what only a reference makes a schema.

    If that fails, the schemas are checked one by one, each without those inside it: errors of the whole would each
    carry their path and value, hundreds of megabytes from a document that is made for it.
    """
    dialect = outline.dialect
    fits = rust.fits_metaschema(document, dialect)
    for location in outline:
        if (fits and location.metachecked) or violations.full:
            continue
        own = alone(location.schema, dialect)
        if not rust.fits_metaschema(own, dialect):
            for violation in rust.metaschema_violations(own, dialect, location.pointer()):
                violations.add(violation)
    if not fits and not violations.kept:
        violations.add(Violation("schema", f"is not valid by {dialect.uri}", "metaschema"))


def _references(outline: Outline, violations: _Listed) -> None:
    for bad in outline.bad_references:
        violations.add_at(bad.location, bad.keyword, text=bad.text, reason=bad.reason)


def _keywords(location: Location, dialect: Dialect, violations: _Listed) -> None:
    schema = location.schema
    for tokens, text, reason in permission_keyword.malformed(schema):
        violations.add_at(location, *tokens, text=text, reason=reason)
    for keyword in (UNIQUE, INDEX):
        if not isinstance(schema.get(keyword, False), bool):
            violations.add_at(location, keyword, text="must be of type boolean", reason="type")
    identifier = schema.get(dialect.id_keyword)
    if isinstance(identifier, str) and len(identifier) > MAX_IDENTIFIER:
        text = f"must be at most {MAX_IDENTIFIER} characters long"
        violations.add_at(location, dialect.id_keyword, text=text, reason="maxLength")
    if location.parent is not None and "$schema" in schema and dialect_named(schema["$schema"]) is not dialect:
        violations.add_at(location, "$schema", text="must name the dialect of the whole document", reason="dialect")


def _patterns(location: Location, judged: dict[str, Refused | None], violations: _Listed) -> None:
    """Judge the patterns of a schema; ``judged`` remembers, so that each is compiled once."""

    def add(pattern: str, *tokens: str) -> None:
        if pattern not in judged:
            judged[pattern] = rust.pattern_refusal(pattern)
        if refused := judged[pattern]:
            violations.add_at(location, *tokens, text=refused.text, reason=refused.reason)

    pattern = location.schema.get("pattern")
    if isinstance(pattern, str):
        add(pattern, "pattern")
    named = location.schema.get("patternProperties")
    for name in named if isinstance(named, dict) else ():
        add(name, "patternProperties", name)


def _format(location: Location, warnings: _Listed) -> None:
    name = location.schema.get("format")
    if isinstance(name, str) and name not in FORMATS:
        warnings.add_at(
            location, "format", text="is no format that is known, so it is not checked", reason="formatUnknown"
        )


def _marks(location: Location, warnings: _Listed) -> None:
    """Warn of keywords that look like ours and are not: a permission or a mark that is misspelt would do nothing."""
    for name in location.schema:
        if name.startswith(_OURS) and name not in _KEYWORDS:
            text = "is no keyword that is known, so it does nothing"
            warnings.add_at(location, name, text=text, reason="keywordUnknown")
