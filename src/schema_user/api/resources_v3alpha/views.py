"""What every answer of the later generation has: details with an owner, and lists with the limit that held."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from schema_user.api.details import View, rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.domain.schema import UserSchema
    from schema_user.domain.search import Page
    from schema_user.domain.user import User


class OwnerType(enum.StrEnum):
    """What a resource belongs to."""

    INSTANCE = "OWNER_TYPE_INSTANCE"
    ORGANIZATION = "OWNER_TYPE_ORG"


class OwnerView(View, kw_only=True):
    """Whom a resource belongs to."""

    type: OwnerType
    id: str


class ResourceDetailsView(View, kw_only=True):
    """Which resource this is, when it was made and changed, and whom it belongs to."""

    id: str
    created: str
    changed: str
    owner: OwnerView


class ListDetailsView(View, kw_only=True):
    """How much of a list was asked for at most, how much there is of it, and when that was true."""

    applied_limit: str
    total_result: str
    timestamp: str


class ResourceDoneView(View, kw_only=True):
    """What a change answers that gives no codes."""

    details: ResourceDetailsView


def user_details(user: User) -> ResourceDetailsView:
    """Give the details of a user, which always belongs to an organization."""
    return ResourceDetailsView(
        id=user.user_id,
        created=rfc3339(user.created_at),
        changed=rfc3339(user.changed_at),
        owner=OwnerView(type=OwnerType.ORGANIZATION, id=user.organization_id),
    )


def schema_details(schema: UserSchema, instance_id: str) -> ResourceDetailsView:
    """Give the details of a user schema, of an organization or of the instance with this id."""
    own = schema.organization_id
    return ResourceDetailsView(
        id=schema.schema_id,
        created=rfc3339(schema.created_at),
        changed=rfc3339(schema.changed_at),
        owner=OwnerView(
            type=OwnerType.INSTANCE if own is None else OwnerType.ORGANIZATION,
            id=instance_id if own is None else own,
        ),
    )


def list_details(page: Page, total: int, now: datetime) -> ListDetailsView:
    """Give the details of a page of ``total`` results; 64-bit integers travel as strings."""
    return ListDetailsView(applied_limit=str(page.limit), total_result=str(total), timestamp=rfc3339(now))
