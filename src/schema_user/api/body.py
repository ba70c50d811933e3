"""From bytes to a body struct, strictly: what is wrong is named with its JSON Pointer, all of it at once.

msgspec decodes and checks at full speed. Only a body that it refuses, or one that may repeat a key (msgspec keeps the
last and says nothing), is looked at again by the slower, more talkative code below.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import re
import types
import typing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from schema_user.domain.document import INT64_MAX, INT64_MIN, forbidden_key, pointer
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

MAX_VIOLATIONS: Final = 100
_MAX_FIELD_CHARACTERS: Final = 64 * 1024
_LONGEST_INTEGER: Final = 64
_KEY: Final = re.compile(rb'"[ \t\r\n]*:')
_EXACT_TYPES: Final = frozenset({int, float, bool, type(None)})
_NAMES: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
    "datetime": "an RFC 3339 time",
}

Path = tuple[str | int, ...]


class _Found(list[Violation]):
    """What is wrong with a body; a long key in which much is wrong must not be written once for each of it."""

    room = _MAX_FIELD_CHARACTERS
    others = 0
    all_seen = True

    def add(self, path: Path, description: str, reason: str) -> None:
        """Add a violation if there is a place for it, else count it."""
        size = sum(len(token) for token in path if isinstance(token, str))
        if self and (len(self) == MAX_VIOLATIONS or size > self.room):
            self.others += 1
            return
        self.room -= size
        self.append(Violation(_safe_pointer(*path), description, reason))


def decode(raw: bytes, into: type[T], max_depth: int) -> T:
    """Decode a body.

    Args:
        raw: the bytes of a JSON text, within the size limit already.
        into: the struct that the operation takes; its member ``data`` obeys the rules of stored documents.
        max_depth: how deep arrays and objects may nest, the body itself being the first level.

    Raises:
        Malformed: with at most 100 violations, and a count of the others.
    """
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise refused(_explain(raw, max_depth, error)) from None
    keys = _count(value, max_depth)
    if b"\\u0000" in raw or _may_repeat(raw, keys):
        found = _Found()
        if _may_repeat(raw, _look(value, (), max_depth, found)) and not found:
            found = _explain(raw, max_depth, None)
        if found:
            raise refused(found)
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError:
        return _convert_without_nulls(value, into, may_hold_null=b"null" in raw)


def _may_repeat(raw: bytes, keys: float) -> bool:
    """Whether a text may hold more keys than were decoded.

    Each key is followed by a colon; one in a text costs an honest body the second count, and `":` the slower way.
    """
    return raw.count(b":") != keys and len(_KEY.findall(raw)) != keys


def repeated(raw: bytes, value: Any, levels: int) -> list[Violation]:
    """Name each key that a JSON text gives twice.

    Args:
        raw: the text, within the size limit already.
        value: what it was decoded to.
        levels: how deep it is looked into.
    """
    found = _explain(raw, levels, None) if _may_repeat(raw, _count(value, levels)) else _Found()
    return [each for each in found if each.reason == "duplicateKey"]


def _convert_without_nulls(value: Any, into: type[T], *, may_hold_null: bool) -> T:
    """Try once more with what is null left out: in the envelope, null is absent, also where a default stands."""
    try:
        return msgspec.convert(_without_nulls(value, into) if may_hold_null else value, into)
    except msgspec.ValidationError as error:
        mismatches = _mismatches(value, into, ())
        found = _Found(islice(mismatches, MAX_VIOLATIONS))
        # A small body can be wrong in a hundred thousand places: to look at all of them would hold up everybody else.
        found.others = sum(1 for _ in islice(mismatches, MAX_VIOLATIONS))
        found.all_seen = found.others < MAX_VIOLATIONS
        raise refused(found or [Violation("", _words(str(error)), "type")]) from None


def refused(found: list[Violation], reason: str = "FIELD_INVALID") -> Malformed:
    """Give the fault for a body with these violations."""
    first = found[0]
    shown = found[:MAX_VIOLATIONS]
    others, words = len(found) - len(shown), "and"
    if isinstance(found, _Found):
        others += found.others
        words = "and" if found.all_seen else "and at least"
    if others:
        shown.append(Violation("", f"{words} {others} more", "truncated"))
    return Malformed(reason, f"{first.field or 'the body'} {first.description}", shown)


def _count(value: Any, levels: int) -> float:
    """Count the keys; what is not a number comes back if anything in there must be looked at more closely.

    It is the fast way past ``_look`` for what nearly all bodies are, and may err only by sending one there.
    """
    if levels == 0:
        return math.nan
    keys: float = 0
    members = value
    if type(value) is dict:
        names = "".join(value)
        if "$" in names or "." in names or "" in value or "__proto__" in value:
            return math.nan
        keys = len(value)
        members = value.values()
    elif type(value) is not list:
        return math.nan
    for member in members:
        kind = type(member)
        if kind is str:
            continue
        if kind is dict or kind is list:
            keys += _count(member, levels - 1)
        elif kind is int and not INT64_MIN <= member <= INT64_MAX:
            return math.nan
    return keys


def _look(value: Any, path: Path, levels: int, found: _Found) -> int:
    """Collect what msgspec lets through but we do not; give the number of keys."""
    kind = type(value)
    if kind is str:
        if "\x00" in value:
            found.add(path, "must not contain NUL", "nul")
        return 0
    if kind is dict:
        if levels == 0:
            found.add(path, *_TOO_DEEP)
            return 0
        keys = len(value)
        in_data = bool(path) and path[0] == "data"
        for key, member in value.items():
            if "\x00" in key:
                found.add((*path, key), "a key must not contain NUL", "nul")
            elif in_data and (problem := forbidden_key(key)):
                found.add((*path, key), problem, "key")
            if type(member) not in _EXACT_TYPES or type(member) is int:
                keys += _look(member, (*path, key), levels - 1, found)
        return keys
    if kind is list:
        if levels == 0:
            found.add(path, *_TOO_DEEP)
            return 0
        return sum(_look(member, (*path, index), levels - 1, found) for index, member in enumerate(value))
    if kind is int and not INT64_MIN <= value <= INT64_MAX:
        found.add(path, "must be within 64 bits", "range")
    return 0


_TOO_DEEP: Final = ("is nested too deep", "depth")


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, with those whose key is repeated."""


