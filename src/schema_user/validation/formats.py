"""The formats that are asserted, in every dialect alike.

They are those of the specification of 2020-12, and ``phone``. An older dialect's engine doesn't know the later ones:
they are lent from 2020-12. An email address and a phone number are what they are in a user's contact
(``domain/contact.py``). Any other format is an annotation.
"""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import jsonschema_rs

from schema_user.domain.contact import normalise_email, normalise_phone
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

MAX_ADDRESS: Final = 254
"""Characters of an email address (RFC 5321, 4.5.3.1.3, less its brackets); a longer text is not looked at further."""
_PLAIN_ADDRESS: Final = re.compile(
    r"[a-z0-9_]+(?:[.+-][a-z0-9_]+)*@(?:[a-z0-9]{1,60}\.){1,3}[a-z]{2,20}", re.ASCII | re.IGNORECASE
)
"""What most addresses look like: they need none of the library's work, which takes 0.03 ms for the shortest."""
_PLAIN_LOCAL: Final = 64
_PHONE: Final = re.compile(r"\+[0-9][0-9 ().-]{1,30}")


class UndecidedError(ValueError):
    """It would take longer to tell than this process has."""


def is_email(value: str) -> bool:
    """Tell whether a text is an email address, as it is for a user's contact: without a display name or quotes.

    A plain one takes 2 µs, international ones up to 11 ms.
    """
    if _is_plain(value):
        return True
    return len(value) <= MAX_ADDRESS and normalise_email(value) is not None


def is_plain_email(value: str) -> bool:
    """Tell what can be told at once of whether a text is an email address: within 20 µs.

    Raises:
        UndecidedError: if it may be one that needs a closer look.
    """
    if _is_plain(value):
        return True
    if len(value) > MAX_ADDRESS or "@" not in value:
        return False
    raise UndecidedError


def _is_plain(value: str) -> bool:
    at = value.find("@", 0, MAX_ADDRESS)
    return 0 < at <= _PLAIN_LOCAL and len(value) <= MAX_ADDRESS and _PLAIN_ADDRESS.fullmatch(value) is not None


def is_phone(value: str) -> bool:
    """Tell whether a text is an international number that could exist (ITU-T E.164), as for a user's contact.

    Data is kept as it was written, so it must be written plainly: one ``+`` in front, ASCII digits, no extension.
    """
    return _PHONE.fullmatch(value) is not None and normalise_phone(value, None) is not None


def _is_lent(validator: jsonschema_rs.Validator, value: str) -> bool:
    return validator.is_valid(value)


def _safe(judge: Callable[[str], bool]) -> Callable[[str], bool]:
    """Let a format answer no where it fails: an engine that asks it can tell nobody of an error."""

    def answer(value: str) -> bool:
        try:
            return judge(value)
        except Exception:  # noqa: BLE001 -- a lone surrogate, and whatever a library has not thought of
            return False

    return answer


OWN: Final[Mapping[str, Callable[[str], bool]]] = {"email": _safe(is_email), "phone": _safe(is_phone)}
"""The formats that no engine has, or that no engine judges as contacts are; none of them raises."""


@cache
def checkers(dialect: Dialect, *, quick: bool = False) -> Mapping[str, Callable[[str], bool]]:
    """Give the formats that the engine must be lent for a dialect.

    None of them raises; but ``quick``, where validation must not take long, lets UndecidedError through, which makes
    the engine stop: whatever stands around the format, such as ``not``, the document is neither valid nor invalid.
    """
    lent = {
        name: _safe(partial(_is_lent, jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True)))
        for name in _MISSING.get(dialect, ())
    }
    return {**OWN, **lent, "email": is_plain_email} if quick else {**OWN, **lent}
