"""Messages and the JSON-like values that bodies and views are made of."""

from __future__ import annotations

import base64
import functools
import typing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMessage,
    DescMessage,
    Message,
    message_from_json_value,
    message_to_json_value,
)
from protobuf.wkt import Struct

from schema_user.errors import Malformed, Violation
from schema_user.rpc.documents import too_deep

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=Message)

_WELL_KNOWN: Final = "google.protobuf."
_NOT_TAKEN: Final = (False, None)
_MOST_MESSAGES: Final = 2000
_BEYOND: Final = 2**63
"""Here the integers end that data may have."""


def taken(message: Message[Any], into: Any = None) -> dict[str, Any]:
    """Give a message as the members of a body.

    A member is there if the client set it. Of a field that can't tell (proto3 without ``optional``) an empty value
    counts as absent, unless the struct ``into`` requires the member: then it is for its rules to say what is wrong.

    Raises:
        Malformed: for a ``Struct`` that is not JSON, or for more messages in lists than any request needs: an empty one
            takes two bytes, so those of a whole body would keep everybody waiting for seconds.
    """
    return _taken(message, into, _Room())


class _Room:
    """How many messages in lists may still come, all lists together."""

    left = _MOST_MESSAGES

    def take(self, name: str, number: int) -> None:
        self.left -= number
        if self.left < 0:
            words = f"must not have more than {_MOST_MESSAGES} items"
            raise Malformed("FIELD_INVALID", f"{name} {words}", [Violation(name, words, "maxItems")])


def _taken(message: Message[Any], into: Any, room: _Room) -> dict[str, Any]:
    members = _members(_struct(into))
    found: dict[str, Any] = {}
    for field in message.desc().fields:
        name = field.json_name
        required, hint = members.get(name, _NOT_TAKEN)
        if field in message or (required and _is_plain(field)):
            found[name] = _value(field, message[field], hint, room)
    return found


def given(view: Any, kind: type[M]) -> M:
    """Give a view as a message; a member that the message doesn't know is left out.

    Raises:
        Unmet: for a document that is nested deeper than messages can be.
    """
    value = view if isinstance(view, dict) else msgspec.to_builtins(view)
    try:
        return message_from_json_value(kind, value, ignore_unknown_fields=True)
    except RecursionError:
        raise too_deep() from None


def _is_plain(field: DescField) -> bool:
    return not isinstance(field.value, (DescFieldValueMessage, DescFieldValueList))


def _value(field: DescField, value: Any, hint: Any, room: _Room) -> Any:
    match field.value:
        case DescFieldValueList(element=element):
            if isinstance(element, DescMessage):
                room.take(field.json_name, len(value))
            item = _item(hint)
            return [_element(element, each, item, room) for each in value]
        case DescFieldValueMessage(message=message):
            return _element(message, value, hint, room)
        case DescFieldValueEnum(enum=enum):
            return _element(enum, value, hint, room)
        case _:
            return _element(None, value, hint, room)


def _element(kind: Any, value: Any, hint: Any, room: _Room) -> Any:
    if isinstance(kind, DescMessage):
        return _well_known(value) if kind.type_name.startswith(_WELL_KNOWN) else _taken(value, hint, room)
    if isinstance(kind, DescEnum):
        return next((each.name for each in kind.values if each.number == value), int(value))
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _well_known(message: Message[Any]) -> Any:
    try:
        value = message_to_json_value(message)
    except (ValueError, RecursionError):
        raise Malformed(
            "REQUEST_INVALID", "a value is not JSON", [Violation("", "has a number that is not finite", "range")]
        ) from None
    return integral(value) if isinstance(message, Struct) else value


def integral(value: Any) -> Any:
    """Give a JSON value with its doubles that are integers as such: a ``Struct`` knows no others."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _BEYOND:
        return int(value)
    if isinstance(value, dict):
        return {name: integral(member) for name, member in value.items()}
    return [integral(member) for member in value] if isinstance(value, list) else value


def _struct(hint: Any) -> type[msgspec.Struct] | None:
    options = typing.get_args(hint) or (hint,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


@functools.cache
def _members(struct: type[msgspec.Struct] | None) -> Mapping[str, tuple[bool, Any]]:
    """Give the members of a struct by their names in JSON: whether each is required, and its type."""
    if struct is None:
        return {}
    hints = typing.get_type_hints(struct)
    return {field.encode_name: (field.required, hints[field.name]) for field in msgspec.structs.fields(struct)}


def _item(hint: Any) -> Any:
    """Give the type of the items of a list, or of the list among several types."""
    options = (hint,) if typing.get_origin(hint) is list else typing.get_args(hint)
    return next((typing.get_args(each)[0] for each in options if typing.get_origin(each) is list), None)
