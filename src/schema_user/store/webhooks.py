"""Webhooks in MongoDB, with their secrets sealed, and what they are told as the outbox holds it."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.keyring import SealError
from schema_user.domain.message import WEBHOOK
from schema_user.domain.webhook import Delivery, EventType, Occurrence, Secret, Webhook
from schema_user.store.known import Known
from schema_user.store.search import SearchStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Database, Document

KNOWN_TTL: Final = 2.0
"""Seconds for which the webhooks of an organization are used without asking; a new one counts everywhere in five."""

_KEPT: Final = 10_000


def _context(webhook_id: str) -> str:
    return f"webhook|{webhook_id}"


def delivery_record(delivery: Delivery) -> Document:
    """Write down what a webhook is told as the outbox will hold it; it names ids and places, so nothing is sealed."""
    return {
        "_id": delivery.message_id,
        "state": "pending",
        "tries": 0,
        "next_at": delivery.created_at,
        "relayed": False,
        "kind": WEBHOOK,
        "channel": WEBHOOK,
        "user_id": delivery.occurrence.subject_id,
        "organization_id": delivery.organization_id,
        "created_at": delivery.created_at,
        "masked": delivery.host,
        "webhook_id": delivery.webhook_id,
        "types": [each.value for each in delivery.types],
        "told": msgspec.to_builtins(delivery.occurrence, builtin_types=(datetime,)),
    }


def delivery_of(record: Document) -> Delivery:
    """Read what a webhook is told back out of its record."""
    return Delivery(
        message_id=record["_id"],
        webhook_id=record["webhook_id"],
        organization_id=record["organization_id"],
        host=record["masked"],
        types=tuple(map(EventType, record["types"])),
        occurrence=msgspec.convert(record["told"], Occurrence),
        created_at=record["created_at"],
    )


class WebhookStore(SearchStore[Webhook]):
    """The collection ``webhooks``."""

    fields = {  # noqa: RUF012 -- declared a ClassVar by the base
        "id": "_id",
        "url": "url",
        "organization_id": "organization_id",
        "creation_date": "created_at",
    }

    def __init__(self, database: Database, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a database; the keyring seals the secrets, ``clock`` is monotonic, in seconds."""
        self._webhooks = database.collection("webhooks")
        self._keyring = keyring
        self._known: Known[str | None, tuple[Webhook, ...]] = Known(self._listening, KNOWN_TTL, _KEPT, clock)
        super().__init__(self._webhooks.durable(), keyring, self._from_document)

    async def prepare(self) -> None:
        """Make the index, and seal under the newest key what an older one sealed: it may be taken away then."""
        await self._webhooks.ensure_index([("organization_id", 1)])
        async with contextlib.aclosing(self._webhooks.stream({}, {"secrets": 1, "version": 1})) as documents:
            async for document in documents:
                if not all(self._keyring.is_current(each["sealed"]) for each in document["secrets"]):
                    await self._seal_anew(document)

    async def _seal_anew(self, document: Document) -> None:
        webhook_id = document["_id"]
        try:
            sealed = self._sealed(webhook_id, self._opened(document))
        except SealError:  # its key is not set; who knows that it is lost makes a new secret
            return
        where = {"_id": webhook_id, "version": document["version"]}
        await self._webhooks.update(where, {"$set": {"secrets": sealed}})

    async def hearing(self, organization_id: str | None) -> tuple[Webhook, ...]:
        """List the active webhooks that hear of an organization, or (None) of the instance itself.

        They are at most ``KNOWN_TTL`` seconds old, and come without their secrets.
        """
        of_instance = await self._known.get(None)
        return of_instance if organization_id is None else await self._known.get(organization_id) + of_instance

    async def _listening(self, organization_id: str | None, _: tuple[Webhook, ...] | None) -> tuple[Webhook, ...]:
        where = {"organization_id": organization_id, "active": True}
        return tuple(map(self._from_document, await self._webhooks.find(where, {"secrets": 0})))

    async def find(self, webhook_id: str) -> Webhook | None:
        """Find a webhook as the primary has it, without its secrets."""
        document = await self._webhooks.find_one({"_id": webhook_id}, {"secrets": 0})
        return None if document is None else self._from_document(document)

    async def with_secrets(self, webhook_id: str) -> Webhook | None:
        """Find a webhook as the primary has it, with the secrets that sign.

        Raises:
            SealError: if no key that is set opens them.
        """
        document = await self._webhooks.find_one({"_id": webhook_id})
        if document is None:
            return None
        return msgspec.structs.replace(self._from_document(document), secrets=self._opened(document))

    async def insert(self, webhook: Webhook, most: int) -> bool:
        """Store a new webhook; False if its owner would have more than ``most`` then.

        It is counted once it is there, so that of several that come at once none slips through.
        """
        document = self._to_document(webhook) | {"_id": webhook.webhook_id, "created_at": webhook.created_at}
        document["secrets"] = self._sealed(webhook.webhook_id, webhook.secrets)
        await self._webhooks.insert(document)
        self._known.forget(webhook.organization_id)
        if await self._webhooks.count({"organization_id": webhook.organization_id}) <= most:
            return True
        await self.delete(webhook)
        return False

    async def replace(self, before: Webhook, after: Webhook) -> bool:
        """Store a change, with the secrets if ``after`` has any; False if the webhook moved on since it was read."""
        change = self._to_document(after)
        if after.secrets:
            change["secrets"] = self._sealed(after.webhook_id, after.secrets)
        where = {"_id": before.webhook_id, "version": before.version}
        won = await self._webhooks.update(where, {"$set": change})
        self._known.forget(before.organization_id)
        return won

    async def delete(self, webhook: Webhook) -> bool:
        """Delete a webhook; whether there was one."""
        gone = await self._webhooks.delete({"_id": webhook.webhook_id})
        self._known.forget(webhook.organization_id)
        return gone

    async def of_organization(self, organization_id: str) -> list[Webhook]:
        """List the webhooks of an organization."""
        return list(map(self._from_document, await self._webhooks.find({"organization_id": organization_id})))

    @staticmethod
    def _to_document(webhook: Webhook) -> Document:
        return {
            "organization_id": webhook.organization_id,
            "url": webhook.url,
            "event_types": [each.value for each in webhook.event_types],
            "active": webhook.active,
            "gone": webhook.gone,
            "changed_at": webhook.changed_at,
            "version": webhook.version,
        }

    def _sealed(self, webhook_id: str, secrets: Sequence[Secret]) -> list[Document]:
        context = _context(webhook_id)
        return [
            {"sealed": self._keyring.seal(each.key, context)}
            | ({} if each.expires_at is None else {"expires_at": each.expires_at})
            for each in secrets
        ]

    def _opened(self, document: Document) -> tuple[Secret, ...]:
        context = _context(document["_id"])
        return tuple(
            Secret(self._keyring.open(each["sealed"], context), each.get("expires_at")) for each in document["secrets"]
        )

    @staticmethod
    def _from_document(document: Document) -> Webhook:
        return Webhook(
            webhook_id=document["_id"],
            organization_id=document["organization_id"],
            url=document["url"],
            event_types=tuple(map(EventType, document["event_types"])),
            secrets=(),
            created_at=document["created_at"],
            changed_at=document["changed_at"],
            active=document["active"],
            gone=document["gone"],
            version=document["version"],
        )
