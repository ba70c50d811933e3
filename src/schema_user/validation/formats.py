"""The formats that are asserted, in every dialect alike.

They are those of the specification of 2020-12, and ``phone``. An older dialect's engine doesn't know the later ones:
they are lent from 2020-12. Any other format is an annotation.
"""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import jsonschema_rs
import phonenumbers

from schema_user.validation.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING_IN_7: Final = frozenset({"duration", "uuid"})
_MISSING_IN_6: Final = _MISSING_IN_7 | {"idn-hostname", "iri", "iri-reference", "relative-json-pointer"}
_MISSING_IN_4: Final = _MISSING_IN_6 | {"json-pointer", "uri-reference", "uri-template"}
_MISSING: Final = {
    Dialect.DRAFT_4: _MISSING_IN_4,
    Dialect.DRAFT_6: _MISSING_IN_6,
    Dialect.DRAFT_7: _MISSING_IN_7,
}
_OF_2020_12: Final = frozenset({
    "date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri",
    "iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference", "uri-template",
    "uuid",
})  # fmt: skip
FORMATS: Final = _OF_2020_12 | {"phone"}

_PHONE: Final = re.compile(r"\+[0-9][0-9 ().-]{1,30}")


def is_phone(value: str) -> bool:
    """Tell whether a text is an international number, with its leading ``+``, that could exist (ITU-T E.164)."""
    if not _PHONE.fullmatch(value):
        return False
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        return False


def _is_lent(validator: jsonschema_rs.Validator, value: str) -> bool:
    try:
        return validator.is_valid(value)
    except ValueError:  # a lone surrogate, which fits no format
        return False


@cache
def checkers(dialect: Dialect) -> Mapping[str, Callable[[str], bool]]:
    """Give the formats that the engine must be lent for a dialect. None of them raises."""
    lent = {
        name: partial(_is_lent, jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True))
        for name in _MISSING.get(dialect, ())
    }
    return {"phone": is_phone, **lent}
