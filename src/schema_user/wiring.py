"""What commands and queries work with: the stores, the validators, the clock and the sources of chance."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from schema_user.domain.field_access import field_role
from schema_user.domain.identifier import make_id
from schema_user.domain.permission import Permission
from schema_user.validation.index_keyword import PlanCache
from schema_user.validation.permission_keyword import PermissionCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.field_access import FieldAccess
    from schema_user.domain.keyring import Keyring
    from schema_user.domain.schema import UserSchema
    from schema_user.errors import Violation
    from schema_user.hashing.hasher import Hasher
    from schema_user.settings import Settings
    from schema_user.store.claims import ClaimStore
    from schema_user.store.history import HistoryStore
    from schema_user.store.instance import InstanceStore
    from schema_user.store.job_digests import JobDigests
    from schema_user.store.jobs import JobStore
    from schema_user.store.markings import MarkingStore
    from schema_user.store.organizations import OrganizationStore
    from schema_user.store.outbox import OutboxStore
    from schema_user.store.quotas import QuotaStore
    from schema_user.store.relay import Relay
    from schema_user.store.requests import RequestStore
    from schema_user.store.schema_users import SchemaUsers
    from schema_user.store.schemas import SchemaStore
    from schema_user.store.tokens import TokenStore
    from schema_user.store.users import UserStore
    from schema_user.store.webhooks import WebhookStore
    from schema_user.validation.validators import Judged, Validators

T = TypeVar("T")


def utc_now() -> datetime:
    """Give the time in UTC, cut to the milliseconds that the database keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


LARGE: Final = 16 * 1024
"""Bytes as JSON of what may take tens of milliseconds to go through: others shall not wait for that."""


async def aside(work: Callable[[], T], *values: Any) -> T:
    """Do pure work that goes through these JSON values; in a thread if they are large, so that others have a turn."""
    if sum(len(msgspec.json.encode(value)) for value in values) > LARGE:
        return await asyncio.to_thread(work)
    return work()


class Turns:
    """Lets those who want to change the same thing in this process go one after the other, first come first served.

    The guard of the write decides between processes; within one, waiting for one's turn is cheaper than reading,
    deciding and losing again and again.
    """

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def of(self, key: str, patience: float) -> _Turn:
        """Have the turn of ``key`` for as long as an ``async with`` lasts.

        It raises TimeoutError if the turn does not come within ``patience`` seconds.
        """
        return _Turn(self._waiting, key, patience)


class _Turn:
    """One turn; with nobody else there it costs a look into a dictionary."""

    __slots__ = ("_key", "_patience", "_waiting")

    def __init__(self, waiting: dict[str, deque[asyncio.Future[None]]], key: str, patience: float) -> None:
        self._waiting = waiting
        self._key = key
        self._patience = patience

    async def __aenter__(self) -> None:
        others = self._waiting.get(self._key)
        if others is None:
            self._waiting[self._key] = deque()
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        others.append(mine)
        try:
            async with asyncio.timeout(self._patience):
                await mine
        except BaseException:
            if mine.done() and not mine.cancelled():  # it came in the same moment: to the next
                self._pass_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        others = self._waiting[self._key]
        while others:
            following = others.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting[self._key]


@dataclass(frozen=True, slots=True)
class Wiring:
    """One set of everything, made by ``app.py`` and by nobody else."""

    settings: Settings
    keyring: Keyring
    request_key: bytes
    instance_id: str
    instance: InstanceStore
    users: UserStore
    schemas: SchemaStore
    organizations: OrganizationStore
    tokens: TokenStore
    outbox: OutboxStore
    history: HistoryStore
    relay: Relay
    schema_relay: Relay
    webhooks: WebhookStore
    requests: RequestStore
    claims: ClaimStore
    quotas: QuotaStore
    jobs: JobStore
    job_digests: JobDigests
    schema_users: SchemaUsers
    markings: MarkingStore
    validators: Validators
    hasher: Hasher
    permissions: PermissionCache = field(default_factory=PermissionCache)
    plans: PlanCache = field(default_factory=PlanCache)
    now: Callable[[], datetime] = utc_now
    choose: Callable[[Sequence[str]], str] = secrets.choice
    turns: Turns = field(default_factory=Turns)
    random_bits: Callable[[int], int] = field(default=secrets.randbits)

    def new_id(self) -> str:
        """Make an id for a new resource."""
        return make_id(self.now(), self.random_bits)

    async def field_access(self, caller: Caller, user_id: str, schema: UserSchema) -> FieldAccess | None:
        """Give what the caller may read and change in a user's data under a schema; None: everything."""
        permissions = await self.permissions.get(schema)
        return None if permissions is None else permissions.of(field_role(caller, user_id))

    async def violations(self, schema: UserSchema, data: dict[str, Any]) -> Sequence[Violation]:
        """List what is wrong with a document under a schema's current revision; their fields begin with ``data``.

        Raises:
            Unmet: ``VALIDATION_BUDGET``, if it takes too long or too much memory to tell.
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        return await self.validators.violations(schema, data)

    async def check_upload(self, caller: Caller, document: object, data: Any = None) -> Judged:
        """Put an uploaded JSON Schema through the gate, and a document, unless it is None, through the schema.

        The caller's token pays for what takes long, and so do the uploads of its organizations: more tokens don't help.

        Raises:
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        organizations = sorted(caller.organizations(Permission.USERSCHEMA_READ) or ())
        payers = [f"token {caller.token_id}", *(f"uploads {organization}" for organization in organizations)]
        return await self.validators.check(document, data, payers)
