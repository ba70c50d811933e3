"""The pure-Python engine: fastjsonschema says yes or no, jsonschema lists what is wrong.

It takes drafts 4, 6 and 7, as both libraries ignore in silence what came later. They get a document that was written
anew (``python_schema.py``). fastjsonschema is asked only where it is exact and its code small; jsonschema answers the
rest, with own functions where it errs: it finds ``[[1], [true], [1]]`` unique, and 19.01 no multiple of 0.01. Formats
and contents are judged as by the engine ``rust``, since they mean the same in every engine.

What this would judge otherwise than ``rust``, or not within bounds, is refused at the upload.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

import fastjsonschema
import jsonschema
import jsonschema_rs
from referencing import Registry

from schema_user.errors import Violation
from schema_user.validation.dialect import IN_PLACE, OLD, Dialect, subschemas
from schema_user.validation.formats import FORMATS, checkers
from schema_user.validation.outline import Outline
from schema_user.validation.patterns import Refused
from schema_user.validation.python_patterns import translated
from schema_user.validation.python_schema import CONTENT, IS_FALSE, rewritten
from schema_user.validation.violations import describe, unencodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from schema_user.validation.outline import Location

_MAX_CHAIN: Final = 64
"""Schemas that apply to one value, one through the other: each takes up to 3 frames of Python, in a document of 64
levels all of them 12,288, and a worker's stack has 20,000 (``worker.py``)."""
_LATER_DIALECT: Final = "must name draft-04, draft-06 or draft-07: the python validator takes no later dialect"
_BASE_BYTES: Final = 30_000
_BYTES_FOR_EACH: Final = 60


def _is_lent(validator: jsonschema_rs.Validator, value: str) -> bool:
    try:
        return validator.is_valid(value)
    except ValueError:  # a lone surrogate
        return False


@cache
def _formats() -> Mapping[str, Callable[[str], bool]]:
    """Give every format, and the contents by names that no format has: they are asserted of texts alone, as formats."""
    own = checkers(Dialect.DRAFT_4)  # the dialect whose engine lacks most
    lent = {
        name: partial(_is_lent, jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True))
        for name in FORMATS - own.keys()
    }
    base64, plain, both = (
        partial(_is_lent, jsonschema_rs.Draft7Validator({name: CONTENT[name] for name in names}))
        for names in (["contentEncoding"], ["contentMediaType"], list(CONTENT))
    )
    return {
        **lent,
        **own,
        "contentEncoding": base64,
        "contentMediaType": plain,
        "contentBoth": lambda value: not base64(value) or both(value),
    }


