"""Roles and what they permit."""

from __future__ import annotations

import enum
from typing import Final


class Permission(enum.StrEnum):
    """One thing that a caller may do, in an organization or everywhere."""

    ORG_READ = "org.read"
    ORG_WRITE = "org.write"
    ORG_DELETE = "org.delete"
    USER_READ = "user.read"
    USER_WRITE = "user.write"
    USER_DELETE = "user.delete"
    USERSCHEMA_READ = "userschema.read"
    USERSCHEMA_WRITE = "userschema.write"
    USERSCHEMA_DELETE = "userschema.delete"
    TOKEN_READ = "token.read"
    TOKEN_WRITE = "token.write"
    TOKEN_DELETE = "token.delete"
    MESSAGE_READ = "message.read"
    MESSAGE_WRITE = "message.write"
    MESSAGE_DELETE = "message.delete"
    WEBHOOK_READ = "webhook.read"
    WEBHOOK_WRITE = "webhook.write"
    WEBHOOK_DELETE = "webhook.delete"
    INSTANCE = "instance"
    """Organizations themselves: to create and delete them."""


class Role(enum.StrEnum):
    """A named set of permissions that a token holds, for the instance or for one organization."""

    INSTANCE_OWNER = "INSTANCE_OWNER"
    INSTANCE_VIEWER = "INSTANCE_VIEWER"
    ORG_OWNER = "ORG_OWNER"
    ORG_USER_MANAGER = "ORG_USER_MANAGER"
    ORG_USER_VIEWER = "ORG_USER_VIEWER"
    SCHEMA_AUTHOR = "SCHEMA_AUTHOR"


_EVERYTHING: Final = frozenset(Permission)
_READ: Final = frozenset(permission for permission in Permission if permission.endswith(".read"))

PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.INSTANCE_OWNER: _EVERYTHING,
    Role.INSTANCE_VIEWER: _READ,
    Role.ORG_OWNER: _EVERYTHING - {Permission.INSTANCE},
    Role.ORG_USER_MANAGER: frozenset(
        {Permission.USER_READ, Permission.USER_WRITE, Permission.USER_DELETE, Permission.USERSCHEMA_READ}
    ),
    Role.ORG_USER_VIEWER: frozenset({Permission.USER_READ, Permission.USERSCHEMA_READ}),
    Role.SCHEMA_AUTHOR: frozenset(
        {Permission.USERSCHEMA_READ, Permission.USERSCHEMA_WRITE, Permission.USERSCHEMA_DELETE}
    ),
}

INSTANCE_ROLES: Final = frozenset({Role.INSTANCE_OWNER, Role.INSTANCE_VIEWER, Role.SCHEMA_AUTHOR})
"""Roles that can be held for the whole instance (granted without an organization)."""

ORGANIZATION_ROLES: Final = frozenset({Role.ORG_OWNER, Role.ORG_USER_MANAGER, Role.ORG_USER_VIEWER, Role.SCHEMA_AUTHOR})
"""Roles that can be held in one organization."""
