"""Contacts on the wire: the same body for email and phone but for the name of the address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user.api.body import refused
from schema_user.commands.contacts import AddressWish
from schema_user.domain.contact import Channel, IsVerified, ReturnCode, SendCode, Verification
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence


class Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The base of everything that is taken: lowerCamelCase, unknown fields refused, null is absent."""


UrlTemplate = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        description="Where the message's link leads; placeholders {{.UserID}}, {{.OrgID}}, {{.Code}}.",
    ),
]


class SendCodeBody(Body, kw_only=True):
    """The service sends the code."""

    url_template: UrlTemplate | None = None


class ReturnCodeBody(Body, kw_only=True):
    """The code comes back in the answer; needs user.write."""


class _AlternativesBody(Body, kw_only=True):
    send_code: SendCodeBody | None = None
    return_code: ReturnCodeBody | None = None
    is_verified: (
        Annotated[bool, msgspec.Meta(description="true: the address counts as verified; needs user.write.")] | None
    ) = None


class EmailBody(_AlternativesBody, kw_only=True):
    """An email address, and how it is verified; without an alternative a code is sent."""

    address: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class PhoneBody(_AlternativesBody, kw_only=True):
    """A phone number, and how it is verified; without an alternative a code is sent."""

    number: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


class ContactBody(Body, kw_only=True):
    """Where the user can be reached; what is absent stays as it is."""

    email: EmailBody | None = None
    phone: PhoneBody | None = None


class ResendBody(Body, kw_only=True):
    """How another code is delivered; without an alternative it is sent."""

    send_code: SendCodeBody | None = None
    return_code: ReturnCodeBody | None = None


Code = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
"""A code that a user gives back."""


class VerifyBody(Body, kw_only=True):
    """The code that was received."""

    verification_code: Code


def alternatives(at: str, given: dict[str, Any]) -> list[Violation]:
    """Refuse two of several alternatives at once, and name them."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) <= 1:
        return []
    words = "cannot stand beside " + ", ".join(named[:-1])
    return [Violation(at + named[-1], words, "alternatives")]


def _verification(body: _AlternativesBody, at: str, found: list[Violation]) -> Verification | None:
    if body.send_code is not None or body.return_code is not None:
        given = {"sendCode": body.send_code, "returnCode": body.return_code, "isVerified": body.is_verified}
        found.extend(alternatives(at, given))
    if body.is_verified is False:
        found.append(Violation(at + "isVerified", "must be true or absent", "const"))
    if body.is_verified:
        return IsVerified()
    if body.return_code is not None:
        return ReturnCode()
    return None if body.send_code is None else SendCode(body.send_code.url_template)


def wishes(bodies: Sequence[tuple[str, EmailBody | PhoneBody | None]]) -> tuple[AddressWish, ...]:
    """Turn bodies into wishes; each comes with the pointer of its object, which ends in a slash unless it is the root.

    Raises:
        Malformed: for two alternatives at once, or ``isVerified: false``.
    """
    found: list[Violation] = []
    made = []
    for at, body in bodies:
        if isinstance(body, EmailBody):
            made.append(AddressWish(Channel.EMAIL, body.address, _verification(body, at, found), at))
        elif body is not None:
            made.append(AddressWish(Channel.PHONE, body.number, _verification(body, at, found), at))
    if found:
        raise refused(found)
    return tuple(made)


def contact_wishes(body: ContactBody | None) -> tuple[AddressWish, ...]:
    """Turn the contact of a create or update into wishes."""
    return () if body is None else wishes([("contact/email/", body.email), ("contact/phone/", body.phone)])


def resend_verification(body: ResendBody) -> SendCode | ReturnCode:
    """Read how another code is delivered.

    Raises:
        Malformed: for two alternatives at once.
    """
    found = alternatives("", {"sendCode": body.send_code, "returnCode": body.return_code})
    if found:
        raise refused(found)
    if body.return_code is not None:
        return ReturnCode()
    return SendCode(None if body.send_code is None else body.send_code.url_template)
