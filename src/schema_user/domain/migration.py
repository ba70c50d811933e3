"""Migrations: what users become when they are moved to a revision of a schema, and what is known of them afterwards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.domain.document import INT64_MAX, INT64_MIN, forbidden_key
from schema_user.domain.document import pointer as written
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from schema_user.domain.patch import Limits

MOST_RENAMES: Final = 100
MAX_EXPRESSION: Final = 10_000
"""Characters."""

MOST_FAILURES: Final = 500
"""Users who failed that are named one by one; the rest are counted."""

MOST_EXAMPLES: Final = 10
"""Users who were moved that are named."""

MOST_OF_ONE: Final = 10
_MAX_CHARACTERS: Final = 500
"""Of a pointer and of a description: names of properties can be as long as a body."""


class Rename(msgspec.Struct, frozen=True):
    """A property that gets another name or place: two JSON Pointers in the data."""

    source: str
    target: str


class Transformation(msgspec.Struct, frozen=True, kw_only=True):
    """What users' data becomes, in this order.

    ``renames``, then ``patch`` (RFC 6902), then ``expression`` (JMESPath: what it gives is the new data), then the
    ``defaults`` that the schema names for properties that are missing.
    """

    renames: tuple[Rename, ...] = ()
    patch: Any = None
    expression: str | None = None
    defaults: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return bool(self.renames or self.defaults) or self.patch is not None or self.expression is not None


class Migration(Transformation, frozen=True, kw_only=True):
    """What is asked: to move users to a revision of the job's schema, their data changed on the way.

    Without ``from_schema_id`` the users are those of the schema itself. ``awaited``: the revision may not be saved yet.
    ``rehearsed``: nothing is written, and users count as moved who would be.
    """

    to_revision: int
    from_schema_id: str | None = None
    awaited: bool = False
    rehearsed: bool = False


class Failure(msgspec.Struct, frozen=True):
    """A user who was not moved: why (upper snake), and what is wrong where."""

    user_id: str
    reason: str
    violations: tuple[Violation, ...] = ()


class Tally(msgspec.Struct):
    """What became of users so far; ``skipped`` were at the revision already, or are gone."""

    moved: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[Failure] = []
    examples: list[str] = []

    def move(self, user_id: str) -> None:
        """Count a user who was moved; the first ones are named as examples."""
        self.moved += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(user_id)

    def fail(self, user_id: str, reason: str, violations: Iterable[Violation]) -> None:
        """Count a user who was not moved."""
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            told = [_short(each) for each in violations][:MOST_OF_ONE]
            self.failures.append(Failure(user_id, reason, tuple(told)))


def _short(violation: Violation) -> Violation:
    field = violation.field
    while len(field) > _MAX_CHARACTERS:
        field = field.rpartition("/")[0]
    return Violation(field, violation.description[:_MAX_CHARACTERS], violation.reason)


def moves(document: Mapping[str, Any], renames: Sequence[Rename]) -> list[dict[str, str]]:
    """Give the operations (RFC 6902) of the renames whose source is there.

    Raises:
        Malformed: ``RENAME_TAKEN``, if there is something at a target already.
    """
    found = [each for each in renames if _is_there(document, each.source)]
    taken = [each.target for each in found if _is_there(document, each.target)]
    if taken:
        text = "is there already, so nothing is renamed to it"
        violations = [Violation(f"data{each}", text, "rename") for each in taken]
        raise Malformed("RENAME_TAKEN", f"{violations[0].field} {violations[0].description}", violations)
    return [{"op": "move", "from": each.source, "path": each.target} for each in found]


def _is_there(document: Any, pointer: str) -> bool:
    for token in pointer.split("/")[1:]:
        step = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return False
    return True


Defaults = tuple[tuple[tuple[str, ...], Any], ...]
"""Paths of properties, the shallow ones first, and the value of each where it is missing."""


def with_defaults(document: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Give a document with the defaults of properties that are missing in objects that are there."""
    result = document
    for path, value in defaults:
        result = _filled(result, path, value)
    return result


def _filled(holder: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Copy what is on the way to a property that is missing; else give the same object."""
    name, *rest = path
    if not rest:
        return holder if name in holder else {**holder, name: value}
    inner = holder.get(name)
    if not isinstance(inner, dict):
        return holder
    filled = _filled(inner, tuple(rest), value)
    return holder if filled is inner else {**holder, name: filled}


def require_storable(document: Any, limits: Limits) -> None:
    """Raise Malformed for a document that no request could have sent, with the first place of it that is wrong."""
    if not isinstance(document, dict):
        raise _unstorable((), "must become an object", "type")
    try:
        size = len(msgspec.json.encode(document))
    except (UnicodeEncodeError, TypeError, ValueError):
        raise _unstorable((), "must become JSON", "json") from None
    if size > limits.size:
        raise _unstorable((), f"would be larger than {limits.size} bytes", "size")
    for path, value in _walked(document):
        if isinstance(value, dict | list) and len(path) >= limits.depth:
            raise _unstorable(path, f"would be deeper than {limits.depth} levels", "depth")
        if isinstance(value, dict):
            for key in value:
                if (why := forbidden_key(key) or ("a key must not contain NUL" if "\0" in key else None)) is not None:
                    raise _unstorable(path, why, "key")
        elif isinstance(value, str) and "\0" in value:
            raise _unstorable(path, "must not contain NUL", "nul")
        elif isinstance(value, float) and not math.isfinite(value):
            raise _unstorable(path, "must be a finite number", "number")
        elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            raise _unstorable(path, "must be a number of 64 bits", "number")


def _walked(document: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while stack:
        path, value = stack.pop()
        yield path, value
        if isinstance(value, dict):
            stack += [((*path, name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            stack += [((*path, index), inner) for index, inner in enumerate(value)]


def _unstorable(path: tuple[str | int, ...], text: str, reason: str) -> Malformed:
    field = "/".join(["data", *([written(*path)] if path else [])])
    return Malformed("MIGRATION_RESULT", f"{field} {text}", [Violation(field, text, reason)])
