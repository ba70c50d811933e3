"""User schemas: a named type, its JSON Schema by revision, and whether it may be used."""

from __future__ import annotations

import enum
from dataclasses import dataclass
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

    def serves(self, organization_id: str) -> bool:
        """Whether users of the organization may have this schema."""
        return self.organization_id is None or self.organization_id == organization_id
