"""Messages that wait to be sent.

A message is born inside its user's document, in the one write that caused it, and is relayed here under the id that it
was born with; ``claim`` leases it to a worker; ``settle`` empties it once it is sent or dead. The emptied record stays
until the user's document no longer names the message, so that a relay that comes late cannot bring it back to life.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.domain.contact import Channel
from schema_user.domain.keyring import SealError
from schema_user.domain.message import Message

if TYPE_CHECKING:
    from collections.abc import Collection as Bunch

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Database, Document

_KEPT_TTL: Final = timedelta(days=30)
"""How long the emptied record of a message stays for support."""

_LOOKED_AT: Final = 16
"""Due messages that a worker picks one of; others look at the same ones."""


class _Secret(msgspec.Struct, omit_defaults=True):
    """The part of a message that only a worker may read."""

    recipient: str
    code: str | None = None
    code_digest: bytes | None = None
    expires_at: datetime | None = None
    url: str | None = None
    other: str | None = None
    language: str | None = None


_SECRET: Final = msgspec.json.Decoder(_Secret)


def _context(message_id: str) -> str:
    return f"message|{message_id}"


def message_record(message: Message, keyring: Keyring) -> Document:
    """Write a message down as the outbox will hold it, with everything that tells whom or what sealed."""
    secret = _Secret(
        message.recipient,
        message.code,
        message.code_digest,
        message.expires_at,
        message.url,
        message.other,
        message.language,
    )
    return {
        "_id": message.message_id,
        "state": "pending",
        "tries": 0,
        "next_at": message.created_at,
        "relayed": False,
        "kind": message.kind,
        "channel": message.channel.value,
        "user_id": message.user_id,
        "organization_id": message.organization_id,
        "created_at": message.created_at,
        "sealed": keyring.seal(msgspec.json.encode(secret), _context(message.message_id)),
    }


def _leased(record: Document) -> Document:
    return {name: record[name] for name in ("_id", "user_id", "leased_by", "tries")}


class OutboxStore:
    """The collection ``outbox``."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        """Use a database; the keyring opens what the users' writes sealed."""
        self._outbox = database.collection("outbox")
        self._keyring = keyring

    async def prepare(self) -> None:
        """Make the indexes: one to claim by, one that lets emptied records go."""
        await self._outbox.ensure_index([("state", 1), ("channel", 1), ("next_at", 1)])
        await self._outbox.ensure_index([("user_id", 1)])
        await self._outbox.ensure_index(
            [("done_at", 1)],
            expireAfterSeconds=int(_KEPT_TTL.total_seconds()),
            partialFilterExpression={"relayed": True},
        )

    async def claim(
        self, channels: Bunch[Channel], now: datetime, lease: timedelta, worker: str
    ) -> tuple[Document, Message | None] | None:
        """Lease the next message that is due; None if none is.

        The record comes with the message it holds, or with None if no key that is set opens it.
        """
        due = {"state": "pending", "channel": {"$in": [each.value for each in channels]}, "next_at": {"$lte": now}}
        lead = {"$set": {"next_at": now + lease, "leased_by": worker}, "$inc": {"tries": 1}}
        while seen := await self._outbox.find(
            due, {"user_id": 1, "next_at": 1}, sort=[("next_at", 1)], limit=_LOOKED_AT
        ):
            # Taken by name: a router sends such a write to one shard only.
            random.shuffle(seen)
            for each in seen:
                record = await self._outbox.take({**each, "state": "pending"}, lead)
                if record is not None:
                    return record, self._open(record)
        return None

    def _open(self, record: Document) -> Message | None:
        try:
            plain = self._keyring.open(record["sealed"], _context(record["_id"]))
        except SealError:
            return None
        secret = _SECRET.decode(plain)
        return Message(
            message_id=record["_id"],
            kind=record["kind"],
            channel=Channel(record["channel"]),
            user_id=record["user_id"],
            organization_id=record["organization_id"],
            created_at=record["created_at"],
            recipient=secret.recipient,
            language=secret.language,
            code=secret.code,
            code_digest=secret.code_digest,
            expires_at=secret.expires_at,
            url=secret.url,
            other=secret.other,
        )

    async def settle(self, record: Document, state: str, now: datetime) -> None:
        """End a leased message as ``sent`` or ``dropped``, and erase what was sealed."""
        await self._outbox.update(
            _leased(record),
            {"$set": {"state": state, "done_at": now}, "$unset": {"sealed": "", "leased_by": "", "last_error": ""}},
        )

    async def postpone(self, record: Document, until: datetime | None, error: str) -> None:
        """Give a leased message back until a time, or park it for good; ``error`` must hold no address and no code."""
        change: dict[str, Any] = {"last_error": error}
        change |= {"state": "parked"} if until is None else {"next_at": until}
        await self._outbox.update(
            _leased(record),
            {"$set": change, "$unset": {"leased_by": ""}},
        )

    async def erase_user(self, user_id: str, now: datetime) -> None:
        """Erase every message of a deleted user that was not sent yet."""
        await self._outbox.update_all(
            {"user_id": user_id, "state": {"$in": ["pending", "parked"]}},
            {"$set": {"state": "dropped", "done_at": now}, "$unset": {"sealed": "", "leased_by": ""}},
        )

    async def waiting(self) -> dict[str, int]:
        """Count the messages of each state that are not done, for ``doctor`` and the metrics."""
        return {state: await self._outbox.count({"state": state}, limit=10_000) for state in ("pending", "parked")}
