"""What the operations for passwords take, in every version."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Annotated

import msgspec

from schema_user.api.body import refused
from schema_user.api.v3alpha.contact_bodies import Body, ReturnCodeBody, UrlTemplate, alternatives
from schema_user.commands.password_resets import ResetPassword, SendLink
from schema_user.commands.passwords import PasswordWish
from schema_user.domain.contact import Channel, ReturnCode
from schema_user.errors import Violation

Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Code = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


class PasswordBody(Body, kw_only=True):
    """A password."""

    password: Secret
    change_required: bool = False


class HashedPasswordBody(Body, kw_only=True):
    """A password of which only the hash is known."""

    hash: Secret
    change_required: bool = False


class ProvenPasswordBody(Body, kw_only=True):
    """What proves that a new password may be set, and a hash in the place of that password."""

    hashed_password: HashedPasswordBody | None = None
    current_password: Secret | None = None
    verification_code: _Code | None = None


class SetPasswordBody(ProvenPasswordBody, kw_only=True):
    """A new password, and what proves that it may be set; with ``user.write`` it needs no proof."""

    new_password: PasswordBody | None = None


class NotificationType(enum.StrEnum):
    """How a link to a new password is sent; unspecified: by mail."""

    UNSPECIFIED = "NOTIFICATION_TYPE_Unspecified"
    EMAIL = "NOTIFICATION_TYPE_Email"
    SMS = "NOTIFICATION_TYPE_SMS"


class SendLinkBody(Body, kw_only=True):
    """The code goes to the user's verified address."""

    notification_type: NotificationType = NotificationType.UNSPECIFIED
    url_template: UrlTemplate | None = None


class ResetPasswordBody(Body, kw_only=True):
    """How the code for a new password is delivered; without an alternative it is mailed."""

    send_link: SendLinkBody | None = None
    return_code: ReturnCodeBody | None = None


class VerifyPasswordBody(Body, kw_only=True):
    """The password to compare with the user's."""

    password: Secret


def new_password(
    plain: PasswordBody | None, encoded: HashedPasswordBody | None, name: str, found: list[Violation], at: str = ""
) -> PasswordWish | None:
    """Read a password that is given plain or hashed, or not at all; ``name`` is what the plain one is called."""
    found.extend(alternatives(at, {name: plain, "hashedPassword": encoded}))
    if encoded is not None:
        field = f"{at}hashedPassword/hash"
        return PasswordWish(field, encoded=encoded.hash, change_required=encoded.change_required, at=at)
    if plain is None:
        return None
    return PasswordWish(f"{at}{name}/password", plain=plain.password, change_required=plain.change_required, at=at)


def proven_password(
    body: ProvenPasswordBody, plain: PasswordBody | None, name: str, found: list[Violation], at: str = ""
) -> PasswordWish | None:
    """Read a password with what proves that it may be set; None, and a violation, if there is none."""
    wish = new_password(plain, body.hashed_password, name, found, at)
    proofs = {"currentPassword": body.current_password, "verificationCode": body.verification_code}
    found.extend(alternatives(at, proofs))
    if wish is None:
        found.append(Violation(at + name, "is required, unless hashedPassword is there", "required"))
        return None
    return replace(wish, current=body.current_password, code=body.verification_code)


def set_wish(body: SetPasswordBody) -> PasswordWish:
    """Read a password that shall be set.

    Raises:
        Malformed: without one, or for two alternatives at once.
    """
    found: list[Violation] = []
    wish = proven_password(body, body.new_password, "newPassword", found)
    if found or wish is None:
        raise refused(found)
    return wish


def reset_command(body: ResetPasswordBody) -> ResetPassword:
    """Read how a code for a new password is delivered.

    Raises:
        Malformed: for two alternatives at once.
    """
    found = alternatives("", {"sendLink": body.send_link, "returnCode": body.return_code})
    if found:
        raise refused(found)
    if body.return_code is not None:
        return ResetPassword(ReturnCode())
    link = body.send_link or SendLinkBody()
    channel = Channel.PHONE if link.notification_type is NotificationType.SMS else Channel.EMAIL
    return ResetPassword(SendLink(channel, link.url_template))
