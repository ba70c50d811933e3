"""Who is let through: the same questions for every operation, asked in one order.

What a caller's roles do not reach is missing, not forbidden, so that nobody learns what other organizations hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from schema_user.errors import Denied, Missing, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_user.domain.caller import Caller, Token
    from schema_user.domain.message import SeenMessage
    from schema_user.domain.permission import Permission
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.domain.webhook import Webhook


class _OfOrganization(Protocol):
    @property
    def organization_id(self) -> str: ...


U = TypeVar("U", bound=_OfOrganization)


def reached_user(caller: Caller, user: U | None, user_id: str) -> U:
    """Give the user if the caller may know of it.

    Raises:
        Missing: if there is none in the caller's reach; ``x-zitadel-orgid`` narrows that reach, for self too.
    """
    if user is not None and (
        caller.reaches(user.organization_id)
        or (caller.is_self(user_id) and caller.acting in {None, user.organization_id})
    ):
        return user
    raise Missing("USER_NOT_FOUND", "user not found", metadata={"userId": user_id})


def reached_schema(caller: Caller, schema: UserSchema | None, schema_id: str) -> UserSchema:
    """Give the schema if the caller may know of it: the instance's, or one of an organization it reaches.

    Raises:
        Missing: otherwise.
    """
    if schema is not None:
        if schema.organization_id is not None and caller.reaches(schema.organization_id):
            return schema
        if schema.organization_id is None and (caller.everywhere or caller.within):
            return schema
    raise Missing("SCHEMA_NOT_FOUND", "user schema not found", metadata={"schemaId": schema_id})


def reached_organization(caller: Caller, organization_id: str, *, exists: bool) -> None:
    """Raise Missing unless the organization exists and the caller may know of it."""
    if not exists or not caller.belongs_to(organization_id):
        raise Missing("ORGANIZATION_NOT_FOUND", "organization not found", metadata={"organizationId": organization_id})


def require(caller: Caller, permission: Permission, organization_id: str | None) -> None:
    """Raise Denied unless the caller holds the permission in the organization, or (None) for the instance."""
    if not caller.may(permission, organization_id):
        raise lacking(permission)


def lacking(permission: Permission, violations: Iterable[Violation] = ()) -> Denied:
    """Give the fault of a caller without a permission."""
    return Denied(
        "PERMISSION_MISSING",
        f"the permission {permission} is missing",
        tuple(violations),
        metadata={"permission": str(permission)},
    )


def require_user(caller: Caller, permission: Permission, user: User) -> None:
    """Raise Denied unless the caller is the user itself or holds the permission in its organization."""
    if not caller.is_self(user.user_id):
        require(caller, permission, user.organization_id)


def reached_message(caller: Caller, message: SeenMessage | None, message_id: str) -> SeenMessage:
    """Give the message if the caller reaches its organization, or, if its webhook is the instance's, the instance.

    Raises:
        Missing: otherwise.
    """
    if message is not None:
        owner = message.organization_id
        if caller.reaches(owner) if owner is not None else caller.acting is None and caller.everywhere:
            return message
    raise Missing("MESSAGE_NOT_FOUND", "message not found", metadata={"messageId": message_id})


def reached_webhook(caller: Caller, webhook: Webhook | None, webhook_id: str) -> Webhook:
    """Give the webhook if the caller reaches its organization, or, if it is the instance's, the instance.

    Raises:
        Missing: otherwise.
    """
    if webhook is not None:
        owner = webhook.organization_id
        if caller.reaches(owner) if owner is not None else caller.acting is None and caller.everywhere:
            return webhook
    raise Missing("WEBHOOK_NOT_FOUND", "webhook not found", metadata={"webhookId": webhook_id})


def reached_token(caller: Caller, token: Token | None) -> Token:
    """Give the token if it reaches nothing beyond what the caller reaches.

    Raises:
        Missing: otherwise.
    """
    if token is None or not all(
        caller.acting is None and bool(caller.everywhere) if organization is None else caller.reaches(organization)
        for organization in token.organizations
    ):
        raise Missing("TOKEN_NOT_FOUND", "token not found")
    return token
