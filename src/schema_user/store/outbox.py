"""Messages that wait to be sent.

A message is born inside its user's document, in the one write that caused it, and is relayed here under the id that it
was born with; ``claim`` leases it to a worker; ``settle`` empties it once it is sent or dead. The emptied record stays
until the user's document no longer names the message, so that a relay that comes late cannot bring it back to life.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.contact import Channel, masked
from schema_user.domain.keyring import SealError
from schema_user.domain.message import WAITING, WEBHOOK, Message, SeenMessage, user_of
from schema_user.store.search import SearchStore

if TYPE_CHECKING:
    from collections.abc import Collection as Bunch

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Collection, Database, Document

_KEPT_TTL: Final = timedelta(days=30)
"""How long the emptied record of a message stays for support."""

_PARKED_TTL: Final = timedelta(days=30)
"""How long a parked message that never expires is kept for somebody to send it after all."""

_TOLD_TTL: Final = timedelta(days=7)
"""How long what a webhook was told stays, so that it can be told again; there is more of it than of messages."""

_WATCH_EVERY: Final = timedelta(minutes=5)
"""How often it is asked of a waiting code whether it is dead: so long may its message outlive it."""

_EMPTIED: Final = {"sealed": "", "leased_by": "", "look_at": ""}

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
    expiry = {} if message.expires_at is None else {"expires_at": message.expires_at}
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
        **({"look_at": message.created_at + _WATCH_EVERY, **expiry} if expiry else {}),
        "sealed": keyring.seal(msgspec.json.encode(secret), _context(message.message_id)),
    }


def _named(message_id: str) -> Document:
    return {"_id": message_id, "user_id": user_of(message_id)}


def _as_seen(seen: SeenMessage) -> Document:
    """Select a message if nobody claimed, sent, parked or dropped it since: each changes one of these."""
    return {**_named(seen.message_id), "state": seen.state, "tries": seen.tries, "next_at": seen.next_at}


def _done(state: str, now: datetime, masked: str | None = None, kind: str = "") -> Document:
    done = {"state": state, "done_at": now} | ({} if masked is None else {"masked": masked})
    return done | {"forget_at": now + _TOLD_TTL} if kind == WEBHOOK else done


def _leased(record: Document) -> Document:
    return {name: record[name] for name in ("_id", "user_id", "leased_by", "tries")}


async def erase_messages(outbox: Collection, user_id: str, now: datetime) -> None:
    """Erase every message of a deleted user that was not sent yet, and of the others whom they went to.

    What webhooks are told stays, as that the user was deleted is part of it, but for the places: names of properties
    may come from a user too. No document names the messages any more, so their records go in time.
    """
    theirs = {"user_id": user_id, "channel": {"$ne": WEBHOOK}}
    await outbox.update_all(
        {**theirs, "state": {"$in": WAITING}},
        {"$set": _done("dropped", now), "$unset": _EMPTIED},
    )
    await outbox.update_all(theirs, {"$set": {"relayed": True}, "$unset": {"masked": "", "last_error": ""}})
    told = {"user_id": user_id, "channel": WEBHOOK, "told.changes": {"$exists": True}}
    await outbox.update_all(told, {"$unset": {"told.changes": ""}})


class OutboxStore(SearchStore[SeenMessage]):
    """The collection ``outbox``."""

    fields = {  # noqa: RUF012 -- declared a ClassVar by the base
        "id": "_id",
        "state": "state",
        "channel": "channel",
        "kind": "kind",
        "user_id": "user_id",
        "organization_id": "organization_id",
        "creation_date": "created_at",
        "next_try": "next_at",
        "webhook_id": "webhook_id",
    }

    def __init__(self, database: Database, keyring: Keyring) -> None:
        """Use a database; the keyring opens what the users' writes sealed."""
        self._outbox = database.collection("outbox")
        self._keyring = keyring
        super().__init__(self._outbox.durable(), keyring, self._seen)

    async def prepare(self) -> None:
        """Make the indexes: one to claim by, two to find messages by, one that lets emptied records go."""
        await self._outbox.ensure_index([("state", 1), ("channel", 1), ("next_at", 1)])
        await self._outbox.ensure_index([("user_id", 1)])
        await self._outbox.ensure_index([("look_at", 1)], sparse=True)
        await self._outbox.ensure_index([("organization_id", 1), ("created_at", 1), ("_id", 1)])
        await self._outbox.ensure_index(
            [("done_at", 1)],
            expireAfterSeconds=int(_KEPT_TTL.total_seconds()),
            partialFilterExpression={"relayed": True},
        )
        await self._outbox.ensure_index([("webhook_id", 1)], sparse=True)
        await self._outbox.ensure_index(
            [("forget_at", 1)],
            expireAfterSeconds=0,
            partialFilterExpression={"relayed": True, "forget_at": {"$exists": True}},
        )

    async def claim(
        self,
        channels: Bunch[str],
        now: datetime,
        lease: timedelta,
        worker: str,
        apart_from: Bunch[str] = (),
    ) -> tuple[Document, Message | None] | None:
        """Lease the next message that is due; None if none is. Those to the webhooks ``apart_from`` are passed over.

        The record comes with the message it holds, or with None if no key that is set opens it or it is a webhook's.
        """
        due: Document = {"state": "pending", "channel": {"$in": list(map(str, channels))}, "next_at": {"$lte": now}}
        if apart_from:
            due["webhook_id"] = {"$nin": list(apart_from)}
        lead = {"$set": {"next_at": now + lease, "leased_by": worker}, "$inc": {"tries": 1}}
        while seen := await self._outbox.find(
            due, {"user_id": 1, "next_at": 1}, sort=[("next_at", 1)], limit=_LOOKED_AT
        ):
            # Taken by name: a router sends such a write to one shard only.
            random.shuffle(seen)
            for each in seen:
                record = await self._outbox.take({**each, "state": "pending"}, lead)
                if record is not None:
                    return record, self._message(record)
        return None

    def _message(self, record: Document) -> Message | None:
        if "sealed" not in record:
            return None
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

    async def settle(self, record: Document, state: str, now: datetime, masked: str | None = None) -> None:
        """End a leased message as ``sent`` or ``dropped``, and erase what was sealed; ``masked`` stays of whom to."""
        await self._outbox.update(
            _leased(record),
            {
                "$set": _done(state, now, masked, record["kind"]),
                "$unset": {**_EMPTIED, "last_error": ""},
            },
        )

    async def postpone(self, record: Document, until: datetime, error: str) -> None:
        """Give a leased message back until a time; ``error`` must hold no address and no code."""
        change = {"$set": {"next_at": until, "last_error": error}, "$unset": {"leased_by": ""}}
        await self._outbox.update(_leased(record), change)

    async def park(self, record: Document, now: datetime, error: str) -> None:
        """Put a leased message aside for somebody to look at; ``error`` likewise."""
        look_at = now + (_WATCH_EVERY if "expires_at" in record else _PARKED_TTL)
        change = {"$set": {"state": "parked", "look_at": look_at, "last_error": error}, "$unset": {"leased_by": ""}}
        await self._outbox.update(_leased(record), change)

    async def unwatched(self, now: datetime, limit: int) -> list[tuple[Document, Message | None]]:
        """Find messages that wait and were not looked at for a while, each with its record as ``claim`` gives it."""
        due = {"state": {"$in": WAITING}, "look_at": {"$lte": now}}
        records = await self._outbox.find(due, sort=[("look_at", 1)], limit=limit)
        return [(record, self._message(record)) for record in records]

    async def watch(self, record: Document, now: datetime) -> None:
        """Let a message that was looked at wait on, until the next look."""
        change = {"$set": {"look_at": now + _WATCH_EVERY}}
        await self._outbox.update({**_named(record["_id"]), "look_at": record["look_at"]}, change)

    async def bury(self, record: Document, now: datetime, masked: str | None) -> None:
        """Drop a message that was looked at, unless somebody else did something with it meanwhile."""
        await self.drop(self._seen(record), now, masked)

    async def erase_user(self, user_id: str, now: datetime) -> None:
        """Erase what the messages of a deleted user hold, as ``erase_messages()`` does."""
        await erase_messages(self._outbox, user_id, now)

    async def drop_of_webhook(self, webhook_id: str, now: datetime) -> None:
        """Drop whatever a deleted webhook was not told yet; what its organization's members still write, a worker does.

        A worker that has some of it in hand settles nothing: its lease is gone.
        """
        await self._outbox.update_all(
            {"webhook_id": webhook_id, "state": {"$in": WAITING}},
            {"$set": _done("dropped", now, kind=WEBHOOK), "$unset": _EMPTIED},
        )

    async def read(self, message_id: str) -> SeenMessage | None:
        """Find a message for a reader."""
        return self._seen_or_none(await self._outbox.durable().find_one(_named(message_id)))

    async def find(self, message_id: str) -> SeenMessage | None:
        """Find a message as the primary has it, for a change."""
        return self._seen_or_none(await self._outbox.find_one(_named(message_id)))

    async def retry(self, seen: SeenMessage, now: datetime) -> bool:
        """Make a message due that waits, or that a webhook was told, its tries counted anew.

        False if it is no longer as it was seen.
        """
        change = {
            "$set": {"state": "pending", "next_at": now, "tries": 0},
            "$unset": {"leased_by": "", "done_at": "", "forget_at": ""},
        }
        return await self._outbox.update(_as_seen(seen), change)

    async def drop(self, seen: SeenMessage, now: datetime, masked: str | None) -> bool:
        """End a waiting message unsent and erase what was sealed; False if it is no longer as it was seen."""
        change = {"$set": _done("dropped", now, masked, seen.kind), "$unset": _EMPTIED}
        return await self._outbox.update(_as_seen(seen), change)

    def _seen_or_none(self, record: Document | None) -> SeenMessage | None:
        return None if record is None else self._seen(record)

    def _seen(self, record: Document) -> SeenMessage:
        message = self._message(record)
        return SeenMessage(
            message_id=record["_id"],
            kind=record["kind"],
            channel=record["channel"],
            user_id=record["told"].get("user_id") if record["kind"] == WEBHOOK else record["user_id"],
            organization_id=record["organization_id"],
            created_at=record["created_at"],
            state=record["state"],
            tries=record["tries"],
            next_at=record["next_at"],
            leased="leased_by" in record,
            recipient=record.get("masked") if message is None else masked(message.channel, message.recipient),
            last_error=record.get("last_error"),
            done_at=record.get("done_at"),
            webhook_id=record.get("webhook_id"),
        )

    async def waiting(self) -> dict[str, int]:
        """Count the messages of each state that are not done, for ``doctor`` and the metrics."""
        return {state: await self._outbox.count({"state": state}, limit=10_000) for state in ("pending", "parked")}
