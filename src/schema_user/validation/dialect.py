"""The dialects of JSON Schema that are taken, and where each of them has schemas."""

from __future__ import annotations

import enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Dialect(enum.StrEnum):
    """A dialect by its usual name."""

    DRAFT_4 = "draft-04"
    DRAFT_6 = "draft-06"
    DRAFT_7 = "draft-07"
    DRAFT_2019_09 = "2019-09"
    DRAFT_2020_12 = "2020-12"

    @property
    def uri(self) -> str:
        """The metaschema's identifier, as its specification spells it."""
        if self in OLD:
            return f"http://json-schema.org/{self}/schema#"
        return f"https://json-schema.org/draft/{self}/schema"

    @property
    def id_keyword(self) -> str:
        """The keyword that gives a schema its identifier."""
        return "id" if self is Dialect.DRAFT_4 else "$id"


OLD: Final = frozenset({Dialect.DRAFT_4, Dialect.DRAFT_6, Dialect.DRAFT_7})
"""The dialects where ``$ref`` hides its siblings."""

_OWN: Final = "urn:zitadel:schema:v1"
_BY_NAME: Final = {each.uri.partition("://")[2].removesuffix("#"): each for each in Dialect}

_MAPS: Final = frozenset({"properties", "patternProperties", "definitions", "dependencies"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf"})
_SINGLES: Final = frozenset({"additionalProperties", "not"})
_LATER_SINGLES: Final = frozenset({"if", "then", "else"})
_NEW_MAPS: Final = frozenset({"$defs", "dependentSchemas"})
_NEW_SINGLES: Final = frozenset({"unevaluatedItems", "unevaluatedProperties", "contentSchema"})


def dialect_named(name: object) -> Dialect | None:
    """Find the dialect that a ``$schema`` names: http or https, with or without the trailing ``#``."""
    if name == _OWN:
        return Dialect.DRAFT_2020_12
    if not isinstance(name, str) or not name.startswith(("http://", "https://")):
        return None
    return _BY_NAME.get(name.partition("://")[2].removesuffix("#"))


def dialect_of(document: Mapping[str, Any]) -> Dialect | None:
    """Find the dialect of a document; one that names none is of 2020-12."""
    return dialect_named(document["$schema"]) if "$schema" in document else Dialect.DRAFT_2020_12


def _keywords(dialect: Dialect) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    maps, lists, singles = _MAPS, _LISTS, _SINGLES
    if dialect is not Dialect.DRAFT_2020_12:
        singles |= {"additionalItems", "items"}
        lists |= {"items"}
    else:
        singles |= {"items"}
        lists |= {"prefixItems"}
    if dialect is not Dialect.DRAFT_4:
        singles |= {"contains", "propertyNames"}
    if dialect not in {Dialect.DRAFT_4, Dialect.DRAFT_6}:
        singles |= _LATER_SINGLES
    if dialect not in OLD:
        maps |= _NEW_MAPS
        singles |= _NEW_SINGLES
    return maps, lists, singles


_BY_DIALECT: Final = {each: _keywords(each) for each in Dialect}
IN_PLACE: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "dependencies"}
)
"""The keywords whose schemas apply to the same value as the schema that holds them."""


def subschemas(schema: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Give each schema directly inside, with its path from here; what is no schema there, the metaschema reports."""
    maps, lists, singles = _BY_DIALECT[dialect]
    for keyword, value in schema.items():
        if isinstance(value, dict) and keyword in maps:
            for name, inner in value.items():
                if isinstance(inner, dict | bool):
                    yield (keyword, name), inner
        elif isinstance(value, list) and keyword in lists:
            for index, inner in enumerate(value):
                if isinstance(inner, dict | bool):
                    yield (keyword, index), inner
        elif isinstance(value, dict | bool) and keyword in singles:
            yield (keyword,), value


def alone(schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Copy a schema with the ones inside it emptied, and long lists cut: what is left is its own, and small."""
    maps, lists, singles = _BY_DIALECT[dialect]
    own: dict[str, Any] = {}
    for keyword, value in schema.items():
        if isinstance(value, dict) and keyword in singles:
            own[keyword] = {}
        elif isinstance(value, dict) and keyword in maps:
            own[keyword] = {name: _emptied(each) for name, each in islice(value.items(), _CUT)}
        elif isinstance(value, list):
            own[keyword] = [_emptied(each) if keyword in lists else each for each in value[:_CUT]]
        else:
            own[keyword] = value
    return own


def _emptied(value: Any) -> Any:
    return {} if isinstance(value, dict) else value


_CUT: Final = 200
