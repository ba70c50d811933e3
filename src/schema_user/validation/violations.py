"""What is wrong with a document, in words for people, with the pointer of each place.

A description says what the schema asks and, where that helps, of which type the value is or how many members it has;
never the value. Pointers hold names of properties, which are the client's; they are escaped as RFC 6901 says.

An engine's error has a ``kind`` of jsonschema-rs, ``instance_path``, ``schema_path`` and ``instance``.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from jsonschema_rs import ValidationErrorKind as Kind

from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from jsonschema_rs import ValidationError

    Token = str | int
    Found = tuple[tuple[Token, ...], str, str]

MAX_LISTED: Final = 100
_MAX_FIELD_CHARACTERS: Final = 64 * 1024
"""Names of properties can be as long as the body: all pointers of one answer together stay within this."""
_MAX_SHOWN: Final = 200
_MAX_OF_BRANCH: Final = 10
_COUNT_ON: Final = 10_000
_MAX_NAMED: Final = 5
"""Alternatives that are named one by one."""
_OTHER_TYPE: Final = 2
_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    dict: "object",
    int: "integer",
    list: "array",
    str: "string",
    type(None): "null",
}


def pointer(prefix: str, tokens: Iterable[Token]) -> str:
    """Write a JSON Pointer without its leading slash."""
    return "/".join([prefix, *(str(each).replace("~", "~0").replace("/", "~1") for each in tokens)])


def _shown(value: Any) -> str | None:
    """Write a value of the schema, if it is short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else None


