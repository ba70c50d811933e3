"""User schemas: a named type, its JSON Schema by revision, and whether it may be used."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

HUMAN_SCHEMA: Final = "human schema"
"""The instance's fact that holds the id of the built-in schema of people."""


class SchemaState(enum.StrEnum):
    """Whether a schema may be used; ``DELETING`` is seen only while a deletion counts the users."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DELETING = "deleting"


class Authenticator(enum.StrEnum):
    """How a user of a schema may prove who they are."""

    USERNAME = "AUTHENTICATOR_TYPE_USERNAME"
    PASSWORD = "AUTHENTICATOR_TYPE_PASSWORD"  # noqa: S105 -- the name of a kind, not a secret
    WEBAUTHN = "AUTHENTICATOR_TYPE_WEBAUTHN"
    TOTP = "AUTHENTICATOR_TYPE_TOTP"
    OTP_EMAIL = "AUTHENTICATOR_TYPE_OTP_EMAIL"
    OTP_SMS = "AUTHENTICATOR_TYPE_OTP_SMS"
    AUTHENTICATION_KEY = "AUTHENTICATOR_TYPE_AUTHENTICATION_KEY"
    IDENTITY_PROVIDER = "AUTHENTICATOR_TYPE_IDENTITY_PROVIDER"


@dataclass(frozen=True, slots=True)
class IndexedPath:
    """A path of ``data`` that a schema's current revision has indexed.

    ``ready``: the users that were there before are indexed too. ``own``: a user may read it of itself.
    """

    path: str
    ready: bool = True
    own: bool = True


@dataclass(frozen=True, slots=True)
class Marking:
    """What of its users a schema has indexed: ``stale`` paths no longer, though entries of them may be left.

    ``pending``: users were written under other marks, and a back-fill has yet to reach them all.
    """

    paths: tuple[IndexedPath, ...] = ()
    stale: tuple[str, ...] = ()
    pending: bool = False


class Compatibility(enum.StrEnum):
    """What happens to stored users when a schema's text changes.

    ``ALLOW``: they move to the new revision when their data is next written. ``REFUSE``: none of them may fail it.
    ``MIGRATE``: a job moves them, as far as their data passes.
    """

    ALLOW = "allow"
    REFUSE = "refuse"
    MIGRATE = "migrate"


@dataclass(frozen=True, slots=True)
class Announced:
    """The text of a revision that is about to become current: until then, data that is written must match it as well.

    ``nonce`` names it, as no other text has the same one. After ``until`` it is forgotten: who announced it is gone.
    """

    text: str
    dialect: str
    nonce: str
    until: datetime


@dataclass(frozen=True, slots=True)
class UserSchema:
    """A user schema at its current revision.

    ``organization_id`` None means that it is the instance's and serves every organization. ``text`` is the JSON
    Schema as JSON text: it comes back equal to what was uploaded, and its keys are free of the database's rules.
    """

    schema_id: str
    organization_id: str | None
    type: str
    revision: int
    text: str
    dialect: str
    state: SchemaState
    authenticators: tuple[Authenticator, ...]
    created_at: datetime
    changed_at: datetime
    sequence: int = 1
    version: int = 1
    type_claim: bytes = b""
    marking: Marking = Marking()
    compatibility: Compatibility = Compatibility.ALLOW
    announced: Announced | None = None

    def following(self, now: datetime) -> UserSchema | None:
        """Give the revision that is announced at a time, under an id of its own: it may never become one of this."""
        announced = self.announced
        if announced is None or now > announced.until:
            return None
        return replace(
            self,
            schema_id=f"announced {announced.nonce}",
            text=announced.text,
            dialect=announced.dialect,
            revision=self.revision + 1,
            announced=None,
        )

    def serves(self, organization_id: str) -> bool:
        """Whether users of the organization may have this schema."""
        return self.organization_id is None or self.organization_id == organization_id
