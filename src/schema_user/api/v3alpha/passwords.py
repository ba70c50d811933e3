"""Passwords on the wire of v3alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user.api.details import details
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v3alpha.password_bodies import (
    ResetPasswordBody,
    SetPasswordBody,
    VerifyPasswordBody,
    reset_command,
    set_wish,
)
from schema_user.api.v3alpha.users import DoneView, VerificationView, done, target
from schema_user.commands import password_resets, passwords
from schema_user.domain.credential import RESET

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.commands.change import Decision

_PATH: Final = "/v3alpha/users/{user_id:str}/password"
_COMMON: Final[dict[str, Any]] = {
    "tag": "Passwords",
    "permission": "user.write, or the user itself",
    "faults": (404, 409, 412, 429),
    "conditional": True,
}


class VerifiedPasswordView(DoneView, kw_only=True):
    """What a right password answers."""

    change_required: bool


@operation(
    "POST",
    _PATH,
    summary="Set a user's password",
    body=SetPasswordBody,
    view=DoneView,
    example={
        "newPassword": {"password": "Secr3tP4ssw0rd!", "changeRequired": False},
        "currentPassword": "0ldP4ssw0rd!",
    },
    keyed=True,
    **_COMMON,
)
async def set_password(call: Call, body: SetPasswordBody) -> Answer:
    """Set the password. Without `user.write` it needs `currentPassword` or `verificationCode`, and no hash is taken.

    A password must obey the organization's policy; one that was hashed elsewhere is not known, and need not. Codes for
    a new password are dead then, and wrong tries are forgotten.
    """
    return done(await passwords.set_password(call.wiring, target(call), set_wish(body)))


@operation(
    "POST",
    _PATH + "/reset",
    summary="Let a user set a new password",
    body=ResetPasswordBody,
    view=VerificationView,
    optional_body=True,
    example={"sendLink": {"notificationType": "NOTIFICATION_TYPE_Email"}},
    keyed=True,
    **_COMMON,
)
async def reset_password(call: Call, body: ResetPasswordBody) -> Answer:
    """Make a code for a new password and send it to a verified address; `returnCode` needs `user.write`.

    Without `urlTemplate` the link leads to a page of the service. The code before stays good until it expires; all are
    dead with a new password, with a change of any address, and with a state other than active.
    """
    return reset(await password_resets.reset_password(call.wiring, target(call), reset_command(body)))


def reset(decision: Decision) -> Answer:
    """Answer with a code, if one was asked for."""
    user = decision.user
    view = VerificationView(details=details(user, user.organization_id), verification_code=decision.codes.get(RESET))
    return Answer(view, user.sequence, replayed=decision.replayed)


@operation(
    "POST",
    _PATH + "/verify",
    summary="Compare with a user's password",
    body=VerifyPasswordBody,
    view=VerifiedPasswordView,
    example={"password": "Secr3tP4ssw0rd!"},
    **(_COMMON | {"permission": "user.write"}),
)
async def verify_password(call: Call, body: VerifyPasswordBody) -> Answer:
    """Compare with the password of a user, who must be active. The try is counted before anything is compared.

    After ten wrong ones in a row nothing is compared for a quarter of an hour. `Idempotency-Key` is not heeded: each
    answer tells of a comparison of its own.
    """
    user = await passwords.verify_password(call.wiring, target(call), body.password)
    required = user.credential is not None and user.credential.change_required
    return Answer(
        VerifiedPasswordView(details=details(user, user.organization_id), change_required=required), user.sequence
    )


ROUTES: list[HTTPRouteHandler] = [set_password, reset_password, verify_password]