def _plural(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _type_of(value: Any) -> str:
    """Name the type of a JSON value; a number without a fraction that is written with one is still a number."""
    return _TYPES.get(type(value), "number")


def _must_be_of(types: Sequence[str], value: Any) -> str:
    return f"must be of type {' or '.join(types)}, not {_type_of(value)}"


def _members(limit: str, noun: str) -> Callable[[Any, Any], str]:
    """Make the words of a limit on the number of members, which say how many there are."""
    return lambda kind, value: f"must have at {limit} {_plural(kind.limit, noun)}, not {len(value)}"


def _enum(kind: Any, _: Any) -> str:
    options = [_shown(each) for each in kind.options[:_MAX_SHOWN]]
    text = ", ".join(each or "…" for each in options)
    return (
        f"must be one of {text}"
        if len(text) <= _MAX_SHOWN
        else f"must be one of the {len(kind.options)} values that the schema lists"
    )


def _constant(kind: Any, _: Any) -> str:
    text = _shown(kind.expected_value)
    return f"must be {text}" if text else "must be the one value that the schema names"


def _pattern(kind: Any, _: Any) -> str:
    return f"must match the pattern {kind.pattern}" if len(kind.pattern) <= _MAX_SHOWN else "must match a long pattern"


_FORMATS: Final[Mapping[str, str]] = {
    "date": "a date such as 2026-01-31",
    "date-time": "a date and time such as 2026-01-31T12:00:00Z",
    "email": "an email address",
    "phone": "a phone number such as +41791234567",
    "time": "a time such as 12:00:00Z",
    "uri": "a URI",
    "uuid": "a UUID",
}


def _format(kind: Any, _: Any) -> str:
    return f"must be {_FORMATS.get(kind.format, f'of the format {kind.format[:_MAX_SHOWN]}')}"


def _several(kind: Any, _: Any) -> str:
    fitting = [str(number) for number, errors in enumerate(kind.context, 1) if not errors]
    if 1 < len(fitting) <= _MAX_NAMED:
        return f"fits the alternatives {', '.join(fitting[:-1])} and {fitting[-1]}; exactly one must fit"
    return f"fits {len(fitting)} of the {len(kind.context)} alternatives; exactly one must fit"


_WORDS: Final[Mapping[type, Callable[[Any, Any], str]]] = {
    Kind.AdditionalItems: _members("most", "item"),
    Kind.BacktrackLimitExceeded: lambda *_: "takes too many steps to match against the schema's pattern",
    Kind.Constant: _constant,
    Kind.ContentEncoding: lambda kind, _: f"must be encoded as {kind.content_encoding}",
    Kind.ContentMediaType: lambda kind, _: f"must hold {kind.content_media_type}",
    Kind.Enum: _enum,
    Kind.ExclusiveMaximum: lambda kind, _: f"must be less than {kind.limit}",
    Kind.ExclusiveMinimum: lambda kind, _: f"must be greater than {kind.limit}",
    Kind.FalseSchema: lambda *_: "is not allowed",
    Kind.Format: _format,
    Kind.MaxItems: _members("most", "item"),
    Kind.MaxLength: lambda kind, _: f"must be at most {_plural(kind.limit, 'character')} long",
    Kind.MaxProperties: _members("most", "property"),
    Kind.Maximum: lambda kind, _: f"must be at most {kind.limit}",
    Kind.MinItems: _members("least", "item"),
    Kind.MinLength: lambda kind, _: f"must be at least {_plural(kind.limit, 'character')} long",
    Kind.MinProperties: _members("least", "property"),
    Kind.Minimum: lambda kind, _: f"must be at least {kind.limit}",
    Kind.MultipleOf: lambda kind, _: f"must be a multiple of {kind.multiple_of}",
    Kind.Not: lambda *_: "is of a form that the schema excludes",
    Kind.OneOfMultipleValid: _several,
    Kind.Pattern: _pattern,
    Kind.Type: lambda kind, value: _must_be_of(kind.types, value),
    Kind.UnevaluatedItems: lambda *_: "has items that are not allowed",
    Kind.UniqueItems: lambda *_: "must not have equal items",
}
_CONTAINS: Final[Mapping[Token, str]] = {
    "minContains": "has too few items of the form that it must contain",
    "maxContains": "has too many items of the form that it may contain only so often",
}


def _spread(error: ValidationError, data: Any) -> Iterator[Found]:
    """Turn one error of the engine into one violation for each place that it means."""
    at, kind = tuple(error.instance_path), error.kind
    match kind:
        case Kind.Required(property=name):
            yield (*at, name), "is required", "required"
        case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
            for name in names:
                yield (*at, name), "is not allowed", kind.name
        case Kind.PropertyNames(error=inner):
            what = next(_spread(inner, data))[1]
            yield (*at, str(inner.instance)), f"has a name that is not allowed: it {what}", "propertyNames"
        case Kind.AnyOf(context=branches) | Kind.OneOfNotValid(context=branches):
            yield from _alternatives(error, branches, data)
        case Kind.FalseSchema() if error.schema_path[-1:] == ["additionalProperties"]:
            for name in _names_at(data, at):
                yield (*at, name), "is not allowed", "additionalProperties"
        case Kind.Contains():
            keyword = error.schema_path[-1]
            what = _CONTAINS.get(keyword, "has no item of the form that it must contain")
            yield at, what, str(keyword)
        case _:
            words = _WORDS.get(type(kind))
            yield at, words(kind, error.instance) if words else f"must satisfy {kind.name}", kind.name


def _names_at(data: Any, path: Iterable[Token]) -> Sequence[str]:
    for token in path:
        data = data[token]
    return list(data)


def _alternatives(error: ValidationError, branches: Sequence[Sequence[ValidationError]], data: Any) -> Iterator[Found]:
    """Say that no alternative fits, then what is wrong with the one that is nearest, if one is."""
    at, reason = tuple(error.instance_path), error.kind.name
    if types := _only_types(at, branches):
        yield at, _must_be_of(types, error.instance), reason
        return
    none = f"fits none of the {len(branches)} alternatives"
    distances = [_distance(errors, at) for errors in branches]
    shortest = min(distances)
    nearest = [number for number, distance in enumerate(distances) if distance == shortest]
    if shortest[0] == _OTHER_TYPE or len(nearest) > _MAX_NAMED or not all(branches[number] for number in nearest):
        yield at, none, reason
        return
    firsts = [_first(branches[number][0], at, data) for number in nearest]
    if len(nearest) > 1:  # none is guessed; if each lacks but one thing, that is what to choose from
        told = shortest[2] + shortest[3] == 1 and len(set(firsts)) == len(firsts)
        yield at, f"{none}; the nearest: {', or '.join(firsts)}" if told else none, reason
        return
    number = nearest[0] + 1
    yield at, f"{none}; the nearest, number {number}: {firsts[0]}", reason
    spread = (found for each in branches[nearest[0]] for found in _flat(each, data))
    for place, what, why in islice(spread, _MAX_OF_BRANCH):
        yield place, f"{what} (alternative {number})", why


def _first(error: ValidationError, at: tuple[Token, ...], data: Any) -> str:
    """Tell an error of an alternative in a few words, with its place as seen from where the alternatives stand."""
    place, what, _ = next(_flat(error, data))
    return f"{_shortened('/'.join(map(str, place[len(at) :])))} {what}".strip()


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _only_types(at: tuple[Token, ...], branches: Sequence[Sequence[ValidationError]]) -> list[str]:
    """Give the types that the alternatives ask for, if all of them ask for another type and nothing else counts."""
    types: set[str] = set()
    for errors in branches:
        wanted = [error.kind.types for error in errors if isinstance(error.kind, Kind.Type) and _own(error, at)]
        if not wanted:
            return []
        types.update(wanted[0])
    return sorted(types)


def _flat(error: ValidationError, data: Any) -> Iterator[Found]:
    """Spread an error of an alternative; alternatives inside it are only named, so that nothing multiplies."""
    match error.kind:
        case Kind.AnyOf(context=branches) | Kind.OneOfNotValid(context=branches):
            yield tuple(error.instance_path), f"fits none of the {len(branches)} alternatives", error.kind.name
        case _:
            yield from _spread(error, data)


def _own(error: ValidationError, at: tuple[Token, ...]) -> bool:
    return tuple(error.instance_path) == at


def _distance(errors: Sequence[ValidationError], at: tuple[Token, ...]) -> tuple[int, int, int, int, int]:
    """Say how far a document is from an alternative.

    First counts whether it is of another type, or another constant, then how many constants in it are others: they are
    what alternatives are told apart by. Then what is wrong with the value itself, what with anything inside it, and of
    two that are alike the nearer is the one that went deeper.
    """
    own = [error.kind for error in errors if _own(error, at)]
    wrong = _OTHER_TYPE if any(isinstance(kind, Kind.Type) for kind in own) else int(any(map(_is_constant, own)))
    constants = sum(_is_constant(error.kind) for error in errors)
    deepest = max((len(error.instance_path) for error in errors), default=0)
    return wrong, constants, len(own), len(errors) - len(own), -deepest


def _is_constant(kind: object) -> bool:
    return isinstance(kind, Kind.Constant | Kind.Enum)


def _order(found: Found) -> tuple[tuple[tuple[bool, Token], ...], str, str]:
    return tuple((isinstance(token, str), token) for token in found[0]), found[2], found[1]


def describe(errors: Iterable[ValidationError], data: Any, prefix: str) -> list[Violation]:
    """List violations by pointer, at most 100 and then one that counts the others."""
    source = (found for error in errors for found in _spread(error, data))
    listed: dict[Found, None] = {}
    room, others = _MAX_FIELD_CHARACTERS, 0
    for found in islice(source, _COUNT_ON):
        if found in listed:
            continue
        size = sum(len(str(token)) for token in found[0])
        if listed and (len(listed) >= MAX_LISTED or size > room):
            others += 1
            continue
        room -= size
        listed[found] = None
    more = "more than " if next(source, None) is not None else ""
    result = [Violation(pointer(prefix, at), what, why) for at, what, why in sorted(listed, key=_order)]
    if others:
        result.append(Violation(prefix, f"has {more}{_plural(others, 'other violation')} that are not listed", "more"))
    return result


def unencodable(data: Any, prefix: str) -> list[Violation]:
    """List the places that make a value no JSON document: texts with lone surrogates; else say so of the whole."""
    result: list[Violation] = []
    stack: list[tuple[tuple[Token, ...], Any]] = [((), data)]
    while stack and len(result) < MAX_LISTED:
        at, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*at, str(name)), inner) for name, inner in value.items())
            bad = any(isinstance(name, str) and is_surrogate(name) for name in value)
        elif isinstance(value, list):
            stack.extend(((*at, index), inner) for index, inner in enumerate(value))
            bad = False
        else:
            bad = isinstance(value, str) and is_surrogate(value)
        if bad:
            field = pointer(prefix, at).encode("utf-8", "backslashreplace").decode()
            result.append(Violation(field, "has a lone surrogate, which is no character", "surrogate"))
    return sorted(result, key=lambda each: each.field) or [Violation(prefix, "is no JSON that can be checked", "json")]


def is_surrogate(text: str) -> bool:
    """Tell whether a text holds a lone surrogate, which no UTF-8 can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