# The keywords where jsonschema is not exact, or says less of an error than ``violations.py`` needs. The message of an
# error is never shown: it carries the name that is meant.


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(re.search(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield jsonschema.ValidationError(name)
        else:
            yield from validator.descend(value, allowed, path=name)


def _multiple_of(_validator: Any, step: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """Compare the decimals as they are written: 19.01 is a multiple of 0.01."""
    if isinstance(instance, int | float) and not isinstance(instance, bool):
        quotient = Fraction(Decimal(repr(instance))) / Fraction(Decimal(repr(step)))
        if quotient.denominator != 1:
            yield jsonschema.ValidationError("")


def _property_names(validator: Any, names: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    if IS_FALSE in names:
        if instance:
            yield jsonschema.ValidationError("", validator="enum", schema=names)
        return
    for name in instance:
        for error in validator.descend(name, names):
            yield jsonschema.ValidationError("", context=[error])


def _one_of(validator: Any, branches: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    errors = [list(validator.descend(instance, each, schema_path=number)) for number, each in enumerate(branches)]
    if sum(not each for each in errors) != 1:
        yield jsonschema.ValidationError("", context=[*chain.from_iterable(errors)])


def _required(_validator: Any, names: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        yield from (jsonschema.ValidationError(name) for name in names if name not in instance)


def _unique_items(_validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if unique and isinstance(instance, list) and len({_hashable(each) for each in instance}) < len(instance):
        yield jsonschema.ValidationError("")


def _hashable(value: Any) -> Any:
    """Give something that equals another of these if the JSON values do: 1 is 1.0, and neither is ``true``."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return frozenset((name, _hashable(each)) for name, each in value.items())
    return value


_OWN: Final = {
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
    "oneOf": _one_of,
    "propertyNames": _property_names,
    "required": _required,
    "uniqueItems": _unique_items,
}
_extend: Final[Callable[..., Any]] = jsonschema.validators.extend
_LISTERS: Final = {
    True: _extend(jsonschema.Draft4Validator, _OWN),
    False: _extend(jsonschema.Draft7Validator, _OWN),
}
"""By whether the dialect is draft 4: to it 1.0 is no integer, and ``exclusiveMaximum`` is true or false."""


@dataclass(frozen=True, slots=True)
class _Error:
    """An error of jsonschema, in the form that the other engine gives its own."""

    instance: Any
    instance_path: Sequence[str | int]
    schema_path: Sequence[str | int]
    kind: Any


_Kind: Final[Any] = jsonschema_rs.ValidationErrorKind
_BY_LIMIT: Final = {
    "exclusiveMaximum": _Kind.ExclusiveMaximum,
    "exclusiveMinimum": _Kind.ExclusiveMinimum,
    "maxItems": _Kind.MaxItems,
    "maxLength": _Kind.MaxLength,
    "maxProperties": _Kind.MaxProperties,
    "maximum": _Kind.Maximum,
    "minItems": _Kind.MinItems,
    "minLength": _Kind.MinLength,
    "minProperties": _Kind.MinProperties,
    "minimum": _Kind.Minimum,
}
_COUNTS: Final = frozenset({"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"})
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_BY_FORMAT: Final = {
    "contentEncoding": lambda: _Kind.ContentEncoding(content_encoding=CONTENT["contentEncoding"]),
    "contentMediaType": lambda: _Kind.ContentMediaType(content_media_type=CONTENT["contentMediaType"]),
    "contentBoth": lambda: _Kind.ContentMediaType(content_media_type=CONTENT["contentMediaType"]),
}


def _in_order(value: Any) -> Any:
    """Sort the names of objects, as the other engine shows them."""
    return json.loads(json.dumps(value, sort_keys=True))


class _Adapter:
    """Turns errors of jsonschema into those that ``violations.py`` has words for."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._patterns = patterns

    def adapted(self, error: Any) -> _Error:
        """Turn one error."""
        return _Error(error.instance, list(error.absolute_path), list(error.absolute_schema_path), self._kind(error))

    def _kind(self, error: Any) -> Any:
        value = error.validator_value
        match error.validator:
            case "enum" if IS_FALSE in error.schema:
                return _Kind.FalseSchema()
            case "additionalItems":
                return _Kind.AdditionalItems(limit=len(error.schema["items"]))
            case "additionalProperties":
                return _Kind.AdditionalProperties(unexpected=[error.message])
            case "anyOf" | "oneOf":
                return self._alternatives(error)
            case "contains":
                return _Kind.Contains()
            case "propertyNames":
                return _Kind.PropertyNames(error=self.adapted(error.context[0]))
            case "required":
                return _Kind.Required(property=error.message)
            case _:
                return self._of_value(error.validator, value, error.schema)

    def _of_value(self, keyword: str, value: Any, schema: Mapping[str, Any]) -> Any:
        match keyword:
            case "const":
                return _Kind.Constant(expected_value=_in_order(value))
            case "enum":
                return _Kind.Enum(options=_in_order(value))
            case "format":
                return _BY_FORMAT[value]() if value in _BY_FORMAT else _Kind.Format(format=value)
            case "multipleOf":
                return _Kind.MultipleOf(multiple_of=value)
            case "not":
                return _Kind.Not(schema=value)
            case "pattern":
                return _Kind.Pattern(pattern=self._patterns[value])
            case "type":
                return _Kind.Type(types=sorted([value] if isinstance(value, str) else value, key=_TYPES.index))
            case "uniqueItems":
                return _Kind.UniqueItems()
            case "maximum" | "minimum" if schema.get(exclusive := f"exclusive{keyword.capitalize()}") is True:
                return _BY_LIMIT[exclusive](limit=value)
            case _:
                return _BY_LIMIT[keyword](limit=int(value) if keyword in _COUNTS else value)

    def _alternatives(self, error: Any) -> Any:
        branches: list[list[_Error]] = [[] for _ in error.validator_value]
        for each in error.context:
            branches[each.relative_schema_path[0]].append(self.adapted(each))
        if error.validator == "anyOf":
            return _Kind.AnyOf(context=branches)
        return (_Kind.OneOfNotValid if all(branches) else _Kind.OneOfMultipleValid)(context=branches)


class PythonValidator:
    """One compiled schema; ``size`` estimates the bytes that it holds.

    A document that is nested too deeply for Python's stack is not valid; in a worker, none that the API takes is.
    """

    __slots__ = ("_adapter", "_lister", "_quick", "size")

    def __init__(self, document: dict[str, Any], dialect: Dialect) -> None:
        schema, for_code, patterns = rewritten(document, dialect)
        formats = jsonschema.FormatChecker(formats=())
        for name, check in _formats().items():
            formats.checks(name)(_of_texts(check))
        lister = _LISTERS[dialect is Dialect.DRAFT_4]
        self._lister: Any = lister(schema, format_checker=formats, registry=Registry())
        self._adapter = _Adapter(patterns)
        self._quick: Callable[[Any], Any] | None = None
        if for_code is not None:
            self._quick = fastjsonschema.compile(
                for_code,
                handlers=_NO_HANDLERS,
                formats=_formats(),
                use_default=False,
                detailed_exceptions=False,
            )
        self.size = _BASE_BYTES + _BYTES_FOR_EACH * len(json.dumps(schema))

    def is_valid(self, data: Any) -> bool:
        """Tell whether a document is valid."""
        try:
            if self._quick is None:
                return bool(self._lister.is_valid(data))
            self._quick(data)
        except (fastjsonschema.JsonSchemaException, RecursionError):
            return False
        return True

    def violations(self, data: Any, prefix: str = "data") -> list[Violation]:
        """List what is wrong with a document: at most 100, then how many more; empty if it is valid."""
        if self.is_valid(data):
            return []
        if not _is_encodable(data):
            return unencodable(data, prefix)
        try:
            errors = map(self._adapter.adapted, self._lister.iter_errors(data))
            found = describe(cast("Iterable[jsonschema_rs.ValidationError]", errors), data, prefix)
        except RecursionError:
            found = []
        return found or [Violation(prefix, "does not fit the schema, and can't be told where", "schema")]


def _of_texts(check: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or check(value)


def _is_encodable(data: Any) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _refuse_to_fetch(uri: str) -> Any:
    """Stand where fastjsonschema would open a URL; nothing that is written anew has one."""
    raise ValueError(uri)


_NO_HANDLERS: Final = dict.fromkeys(("http", "https", "ftp", "file", "data"), _refuse_to_fetch)


class PythonEngine:
    """The engine as the gate and the workers know it."""

    name = "python"
    dialects = OLD

    def refusals(self, document: dict[str, Any], dialect: Dialect) -> list[Violation]:
        """List what this engine would judge otherwise than ``rust``, or not within bounds."""
        if dialect not in self.dialects:
            return [Violation("schema/$schema", _LATER_DIALECT, "dialect")]
        outline = Outline(document, dialect)
        found = [each for location in outline for each in _pattern_refusals(location)]
        found += _chain_refusals(outline, dialect)
        if found:
            return found
        try:
            self.compile(document, dialect)
        except MemoryError:
            raise
        except Refused as refused:
            return [Violation("schema", refused.text, refused.reason)]
        except Exception:  # noqa: BLE001 -- whatever a library refuses is a finding, never a failure of ours
            return [Violation("schema", "is not taken by the python validator", "compile")]
        return []

    def compile(self, document: dict[str, Any], dialect: Dialect) -> PythonValidator:
        """Compile a schema that has passed the gate.

        Raises:
            Refused: if ``refusals()`` names its dialect or a pattern, as of one that was stored under another engine.
        """
        if dialect not in self.dialects:
            raise Refused("dialect", _LATER_DIALECT)
        return PythonValidator(document, Dialect(dialect))


PYTHON: Final = PythonEngine()


def _pattern_refusals(location: Location) -> Iterator[Violation]:
    schema = location.schema
    pattern, named, longest = schema.get("pattern"), schema.get("patternProperties"), schema.get("maxLength")
    if isinstance(pattern, str) and (refused := _refused(pattern, longest)):
        yield Violation(location.pointer("pattern"), refused.text, refused.reason)
    for name in named if isinstance(named, dict) else ():
        if refused := _refused(name):
            yield Violation(location.pointer("patternProperties", name), refused.text, refused.reason)


def _refused(pattern: str, longest: Any = None) -> Refused | None:
    try:
        translated(pattern, longest)
    except Refused as refused:
        return refused
    return None


def _chain_refusals(outline: Outline, dialect: Dialect) -> Iterator[Violation]:
    """Find schemas that lead back to themselves without a step into the document, or through too many others."""
    lengths: dict[int, int] = {}
    for location in outline:
        try:
            _measure(location.schema, outline, dialect, lengths)
        except _CircleError:
            yield Violation(location.pointer(), "refers to itself without a step into the document", "refCircle")
            return
        if lengths[id(location.schema)] > _MAX_CHAIN:
            text = f"applies more than {_MAX_CHAIN} schemas, one through the other, to the same value"
            yield Violation(location.pointer(), f"{text}: too many for the python validator", "refChain")
            return


class _CircleError(Exception):
    """A schema leads back to itself without a step into the document."""


def _measure(start: dict[str, Any], outline: Outline, dialect: Dialect, lengths: dict[int, int]) -> None:
    """Find the longest chain of schemas that apply to the same value, from a schema and from all that it leads to.

    Raises:
        _CircleError: if there is one without an end.
    """
    path: dict[int, tuple[list[dict[str, Any]], Iterator[dict[str, Any]]]] = {}
    step: dict[str, Any] | None = start
    while step is not None or path:
        if step is not None and id(step) not in lengths:
            if id(step) in path:
                raise _CircleError
            leads = list(_in_place(outline, step, dialect))
            path[id(step)] = leads, iter(leads)
        if not path:
            return
        here, (leads, rest) = next(reversed(path.items()))
        step = next(rest, None)
        if step is None:
            lengths[here] = 1 + max((lengths[id(each)] for each in leads), default=0)
            del path[here]


def _in_place(outline: Outline, schema: dict[str, Any], dialect: Dialect) -> Iterator[dict[str, Any]]:
    targets = outline.targets(schema)
    if targets:
        yield from (each for each in targets if isinstance(each, dict))
        return
    for tokens, inner in subschemas(schema, dialect):
        if tokens[0] in IN_PLACE and isinstance(inner, dict):
            yield inner
