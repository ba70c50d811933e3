"""What JSON may not say twice, where the library that reads messages would take the last word in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from protobuf import DescFieldValueList, DescFieldValueMessage, DescMessage

from schema_user.api.body import refused, repeated
from schema_user.api.v3alpha.contact_bodies import alternatives
from schema_user.domain.document import pointer
from schema_user.errors import Violation

if TYPE_CHECKING:
    from protobuf import DescField

_WELL_KNOWN: Final = "google.protobuf."
_LEVELS: Final = 100
"""How deep the library reads."""


def require_said_once(text: bytes, message: DescMessage) -> None:
    """Refuse a message in JSON that gives a member twice, under one name or both of its names, or two alternatives.

    Raises:
        Malformed: naming what is there twice, or both alternatives.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return  # what is no JSON is refused by who reads it
    found = repeated(text, value, _LEVELS)
    if found:
        raise refused(found)
    _look(value, message, ())


def _look(value: Any, message: DescMessage, at: tuple[str | int, ...]) -> None:
    if not isinstance(value, dict) or message.type_name.startswith(_WELL_KNOWN):
        return
    given = {field.number: _member(value, field, at) for field in message.fields}
    for oneof in message.oneofs:
        found = alternatives(pointer(*at, ""), {field.json_name: given[field.number] for field in oneof.fields})
        if found:
            raise refused(found)
    for field in message.fields:
        _look_into(field, given[field.number], (*at, field.json_name))


def _member(value: dict[str, Any], field: DescField, at: tuple[str | int, ...]) -> Any:
    if field.name != field.json_name and field.name in value:
        if field.json_name in value:
            raise refused([Violation(pointer(*at, field.json_name), "is given twice", "duplicateKey")])
        return value[field.name]
    return value.get(field.json_name)


def _look_into(field: DescField, value: Any, at: tuple[str | int, ...]) -> None:
    match field.value:
        case DescFieldValueMessage(message=message):
            _look(value, message, at)
        case DescFieldValueList(element=DescMessage() as element) if isinstance(value, list):
            for index, each in enumerate(value):
                _look(each, element, (*at, index))
        case _:
            pass
