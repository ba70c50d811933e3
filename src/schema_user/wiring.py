"""What commands and queries work with: the stores, the validators, the clock and the sources of chance."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schema_user.domain.identifier import make_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from schema_user.domain.keyring import Keyring
    from schema_user.domain.schema import UserSchema
    from schema_user.errors import Violation
    from schema_user.settings import Settings
    from schema_user.store.claims import ClaimStore
    from schema_user.store.history import HistoryStore
    from schema_user.store.organizations import OrganizationStore
    from schema_user.store.outbox import OutboxStore
    from schema_user.store.relay import Relay
    from schema_user.store.requests import RequestStore
    from schema_user.store.schemas import SchemaStore
    from schema_user.store.tokens import TokenStore
    from schema_user.store.users import UserStore
    from schema_user.validation.cache import ValidatorCache


def utc_now() -> datetime:
    """Give the time in UTC, cut to the milliseconds that the database keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Turns:
    """Lets those who want to change the same thing in this process go one after the other, first come first served.

    The guard of the write decides between processes; within one, waiting for one's turn is cheaper than reading,
    deciding and losing again and again.
    """

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def of(self, key: str, patience: float) -> AsyncIterator[None]:
        """Have the turn of ``key`` for as long as the block lasts.

        Raises:
            TimeoutError: if it does not come within ``patience`` seconds.
        """
        lock, holders = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, holders + 1)
        try:
            async with asyncio.timeout(patience):
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, holders = self._locks[key]
            if holders == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, holders - 1)


@dataclass(frozen=True, slots=True)
class Wiring:
    """One set of everything, made by ``app.py`` and by nobody else."""

    settings: Settings
    keyring: Keyring
    instance_id: str
    users: UserStore
    schemas: SchemaStore
    organizations: OrganizationStore
    tokens: TokenStore
    outbox: OutboxStore
    history: HistoryStore
    relay: Relay
    requests: RequestStore
    claims: ClaimStore
    validators: ValidatorCache
    now: Callable[[], datetime] = utc_now
    choose: Callable[[Sequence[str]], str] = secrets.choice
    turns: Turns = field(default_factory=Turns)
    random_bits: Callable[[int], int] = field(default=secrets.randbits)

    def new_id(self) -> str:
        """Make an id for a new resource."""
        return make_id(self.now(), self.random_bits)

    async def violations(self, schema: UserSchema, data: dict[str, Any]) -> Sequence[Violation]:
        """List what is wrong with a document under a schema's current revision; their fields begin with ``data``."""
        validator = await self.validators.get(schema)
        return validator.violations(data)
