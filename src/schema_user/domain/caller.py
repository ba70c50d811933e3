"""Who is calling, and how far that reaches."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schema_user.domain.permission import INSTANCE_ROLES, ORGANIZATION_ROLES, PERMISSIONS, Permission, Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

DEFAULT_ORGANIZATION = "default"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, held in one organization or (without one) for the instance."""

    role: Role
    organization_id: str | None = None

    @property
    def well_formed(self) -> bool:
        """Whether this role can be held at this place."""
        return self.role in (INSTANCE_ROLES if self.organization_id is None else ORGANIZATION_ROLES)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a valid token says.

    ``acting`` is the organization that the request names in ``x-zitadel-orgid``; then nothing outside it is reached.
    """

    token_id: str
    grants: tuple[Grant, ...] = ()
    user_id: str | None = None
    user_organization_id: str | None = None
    acting: str | None = None
    everywhere: frozenset[Permission] = field(init=False)
    within: dict[str, frozenset[Permission]] = field(init=False)

    def __post_init__(self) -> None:
        """Fold the grants into permissions, once for each token rather than once for each check."""
        everywhere: frozenset[Permission] = frozenset()
        within: dict[str, frozenset[Permission]] = {}
        for grant in self.grants:
            given = PERMISSIONS[grant.role]
            if grant.organization_id is None:
                everywhere |= given
            else:
                within[grant.organization_id] = within.get(grant.organization_id, frozenset()) | given
        object.__setattr__(self, "everywhere", everywhere)
        object.__setattr__(self, "within", within)

    def may(self, permission: Permission, organization_id: str | None) -> bool:
        """Whether the caller holds the permission in an organization, or (None) for the instance."""
        if permission in self.everywhere:
            return True
        return organization_id is not None and permission in self.within.get(organization_id, ())

    def holds(self, permissions: Iterable[Permission], organization_id: str | None) -> bool:
        """Whether the caller holds all of these permissions there."""
        return all(self.may(permission, organization_id) for permission in permissions)

    def reaches(self, organization_id: str) -> bool:
        """Whether the caller has any role in the organization, and the request's header does not exclude it."""
        if self.acting is not None and self.acting != organization_id:
            return False
        return bool(self.everywhere) or organization_id in self.within

    def belongs_to(self, organization_id: str) -> bool:
        """Whether the caller may know of the organization itself: it reaches it, or its user is one of its users."""
        own = organization_id == self.user_organization_id and self.acting in {None, organization_id}
        return own or self.reaches(organization_id)

    def is_self(self, user_id: str) -> bool:
        """Whether the caller is this user."""
        return self.user_id is not None and self.user_id == user_id

    def organizations(self, permission: Permission) -> frozenset[str] | None:
        """Give the organizations in which the caller holds the permission; None means every one."""
        if permission in self.everywhere:
            return None if self.acting is None else frozenset({self.acting})
        held = frozenset(organization for organization, given in self.within.items() if permission in given)
        return held if self.acting is None else held & {self.acting}

    @property
    def home(self) -> str:
        """The organization in which a create acts when the request names none."""
        if self.acting is not None:
            return self.acting
        if self.user_organization_id is not None:
            return self.user_organization_id
        return next(iter(self.within)) if len(self.within) == 1 else DEFAULT_ORGANIZATION


class TokenKind(enum.StrEnum):
    """What a token proves its bearer by: being known to it, or a key that signs."""

    BEARER = "bearer"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored: a digest, or the public half of a key (``public_key``, DER); never a secret.

    ``last_used_at`` is coarse: it may be a minute behind, and a use may go unnoticed.
    """

    token_id: str
    digest: bytes
    name: str
    grants: tuple[Grant, ...]
    created_at: datetime
    user_id: str | None = None
    user_organization_id: str | None = None
    expires_at: datetime | None = None
    created_by: str | None = None
    public_key: bytes | None = None
    last_used_at: datetime | None = None

    @property
    def kind(self) -> TokenKind:
        """Whether it is a bearer token or a key."""
        return TokenKind.BEARER if self.public_key is None else TokenKind.KEY

    @property
    def subject(self) -> str:
        """The name by which a machine caller goes: its user's id, else the token's own."""
        return self.user_id or self.token_id

    @property
    def organizations(self) -> frozenset[str | None]:
        """Where the token reaches: the organizations of its roles and of its user; None stands for the instance."""
        reached: set[str | None] = {grant.organization_id for grant in self.grants}
        if self.user_organization_id is not None:
            reached.add(self.user_organization_id)
        return frozenset(reached or {None})
