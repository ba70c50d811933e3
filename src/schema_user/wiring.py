"""What commands and queries work with: the stores, the validators, the clock and the sources of chance."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schema_user.domain.identifier import make_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.domain.keyring import Keyring
    from schema_user.domain.schema import UserSchema
    from schema_user.errors import Violation
    from schema_user.settings import Settings
    from schema_user.store.claims import ClaimStore
    from schema_user.store.organizations import OrganizationStore
    from schema_user.store.outbox import OutboxStore
    from schema_user.store.schemas import SchemaStore
    from schema_user.store.tokens import TokenStore
    from schema_user.store.users import UserStore
    from schema_user.validation.cache import ValidatorCache


def utc_now() -> datetime:
    """Give the time in UTC, cut to the milliseconds that the database keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _silent() -> None:
    """Wake nobody: where no worker runs in this process."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """One set of everything, made by ``app.py`` and by nobody else.

    ``wake`` tells the delivery worker of this process that a commit left a message; it must be cheap and never raise.
    """

    settings: Settings
    keyring: Keyring
    instance_id: str
    users: UserStore
    schemas: SchemaStore
    organizations: OrganizationStore
    tokens: TokenStore
    outbox: OutboxStore
    claims: ClaimStore
    validators: ValidatorCache
    wake: Callable[[], None] = _silent
    now: Callable[[], datetime] = utc_now
    choose: Callable[[Sequence[str]], str] = secrets.choice
    random_bits: Callable[[int], int] = field(default=secrets.randbits)

    def new_id(self) -> str:
        """Make an id for a new resource."""
        return make_id(self.now(), self.random_bits)

    async def violations(self, schema: UserSchema, data: dict[str, Any]) -> Sequence[Violation]:
        """List what is wrong with a document under a schema's current revision; their fields begin with ``data``."""
        validator = await self.validators.get(schema)
        return validator.violations(data)
