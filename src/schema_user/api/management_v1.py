"""People on the wire of the first generation's management API: profile and email address, each replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from schema_user import human
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v2.bodies import Gender, Short
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.users import DoneView, done, target

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

_PREFIX: Final = "/management/v1"
_ONE: Final = "/users/{user_id:str}"
_COMMON: Final[dict[str, Any]] = {
    "tag": "People (management v1)",
    "permission": "user.write",
    "view": DoneView,
    "query": {"validateOnly": "true: check everything, store and send nothing."},
    "conditional": True,
    "keyed": True,
}


class ReplaceProfileBody(Body, kw_only=True):
    """A person's whole profile: what is absent is cleared, but the display name, which stays."""

    first_name: Short
    last_name: Short
    nick_name: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    display_name: Short | None = None
    preferred_language: Annotated[str, msgspec.Meta(max_length=10)] | None = None
    gender: Gender = Gender.UNSPECIFIED


class ReplaceEmailBody(Body, kw_only=True):
    """A person's email address."""

    email: Short
    is_email_verified: bool = False


@operation(
    "PUT",
    _PREFIX + _ONE + "/profile",
    _ONE + "/profile",
    summary="Replace a person's profile",
    body=ReplaceProfileBody,
    faults=(404, 409, 412),
    example={
        "firstName": "Minnie",
        "lastName": "Mouse",
        "nickName": "Mini",
        "displayName": "Minnie Mouse",
        "preferredLanguage": "en",
        "gender": "GENDER_FEMALE",
    },
    **_COMMON,
)
async def replace_human_profile(call: Call, body: ReplaceProfileBody) -> Answer:
    """Replace the profile, in the caller's own organization unless `x-zitadel-orgid` names one.

    What changes nothing is refused (`USER_UNCHANGED`), and so is a user of another schema than `human`.
    """
    given = {
        "givenName": body.first_name,
        "familyName": body.last_name,
        "nickName": body.nick_name,
        "displayName": body.display_name,
        "preferredLanguage": body.preferred_language,
        "gender": None if body.gender is Gender.UNSPECIFIED else body.gender.value,
    }
    profile = {name: value for name, value in given.items() if value is not None}
    return done(await human.replace_profile(call.wiring, target(call), profile))


@operation(
    "PUT",
    _PREFIX + _ONE + "/email",
    _ONE + "/email",
    summary="Replace a person's email",
    body=ReplaceEmailBody,
    faults=(404, 409, 412, 429),
    example={"email": "gigi@example.com", "isEmailVerified": True},
    **_COMMON,
)
async def replace_human_email(call: Call, body: ReplaceEmailBody) -> Answer:
    """Replace the email address, in the caller's own organization unless `x-zitadel-orgid` names one.

    A new address is sent a code unless `isEmailVerified`; the same one is verified by that, and refused otherwise
    (`USER_UNCHANGED`), and so is a user of another schema than `human`.
    """
    command = human.replace_email(call.wiring, target(call), body.email, is_verified=body.is_email_verified)
    return done(await command)


ROUTES: list[HTTPRouteHandler] = [replace_human_profile, replace_human_email]
