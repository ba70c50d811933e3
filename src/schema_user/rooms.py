"""What a process works with: settings become stores and validators, wired together.

It knows neither the web framework nor a transport, so the server and short commands read little.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.keyring import Keyring
from schema_user.hashing.hasher import Hasher
from schema_user.store import embedded
from schema_user.store.claims import ClaimStore
from schema_user.store.connection import Database
from schema_user.store.erasure import Erasure
from schema_user.store.history import HistoryStore
from schema_user.store.instance import InstanceStore
from schema_user.store.job_digests import JobDigests
from schema_user.store.jobs import JobStore
from schema_user.store.mailbox import Mailbox
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
from schema_user.validation.pool import Pool
from schema_user.validation.validators import Validators
from schema_user.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.settings import Settings

_CLAIM_KEY_BYTES: Final = 32


def mongodb_uri(settings: Settings) -> str:
    """Give the database's URI: the one that is set, or that of the local server in the data directory."""
    return settings.mongodb_uri or embedded.socket_uri(settings.data_dir)


def keyring_of(settings: Settings) -> Keyring:
    """Make the keyring of the secrets that are set, or of the one kept in the data directory of the local default."""
    return Keyring(settings.secret_keys or (local_secret(settings),))


def local_secret(settings: Settings) -> str:
    """Read the secret of the local default; made at the first start, readable by its owner only."""
    path = settings.data_dir / "secret-key"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(path, "x", opener=_private, encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text(encoding="ascii").strip()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Rooms]:
    """Connect to the database and wire everything up, for as long as the block lasts.

    Validation workers are started when they are first needed.

    Raises:
        Unavailable: if the database does not answer.
        SealError: if the secrets that are set are not those of this database.
    """
    database = Database(mongodb_uri(settings), settings.mongodb_driver, settings.mongodb_timeout)
    pool = Pool(settings.validation_workers_here, settings.validator)
    hasher = Hasher()
    try:
        keyring = keyring_of(settings)
        instance = InstanceStore(database, keyring)
        instance_id = str(await instance.once("id", str(secrets.randbits(62))))
        claim_key = await instance.claim_key(secrets.token_bytes(_CLAIM_KEY_BYTES))
        mailbox = Mailbox(settings.data_dir) if settings.embedded else None
        relay, schema_relay = Relay(database, erasure=Erasure(database, mailbox)), Relay(database, "schemas")
        wiring = Wiring(
            settings=settings,
            keyring=keyring,
            request_key=hmac.digest(claim_key, b"digests of requests", "sha256"),
            instance_id=instance_id,
            instance=instance,
            users=UserStore(database, keyring, relay, settings.history_ttl),
            schemas=SchemaStore(database, keyring, relay=schema_relay),
            organizations=OrganizationStore(database, keyring),
            tokens=TokenStore(database, keyring),
            outbox=OutboxStore(database, keyring),
            history=HistoryStore(database, settings.history_ttl),
            relay=relay,
            schema_relay=schema_relay,
            webhooks=WebhookStore(database, keyring),
            requests=RequestStore(database),
            claims=ClaimStore(database, claim_key),
            quotas=QuotaStore(database, claim_key),
            jobs=JobStore(database),
            job_digests=JobDigests(database),
            schema_users=SchemaUsers(database),
            markings=MarkingStore(database, SchemaUsers(database)),
            validators=Validators(
                pool, cache_bytes=settings.validator_cache_bytes, max_schema_bytes=settings.schema_max_bytes
            ),
            hasher=hasher,
        )
        yield Rooms(wiring, database, instance, pool)
    finally:
        await hasher.close()
        await pool.close()
        await database.close()


@dataclass(frozen=True, slots=True)
class Rooms:
    """What ``wired`` opens."""

    wiring: Wiring
    database: Database
    instance: InstanceStore
    pool: Pool
