"""What JSON may not say twice, where the library that reads messages would take the last word in silence."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from protobuf import DescFieldValueList, DescFieldValueMessage, DescMessage

from schema_user.api.body import refused
from schema_user.api.v3alpha.contact_bodies import alternatives
from schema_user.domain.document import pointer
from schema_user.errors import Violation

if TYPE_CHECKING:
    from protobuf import DescField

    from schema_user.errors import Malformed

_WELL_KNOWN: Final = "google.protobuf."


def require_said_once(text: bytes | bytearray, message: DescMessage) -> None:
    """Refuse a message in JSON that gives a member twice, under one name or both of its names, or two alternatives.

    Raises:
        Malformed: naming what is there twice, or both alternatives.
    """
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is refused by who reads it
        _look(json.loads(text, object_pairs_hook=_Members), message, ())


class _Members(dict[str, Any]):
    """The members of an object, and which of their names came again."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise _twice(twice)


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
            raise _twice(*at, field.json_name)
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


def _twice(*at: str | int) -> Malformed:
    return refused([Violation(pointer(*at), "is given twice", "duplicateKey")])
