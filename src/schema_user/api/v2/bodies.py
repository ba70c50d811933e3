"""What the operations for people take: a profile field by field, and addresses under names of their own."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from schema_user.api.body import refused
from schema_user.api.v3alpha.contact_bodies import Body, ReturnCodeBody, SendCodeBody, alternatives
from schema_user.api.v3alpha.password_bodies import (
    HashedPasswordBody,
    PasswordBody,
    ProvenPasswordBody,
    new_password,
    proven_password,
)
from schema_user.api.v3alpha.users import OrganizationBody
from schema_user.domain.contact import Channel, IsVerified, ReturnCode, SendCode, Unverified, Verification
from schema_user.errors import Violation
from schema_user.human import UpdateHuman, email_wish, phone_wish

if TYPE_CHECKING:
    from schema_user.commands.contacts import AddressWish
    from schema_user.commands.passwords import PasswordWish

Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Long = Annotated[str, msgspec.Meta(max_length=200)]
_Language = Annotated[str, msgspec.Meta(max_length=10)]


class Gender(enum.StrEnum):
    """What a person says of its gender."""

    UNSPECIFIED = "GENDER_UNSPECIFIED"
    FEMALE = "GENDER_FEMALE"
    MALE = "GENDER_MALE"
    DIVERSE = "GENDER_DIVERSE"


class HumanProfileBody(Body, kw_only=True):
    """What a person is called; in an update, what is absent stays as it is."""

    given_name: Short
    family_name: Short
    nick_name: _Long | None = None
    display_name: _Long | None = None
    preferred_language: _Language | None = None
    gender: Gender | None = None

    def fields(self) -> dict[str, str]:
        """Give the members that are there, by their names on the wire, which are those in the data."""
        given = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        return {name: str(value) for name, field in given if (value := getattr(self, field)) is not None}


class _AlternativesBody(Body, kw_only=True):
    send_code: SendCodeBody | None = None
    return_code: ReturnCodeBody | None = None
    is_verified: bool | None = None


class HumanEmailBody(_AlternativesBody, kw_only=True):
    """An email address, and how it is verified; without an alternative a code is sent."""

    email: Short


class HumanPhoneBody(_AlternativesBody, kw_only=True):
    """A phone number, and how it is verified; without an alternative a code is sent. An empty one is removed."""

    phone: _Long


class SetEmailBody(_AlternativesBody, kw_only=True):
    """An email address, and how it is verified; without an alternative a code is sent."""

    email: Short


class SetPhoneBody(_AlternativesBody, kw_only=True):
    """A phone number, and how it is verified; without an alternative a code is sent."""

    phone: Short


class HumanPasswordBody(ProvenPasswordBody, kw_only=True):
    """A new password, and what proves that it may be set; ``user.write`` needs no proof."""

    password: PasswordBody | None = None


class CreateHumanBody(Body, kw_only=True):
    """A new person."""

    user_id: Short | None = None
    username: Short | None = None
    organization: OrganizationBody | None = None
    profile: HumanProfileBody
    email: HumanEmailBody
    phone: HumanPhoneBody | None = None
    password: PasswordBody | None = None
    hashed_password: HashedPasswordBody | None = None


class UpdateHumanBody(Body, kw_only=True):
    """What shall change of a person; what is absent stays as it is."""

    username: Short | None = None
    profile: HumanProfileBody | None = None
    email: HumanEmailBody | None = None
    phone: HumanPhoneBody | None = None
    password: HumanPasswordBody | None = None


def _verification(body: _AlternativesBody, at: str, found: list[Violation]) -> Verification | None:
    given = {"sendCode": body.send_code, "returnCode": body.return_code, "isVerified": body.is_verified}
    found.extend(alternatives(at, given))
    if body.is_verified is not None:
        return IsVerified() if body.is_verified else Unverified()
    if body.return_code is not None:
        return ReturnCode()
    return None if body.send_code is None else SendCode(body.send_code.url_template)


def _phone(body: HumanPhoneBody | None, found: list[Violation]) -> AddressWish | None:
    """Read a number that is not empty; an empty one has nothing that could be verified."""
    if body is None:
        return None
    wish = phone_wish(body.phone, _verification(body, "phone/", found))
    if body.phone:
        return wish
    given = {"sendCode": body.send_code, "returnCode": body.return_code, "isVerified": body.is_verified}
    found.extend(
        Violation(f"phone/{name}", "needs a phone number that is not empty", "alternatives")
        for name, value in given.items()
        if value is not None
    )
    return None


class CreatedHuman(NamedTuple):
    """What the body of a creation says beside the profile."""

    email: AddressWish
    phone: AddressWish | None
    password: PasswordWish | None


def created_human(body: CreateHumanBody) -> CreatedHuman:
    """Read the addresses and the password of a new person.

    Raises:
        Malformed: for two alternatives at once.
    """
    found: list[Violation] = []
    email = email_wish(body.email.email, _verification(body.email, "email/", found))
    phone = _phone(body.phone, found)
    password = new_password(body.password, body.hashed_password, "password", found)
    if found:
        raise refused(found)
    return CreatedHuman(email, phone, password)


def updated_human(body: UpdateHumanBody) -> UpdateHuman:
    """Read an update of a person.

    Raises:
        Malformed: for two alternatives at once.
    """
    found: list[Violation] = []
    wishes = []
    if body.email is not None:
        wishes.append(email_wish(body.email.email, _verification(body.email, "email/", found)))
    if (phone := _phone(body.phone, found)) is not None:
        wishes.append(phone)
    password = None
    if body.password is not None:
        password = proven_password(body.password, body.password.password, "password", found, "password/")
    if found:
        raise refused(found)
    return UpdateHuman(
        username=body.username,
        profile={} if body.profile is None else body.profile.fields(),
        wishes=tuple(wishes),
        password=password,
        remove=frozenset({Channel.PHONE}) if body.phone is not None and not body.phone.phone else frozenset(),
    )


def set_wish(body: SetEmailBody | SetPhoneBody) -> AddressWish:
    """Read the one address that is set.

    Raises:
        Malformed: for two alternatives at once, or ``isVerified: false``.
    """
    found: list[Violation] = []
    verification = _verification(body, "", found)
    if body.is_verified is False:
        found.append(Violation("isVerified", "must be true or absent", "const"))
    if found:
        raise refused(found)
    if isinstance(body, SetEmailBody):
        return email_wish(body.email, verification, at="")
    return phone_wish(body.phone, verification, at="")
