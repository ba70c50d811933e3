"""What is wrong with a document, in words for people, with the pointer of each place.

A description says what the schema asks, never the value that was found. Pointers hold names of properties, which are
the client's; they are escaped as RFC 6901 says.
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
_OTHER_TYPE: Final = 2


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


def _types(kind: Any) -> str:
    return f"must be of type {' or '.join(kind.types)}"


def _enum(kind: Any) -> str:
    options = [_shown(each) for each in kind.options[:_MAX_SHOWN]]
    text = ", ".join(each or "…" for each in options)
    return f"must be one of {text}" if len(text) <= _MAX_SHOWN else "is not one of the values that are allowed"


def _constant(kind: Any) -> str:
    text = _shown(kind.expected_value)
    return f"must be {text}" if text else "is not the one value that is allowed"


def _pattern(kind: Any) -> str:
    text = kind.pattern if len(kind.pattern) <= _MAX_SHOWN else None
    return f"does not match the pattern {text}" if text else "does not match the schema's pattern"


_FORMATS: Final[Mapping[str, str]] = {
    "date": "a date such as 2026-01-31",
    "date-time": "a date and time such as 2026-01-31T12:00:00Z",
    "email": "an email address",
    "phone": "a phone number such as +41791234567",
    "time": "a time such as 12:00:00Z",
    "uri": "a URI",
    "uuid": "a UUID",
}


def _format(kind: Any) -> str:
    return f"must be {_FORMATS.get(kind.format, f'of the format {kind.format[:_MAX_SHOWN]}')}"


_WORDS: Final[Mapping[type, Callable[[Any], str]]] = {
    Kind.AdditionalItems: lambda kind: f"must have at most {_plural(kind.limit, 'item')}",
    Kind.BacktrackLimitExceeded: lambda _: "takes too many steps to match against the schema's pattern",
    Kind.Constant: _constant,
    Kind.ContentEncoding: lambda kind: f"must be encoded as {kind.content_encoding}",
    Kind.ContentMediaType: lambda kind: f"must hold {kind.content_media_type}",
    Kind.Enum: _enum,
    Kind.ExclusiveMaximum: lambda kind: f"must be less than {kind.limit}",
    Kind.ExclusiveMinimum: lambda kind: f"must be greater than {kind.limit}",
    Kind.FalseSchema: lambda _: "is not allowed",
    Kind.Format: _format,
    Kind.MaxItems: lambda kind: f"must have at most {_plural(kind.limit, 'item')}",
    Kind.MaxLength: lambda kind: f"must be at most {_plural(kind.limit, 'character')} long",
    Kind.MaxProperties: lambda kind: f"must have at most {_plural(kind.limit, 'property')}",
    Kind.Maximum: lambda kind: f"must be at most {kind.limit}",
    Kind.MinItems: lambda kind: f"must have at least {_plural(kind.limit, 'item')}",
    Kind.MinLength: lambda kind: f"must be at least {_plural(kind.limit, 'character')} long",
    Kind.MinProperties: lambda kind: f"must have at least {_plural(kind.limit, 'property')}",
    Kind.Minimum: lambda kind: f"must be at least {kind.limit}",
    Kind.MultipleOf: lambda kind: f"must be a multiple of {kind.multiple_of}",
    Kind.Not: lambda _: "is of a form that the schema excludes",
    Kind.OneOfMultipleValid: lambda _: "fits more than one of the alternatives, of which exactly one must fit",
    Kind.Pattern: _pattern,
    Kind.Type: _types,
    Kind.UnevaluatedItems: lambda _: "has items that are not allowed",
    Kind.UniqueItems: lambda _: "must not have equal items",
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
            yield from _alternatives(at, kind.name, branches, data)
        case Kind.FalseSchema() if error.schema_path[-1:] == ["additionalProperties"]:
            for name in _names_at(data, at):
                yield (*at, name), "is not allowed", "additionalProperties"
        case Kind.Contains():
            keyword = error.schema_path[-1]
            what = _CONTAINS.get(keyword, "has no item of the form that it must contain")
            yield at, what, str(keyword)
        case _:
            words = _WORDS.get(type(kind))
            yield at, words(kind) if words else f"does not satisfy {kind.name}", kind.name


def _names_at(data: Any, path: Iterable[Token]) -> Sequence[str]:
    for token in path:
        data = data[token]
    return list(data)


def _alternatives(
    at: tuple[Token, ...], reason: str, branches: Sequence[Sequence[ValidationError]], data: Any
) -> Iterator[Found]:
    """Say that no alternative fits, then what is wrong with the one that is nearest, if one is."""
    types = _only_types(at, branches)
    if types:
        yield at, f"must be of type {' or '.join(types)}", reason
        return
    distances = [_distance(errors, at) for errors in branches]
    nearest = min(range(len(branches)), key=distances.__getitem__)
    if distances[nearest][0] == _OTHER_TYPE or distances.count(distances[nearest]) > 1:
        yield at, f"fits none of the {len(branches)} alternatives", reason
        return
    number = nearest + 1
    yield at, f"fits none of the {len(branches)} alternatives; the nearest is number {number}", reason
    spread = (found for error in branches[nearest] for found in _flat(error, data))
    for place, what, why in islice(spread, _MAX_OF_BRANCH):
        yield place, f"{what} (alternative {number})", why


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


def _distance(errors: Sequence[ValidationError], at: tuple[Token, ...]) -> tuple[int, int, int]:
    """Say how far a document is from an alternative: another type, another constant, then by other errors."""
    own = [error.kind for error in errors if _own(error, at)]
    wrong = _OTHER_TYPE if any(isinstance(kind, Kind.Type) for kind in own) else int(any(map(_is_constant, own)))
    return wrong, sum(_is_constant(error.kind) for error in errors), len(errors)


def _is_constant(kind: object) -> bool:
    return isinstance(kind, Kind.Constant | Kind.Enum)


def _order(found: Found) -> tuple[tuple[bool, Token], ...]:
    return tuple((isinstance(token, str), token) for token in found[0])


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