def _explain(raw: bytes, max_depth: int, error: Exception | None) -> _Found:
    """Find out, with the standard library's parser, what is wrong with a text and where."""
    if raw.startswith(b"\xef\xbb\xbf"):
        return _Found([Violation("", "must not begin with a byte order mark", "malformed")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return _Found([Violation("", f"is not UTF-8 at byte {wrong.start}", "malformed")])
    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_int=_integer)
    except json.JSONDecodeError as wrong:
        return _Found([Violation("", f"is not JSON: line {wrong.lineno}, column {wrong.colno}", "malformed")])
    except RecursionError:
        return _Found([Violation("", f"is nested deeper than {max_depth}", "depth")])
    found = _Found()
    _inspect(value, (), max_depth, found)
    if not found and error is not None:
        found.append(Violation("", "is not JSON", "malformed"))
    return found


def _integer(text: str) -> int | float:
    """Read an integer; one with thousands of digits becomes infinite rather than slow."""
    return int(text) if len(text) < _LONGEST_INTEGER else math.inf


def _inspect(value: Any, path: Path, levels: int, found: _Found) -> None:
    if isinstance(value, (_Pairs, list)) and levels == 0:
        found.add(path, *_TOO_DEEP)
    elif isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, member in value:
            if key in seen:
                found.add((*path, key), "is given twice", "duplicateKey")
            seen.add(key)
            if not _encodable(key):
                found.add((*path, key), "has a lone surrogate in its key", "surrogate")
            _inspect(member, (*path, key), levels - 1, found)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _inspect(member, (*path, index), levels - 1, found)
    elif isinstance(value, str) and not _encodable(value):
        found.add(path, "has a lone surrogate", "surrogate")
    elif isinstance(value, float) and not math.isfinite(value):
        found.add(path, "must be a finite number in range", "range")
    elif type(value) is int and not INT64_MIN <= value <= INT64_MAX:
        found.add(path, "must be within 64 bits", "range")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _safe_pointer(*path: str | int) -> str:
    return pointer(*path).encode("utf-8", "replace").decode()


def _struct_of(options: tuple[Any, ...]) -> type[msgspec.Struct] | None:
    return next((each for each in options if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def _item_of(options: tuple[Any, ...]) -> Any:
    return next((typing.get_args(each)[0] for each in options if typing.get_origin(each) in {list, tuple}), None)


def _without_nulls(value: Any, hint: Any) -> Any:
    """Leave out the members of structs that are null and not required; what structs do not describe stays."""
    options = _options(hint)
    struct = _struct_of(options)
    if isinstance(value, dict) and struct is not None:
        members = _members(struct)
        return {
            key: _without_nulls(member, members[key].hint) if key in members else member
            for key, member in value.items()
            if member is not None or key not in members or members[key].required
        }
    if isinstance(value, list) and (item := _item_of(options)) is not None:
        return [_without_nulls(each, item) for each in value]
    return value


class _Member(typing.NamedTuple):
    """What a struct says of one of its members."""

    hint: Any
    required: bool


@functools.cache
def _members(struct: type[msgspec.Struct]) -> dict[str, _Member]:
    """Give the members of a struct by their names on the wire; to read its annotations takes a millisecond."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return {each.encode_name: _Member(hints[each.name], each.required) for each in msgspec.structs.fields(struct)}


def _mismatches(value: Any, hint: Any, path: Path) -> Iterator[Violation]:
    """Give where a value differs from what a type wants, going into structs and lists of structs."""
    options = _options(hint)
    if value is None and type(None) in options:
        return
    struct = _struct_of(options)
    if struct is not None and isinstance(value, dict):
        yield from _struct_mismatches(value, struct, path)
        return
    inside = False
    if isinstance(value, list) and (item := _item_of(options)) is not None:
        for index, each in enumerate(value):
            for violation in _mismatches(each, item, (*path, index)):
                inside = True
                yield violation
    if inside:
        return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        choices = [option for option in options if isinstance(option, type) and issubclass(option, enum.Enum)]
        words = _choice_words(choices[0]) if choices else _words(str(error))
        yield Violation(pointer(*path), words, "enum" if choices else _rule(str(error)))


def _struct_mismatches(value: dict[str, Any], struct: type[msgspec.Struct], path: Path) -> Iterator[Violation]:
    members = _members(struct)
    for name, member in members.items():
        if member.required and name not in value:
            yield Violation(pointer(*path, name), "is required", "required")
    for key, given in value.items():
        if key not in members:
            yield Violation(pointer(*path, key), "is not a field of this operation", "unknownField")
        elif given is not None or members[key].required:
            yield from _mismatches(given, members[key].hint, (*path, key))


def _options(hint: Any) -> tuple[Any, ...]:
    """Give the types of a union, each without its annotations."""
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return tuple(option for each in typing.get_args(hint) for option in _options(each))
    return (hint,)


def _choice_words(choices: type[enum.Enum]) -> str:
    return "must be one of " + ", ".join(str(choice.value) for choice in choices)


_LENGTH: Final = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)")
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (>=|<=) (-?[\d.]+)")
_PATTERN: Final = re.compile(r"Expected `str` matching regex '(.*)'")
_TYPE: Final = re.compile(r"Expected `([^`]+)`")


def _rule(message: str) -> str:
    """Name the rule that a message of msgspec speaks of."""
    if match := _LENGTH.match(message):
        unit = "Length" if match[1] == "str" else "Items"
        return ("min" if match[2] == ">=" else "max") + unit
    if match := _BOUND.match(message):
        return "minimum" if match[1] == ">=" else "maximum"
    return "pattern" if _PATTERN.match(message) else "type"


def _words(message: str) -> str:
    """Say in our words what msgspec says; never with the value it met."""
    if match := _LENGTH.match(message):
        if match[2] == ">=" and match[3] == "1":
            return "must not be empty"
        unit = "characters" if match[1] == "str" else "items"
        return f"must have at {'least' if match[2] == '>=' else 'most'} {match[3]} {unit}"
    if match := _BOUND.match(message):
        return f"must be at {'least' if match[1] == '>=' else 'most'} {match[2]}"
    if match := _PATTERN.match(message):
        return f"must match {match[1]}"
    if match := _TYPE.match(message):
        names = [_NAMES.get(name.strip(), "of another form") for name in match[1].split("|") if name.strip() != "null"]
        return "must be " + " or ".join(names)
    return "is not of the form that is expected"
