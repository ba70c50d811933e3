"""People on the wire of v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user import human
from schema_user.api.details import details
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v2.bodies import (
    CreateHumanBody,
    SetEmailBody,
    SetPhoneBody,
    UpdateHumanBody,
    created_human,
    set_wish,
    updated_human,
)
from schema_user.api.v2.search import ListHumansBody, page_of, query_of
from schema_user.api.v2.views import CreatedHumanView, GotHumanView, ListedHumansView, human_view
from schema_user.api.v3alpha.contact_bodies import ResendBody, VerifyBody, resend_verification
from schema_user.api.v3alpha.password_bodies import ResetPasswordBody, SetPasswordBody, reset_command
from schema_user.api.v3alpha.password_bodies import set_wish as set_password_wish
from schema_user.api.v3alpha.passwords import reset
from schema_user.api.v3alpha.search_bodies import search_details
from schema_user.api.v3alpha.users import (
    ChangedView,
    DoneView,
    VerificationView,
    acting_organization,
    changed,
    done,
    target,
)
from schema_user.commands import contacts, password_resets, passwords, users
from schema_user.domain.contact import Channel
from schema_user.domain.user import Transition

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.commands.change import Decision, Target

_PATH: Final = "/v2/users"
_ONE: Final = _PATH + "/{user_id:str}"
_TAG: Final = "People (v2)"
_CHECKS: Final = {"validateOnly": "true: check everything, store and send nothing."}
_PROFILE: Final = {
    "givenName": "Minnie",
    "familyName": "Mouse",
    "nickName": "Mini",
    "displayName": "Minnie Mouse",
    "preferredLanguage": "en",
    "gender": "GENDER_FEMALE",
}
_OF_ITSELF: Final = "user.write, or the user itself"


def _target(call: Call) -> Target:
    return human.target_human(call.wiring, target(call))


@operation(
    "POST",
    _PATH + "/human",
    summary="Create a person",
    tag=_TAG,
    permission="user.write",
    body=CreateHumanBody,
    view=CreatedHumanView,
    status=201,
    keyed=True,
    query=_CHECKS,
    faults=(404, 409, 429),
    example={"profile": _PROFILE, "email": {"email": "mini@example.com", "returnCode": {}}},
)
async def create_human(call: Call, body: CreateHumanBody) -> Answer:
    """Create a user of the built-in schema `human`. Without `username` the email address is it.

    `password` is hashed; `hashedPassword` was hashed elsewhere, and its password need not obey the policy.
    """
    read = created_human(body)
    command = human.CreateHuman(
        profile=body.profile.fields(),
        email=read.email,
        phone=read.phone,
        password=read.password,
        organization_id=acting_organization(call, body.organization),
        user_id=body.user_id,
        username=body.username,
    )
    decision = await human.create_human(
        call.wiring,
        call.caller,
        command,
        validate_only=call.validate_only,
        request_id=call.request_id,
        once=call.once,
    )
    user, codes = decision.user, decision.codes
    view = CreatedHumanView(
        user_id=user.user_id,
        details=details(user, user.organization_id),
        email_code=codes.get(Channel.EMAIL),
        phone_code=codes.get(Channel.PHONE),
    )
    return Answer(view, user.sequence, replayed=decision.replayed)


@operation(
    "PUT",
    _PATH + "/human/{user_id:str}",
    summary="Update a person",
    tag=_TAG,
    permission=_OF_ITSELF,
    body=UpdateHumanBody,
    view=ChangedView,
    query=_CHECKS,
    faults=(404, 409, 412, 429),
    conditional=True,
    keyed=True,
    example={
        "username": "minnie-mouse",
        "profile": _PROFILE,
        "email": {"email": "mini@example.com", "returnCode": {}},
        "phone": {"phone": "+41791234567", "isVerified": True},
    },
)
async def update_human(call: Call, body: UpdateHumanBody) -> Answer:
    """Update a person: all of it or nothing. What is absent stays, within the profile too.

    `isVerified: false` stores an address unverified and sends nothing. An empty phone number removes it. A user of
    another schema than `human` is refused.
    """
    return changed(await human.update_human(call.wiring, target(call), updated_human(body)))


@operation(
    "GET",
    _ONE,
    summary="Get a person",
    tag=_TAG,
    permission="user.read, or the user itself",
    view=GotHumanView,
    faults=(404,),
    conditional=True,
)
async def get_human(call: Call) -> Answer:
    """Give a person. `If-None-Match` with the present ETag answers 304."""
    user = await human.get_human(call.wiring, call.caller, call.path["user_id"])
    return Answer(GotHumanView(details=details(user, user.organization_id), user=human_view(user)), user.sequence)


@operation(
    "DELETE",
    _ONE,
    summary="Delete a person",
    tag=_TAG,
    permission="user.delete",
    view=DoneView,
    faults=(404, 409, 412),
    conditional=True,
)
async def delete_human(call: Call) -> Answer:
    """Delete a person: profile, contact, username and codes are erased at once; the id is not used again."""
    return done(await users.delete_user(call.wiring, _target(call)))


@operation(
    "POST",
    _PATH,
    summary="List people",
    tag=_TAG,
    permission="user.read",
    body=ListHumansBody,
    view=ListedHumansView,
    optional_body=True,
    example={
        "query": {"limit": 10, "asc": True},
        "sortingColumn": "USER_FIELD_NAME_USER_NAME",
        "queries": [{"userNameQuery": {"userName": "mini", "method": "TEXT_QUERY_METHOD_STARTS_WITH_IGNORE_CASE"}}],
    },
)
async def list_humans(call: Call, body: ListHumansBody) -> Answer:
    """List the people of every organization where the caller holds `user.read`. Other users are not in it."""
    found = await human.search_humans(call.wiring, call.caller, query_of(body.queries), page_of(body))
    view = ListedHumansView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=body.sorting_column,
        result=[human_view(user) for user in found.items],
    )
    return Answer(view)


def _transition(transition: Transition) -> HTTPRouteHandler:
    async def move_human(call: Call, _body: EmptyBody) -> Answer:
        return done(await users.move_user(call.wiring, _target(call), transition))

    summary = f"{transition.capitalize()} a person"
    move_human.__name__ = f"{transition}_human"
    move_human.__doc__ = f"{summary}. Codes die with a state other than active; a wrong state is refused."
    return operation(
        "POST",
        f"{_ONE}/{transition}",
        summary=summary,
        tag=_TAG,
        permission="user.write",
        body=EmptyBody,
        view=DoneView,
        faults=(404, 409, 412),
        conditional=True,
        keyed=True,
        optional_body=True,
    )(move_human)


_COMMON: Final[dict[str, Any]] = {
    "tag": _TAG,
    "permission": _OF_ITSELF,
    "view": VerificationView,
    "faults": (404, 409, 412, 429),
    "conditional": True,
}


def _contact_routes(
    channel: Channel, body_type: type[SetEmailBody | SetPhoneBody], example: dict[str, Any], *again: str
) -> list[HTTPRouteHandler]:
    """Make the routes of one channel; there is no second copy for the other."""
    at = f"{_ONE}/{channel}"

    def answer(decision: Decision) -> Answer:
        user, code = decision.user, decision.codes.get(channel)
        view = VerificationView(details=details(user, user.organization_id), verification_code=code)
        return Answer(view, user.sequence, replayed=decision.replayed)

    async def set_address(call: Call, body: SetEmailBody | SetPhoneBody) -> Answer:
        command = users.UpdateUser(wishes=(set_wish(body),))
        return answer(await users.update_user(call.wiring, _target(call), command))

    async def verify_address(call: Call, body: VerifyBody) -> Answer:
        command = contacts.VerifyContact(channel, body.verification_code)
        return done(await contacts.verify_contact(call.wiring, _target(call), command))

    async def resend_code(call: Call, body: ResendBody) -> Answer:
        command = contacts.ResendCode(channel, resend_verification(body))
        return answer(await contacts.resend_code(call.wiring, _target(call), command))

    set_address.__name__ = f"set_human_{channel}"
    set_address.__doc__ = f"Set the {channel}, as an update would."
    verify_address.__name__ = f"verify_human_{channel}"
    verify_address.__doc__ = f"Verify the {channel} by its code. A wrong code uses up an attempt."
    resend_code.__name__ = f"resend_human_{channel}_code"
    resend_code.__doc__ = "Make a code; the one before stays good until it expires."
    code: dict[str, Any] = {"optional_body": True, "keyed": True, "example": {"returnCode": {}}, **_COMMON}
    return [
        operation(
            "POST",
            at,
            summary=f"Set a person's {channel}",
            body=body_type,
            example=example,
            query=_CHECKS,
            keyed=True,
            **_COMMON,
        )(set_address),
        operation(
            "POST",
            at + "/verify",
            summary=f"Verify a person's {channel}",
            body=VerifyBody,
            example={"verificationCode": "H4KQ9T"},
            keyed=True,
            **(_COMMON | {"view": DoneView}),
        )(verify_address),
        operation(
            "POST",
            *(f"{at}/{verb}" for verb in again),
            summary=f"Send a person another {channel} code",
            body=ResendBody,
            **code,
        )(resend_code),
    ]


@operation(
    "POST",
    _ONE + "/password",
    summary="Set a person's password",
    body=SetPasswordBody,
    example={"newPassword": {"password": "Secr3tP4ssw0rd!"}, "verificationCode": "H4KQ9T"},
    keyed=True,
    **(_COMMON | {"view": DoneView}),
)
async def set_human_password(call: Call, body: SetPasswordBody) -> Answer:
    """Set the password. Without `user.write` it needs `currentPassword` or `verificationCode`, and no hash is taken."""
    return done(await passwords.set_password(call.wiring, _target(call), set_password_wish(body)))


@operation(
    "POST",
    _ONE + "/password_reset",
    summary="Let a person set a new password",
    body=ResetPasswordBody,
    optional_body=True,
    example={"sendLink": {"notificationType": "NOTIFICATION_TYPE_Email"}},
    keyed=True,
    **_COMMON,
)
async def reset_human_password(call: Call, body: ResetPasswordBody) -> Answer:
    """Make a code for a new password and send it to a verified address; `returnCode` needs `user.write`."""
    return reset(await password_resets.reset_password(call.wiring, _target(call), reset_command(body)))


@operation("DELETE", _ONE + "/phone", summary="Remove a person's phone", **(_COMMON | {"view": DoneView}))
async def remove_human_phone(call: Call) -> Answer:
    """Remove the phone; a verified one is told."""
    command = users.UpdateUser(remove=frozenset({Channel.PHONE}))
    return done(await users.update_user(call.wiring, _target(call), command))


ROUTES: list[HTTPRouteHandler] = [
    create_human,
    update_human,
    get_human,
    delete_human,
    list_humans,
    *map(_transition, Transition),
    *_contact_routes(Channel.EMAIL, SetEmailBody, {"email": "mini@example.com", "returnCode": {}}, "resend", "send"),
    *_contact_routes(Channel.PHONE, SetPhoneBody, {"phone": "+41791234567", "returnCode": {}}, "resend"),
    remove_human_phone,
    set_human_password,
    reset_human_password,
]
