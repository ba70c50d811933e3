"""Which documents a message can carry: a ``Struct`` knows no integers, only doubles, and nests less deep than JSON."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Final

from schema_user.domain.document import pointer
from schema_user.errors import Unmet, Violation

_INEXACT: Final = "is an integer that no double is equal to"
_LONG: Final = re.compile(rb"\d{16}")
"""What an integer beyond 2^53 has in it."""
_LONGEST: Final = 300
"""Characters of an integer that is a double at all."""


def carried(members: dict[str, Any]) -> dict[str, Any]:
    """Give the members of an answer as they are, if a message can carry them.

    Raises:
        Unmet: ``DATA_NOT_REPRESENTABLE``, for an integer that no double is equal to, wherever in there it is.
    """
    found: list[Violation] = []
    _look(members, (), found)
    if found:
        raise Unmet("DATA_NOT_REPRESENTABLE", f"{found[0].field} {_INEXACT}", found)
    return members


def _look(value: Any, at: tuple[str | int, ...], found: list[Violation]) -> None:
    kind = type(value)
    if kind is int and int(float(value)) != value:
        found.append(Violation(pointer(*at), _INEXACT, "exact"))
    elif kind is dict:
        for name, member in value.items():
            _look(member, (*at, name), found)
    elif kind is list:
        for index, member in enumerate(value):
            _look(member, (*at, index), found)


def too_deep() -> Unmet:
    """Give the fault of a document that is nested deeper than a message can be."""
    return Unmet("DATA_NOT_REPRESENTABLE", "a document is nested deeper than a message can carry")


def require_exact(text: bytes | bytearray) -> None:
    """Refuse a message in JSON with an integer that no double is equal to: its ``Struct`` would change in silence.

    Raises:
        Unmet: ``DATA_NOT_REPRESENTABLE``.
    """
    if _LONG.search(text) is None:
        return
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is refused by who reads it
        json.loads(text, parse_int=_exact)


def _exact(text: str) -> int:
    if len(text) > _LONGEST or int(text) != int(float(text)):
        raise Unmet("DATA_NOT_REPRESENTABLE", f"a number in the message {_INEXACT}")
    return 0
