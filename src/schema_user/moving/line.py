"""What every converter makes: lines of an import, and words about what has no place there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

Json = dict[str, Any]


class NotAnExport(ValueError):
    """The file is not what the service exports; the text says where it differs."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One user as a line of an import, and what of it is left behind, in words without its values."""

    line: Json
    left: tuple[str, ...] = ()


def is_object(value: Any) -> TypeGuard[Json]:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def as_object(value: Any, name: str) -> Json:
    """Give a value that must be an object, or be absent.

    Raises:
        NotAnExport: if it is anything else.
    """
    if value is None:
        return {}
    if not is_object(value):
        message = f"{name} must be an object"
        raise NotAnExport(message)
    return value


def as_list(value: Any, name: str) -> list[Any]:
    """Give a value that must be a list, or be absent.

    Raises:
        NotAnExport: if it is anything else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        message = f"{name} must be a list"
        raise NotAnExport(message)
    return value


def address(name: str, value: Any, *, verified: bool) -> Json | None:
    """Write an address down as a line has it: ``name`` is ``address`` or ``number``."""
    if not isinstance(value, str) or not value:
        return None
    return {name: value, "isVerified": True} if verified else {name: value}


def contact(email: Json | None, phone: Json | None) -> Json | None:
    """Write both addresses down, if there is one."""
    found = {key: value for key, value in (("email", email), ("phone", phone)) if value is not None}
    return found or None


def password(encoded: Any, *, change_required: bool = False) -> Json | None:
    """Write down the hash of a password, in Modular Crypt Format."""
    if not isinstance(encoded, str) or not encoded:
        return None
    return {"hash": encoded} | ({"changeRequired": True} if change_required else {})


def compact(line: Json) -> Json:
    """Leave out what is absent."""
    return {key: value for key, value in line.items() if value is not None}
