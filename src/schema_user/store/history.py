"""Entries of the history in MongoDB.

An entry is born inside its user's document, in the one write that it tells of, and is relayed from there. Its id is
the id of that write: as long as the entry is kept, whoever lost an answer can find out whether the write was applied.
The first entry is born with the first change: a user that was never changed tells itself what it was created as, and
its document says by whom.

Whoever reads a history reads the user's document first, then the collection. The relay copies an entry before it takes
it out, so what was there at the first look is found in one of the two, whatever the relay does in between.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.history import ChainCheck, Entry, Origin, changes, link
from schema_user.domain.keyring import Draw, open_with, seal_with
from schema_user.store.user_documents import from_document

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from schema_user.domain.history import Change
    from schema_user.domain.user import Creation, User
    from schema_user.store.connection import Database, Document

_TRACE_TTL: Final = timedelta(hours=1)
"""How long the trace of a write that no client can see is kept: until nobody asks any more what became of it."""

EXPIRES: Final = "history expires"
"""The fact of the instance that entries were not always kept for ever."""

_BATCH: Final = 32
"""Entries fetched at once: most who read a history need few, and one may have some megabytes."""

_NONCE_BYTES: Final = 9
_ENCODER: Final = msgspec.json.Encoder()


def write_id(user_id: str, version: int, nonce: str | None = None, draw: Draw = secrets.token_bytes) -> str:
    """Make the id of a write: it sorts by user and version, and no other write has it.

    With a ``nonce`` of its own, a write that is sent again is known by it.
    """
    return f"{user_id}:{version:010}:{nonce or base64.urlsafe_b64encode(draw(_NONCE_BYTES)).decode('ascii')}"


def entry(
    before: User | None,
    after: User,
    origin: Origin,
    at: datetime,
    made_id: str,
    *,
    kept: timedelta | None = None,
) -> tuple[Document, bytes]:
    """Give the record of a change, its values sealed under the user's own key, and its digest for the chain.

    It is ``kept`` for that long, or for ever. A write that no client can see leaves a trace only: no values, no link,
    and it goes by itself.
    """
    if at.microsecond % 1000:
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as it is read back: the digest covers it
    record: Document = {
        "_id": made_id,
        "user_id": after.user_id,
        "organization_id": after.organization_id,
        "sequence": after.sequence,
        "at": at,
    }
    previous = b"" if before is None else before.chain
    if before is not None and before.sequence == after.sequence:
        record["expires_at"] = at + _TRACE_TTL
        return record, previous
    record |= {"token_id": origin.token_id, "request_id": origin.request_id}
    if origin.user_id is not None:
        record["actor_id"] = origin.user_id
    found = changes(before, after)
    sealed = seal_with(after.key, _ENCODER.encode(found), f"history|{made_id}") if found else b""
    facts = (
        made_id,
        after.user_id,
        after.organization_id,
        after.sequence,
        at.isoformat(),
        origin.token_id,
        origin.user_id or "",
        origin.request_id,
    )
    digest = link(previous, facts, sealed)
    record |= {"previous": previous, "digest": digest, "sealed": sealed}
    if kept is not None:
        record["expires_at"] = at + kept
    return record, digest


def first_entry(user: User, creation: Creation, kept: timedelta | None) -> tuple[Document, bytes]:
    """Give the record of the creation of a user that nothing changed since, and its digest; see ``entry()``."""
    origin = Origin(creation.token_id, creation.user_id, creation.request_id)
    return entry(None, user, origin, user.created_at, creation.write_id, kept=kept)


def read_entry(document: Document) -> Entry | None:
    """Read an entry back; None for a trace, and for what nobody wrote like this."""
    try:
        return msgspec.convert(document | {"entry_id": document.get("_id")}, Entry, builtin_types=(bytes, datetime))
    except msgspec.ValidationError:
        return None


def opened(key: bytes, told: Entry) -> list[Change]:
    """Open what changed, under the user's own key; nothing without one, as it goes with its user.

    Raises:
        SealError: if it was not sealed under this key for this entry.
    """
    if not key or not told.sealed:
        return []
    found: list[Change] = msgspec.json.decode(open_with(key, told.sealed, f"history|{told.entry_id}"))
    return found


@dataclass(frozen=True, slots=True)
class Head:
    """Where a user's history ends: what its document says, and the entries and traces that still wait in it.

    Of a deleted user there is no ``key``. One that is ``untouched`` was never changed, and has no entry yet.
    """

    user_id: str
    organization_id: str
    schema_id: str
    revision: int
    sequence: int
    version: int
    deleted: bool
    created_at: datetime
    changed_at: datetime
    key: bytes = field(repr=False)
    chain: bytes
    untouched: bool
    waiting: tuple[Document, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckedChain:
    """What the check of one user's entries found; see ``ChainCheck``."""

    head: Head
    begins_at: int | None
    broken_at: int | None
    unordered: bool


_HEAD: Final = {
    "organization_id": 1,
    "schema_id": 1,
    "revision": 1,
    "sequence": 1,
    "version": 1,
    "deleted": 1,
    "created_at": 1,
    "changed_at": 1,
    "key": 1,
    "chain": 1,
    "creation.id": 1,
    "pending": 1,
}


_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def _waiting(document: Document) -> tuple[Document, ...]:
    """Give the entries and traces that wait in a user's document, in their order."""
    records = [each["record"] for each in document.get("pending", ()) if each["to"] == "history"]
    return tuple(sorted(records, key=lambda record: str(record["_id"])))


class HistoryStore:
    """The collection ``history``, and what waits for it in ``users``."""

    def __init__(self, database: Database, kept: timedelta | None = None) -> None:
        """Use a database; entries are ``kept`` for that long, or for ever."""
        self._kept = kept
        self._history = database.collection("history")
        self._users = database.collection("users")

    async def prepare(self) -> None:
        """Make the index that lets traces and old entries go; entries are found by their ids, by user and version."""
        await self._history.ensure_index(
            [("expires_at", 1)], expireAfterSeconds=0, partialFilterExpression={"expires_at": {"$exists": True}}
        )

    async def head(self, user_id: str) -> Head | None:
        """Find the end of a user's history, also of a deleted one, as a majority has it."""
        found = await self._users.durable().find_one({"_id": user_id}, _HEAD)
        if found is None:
            return None
        return Head(
            user_id=found["_id"],
            organization_id=found["organization_id"],
            schema_id=found["schema_id"],
            revision=found["revision"],
            sequence=found["sequence"],
            version=found["version"],
            deleted=found["deleted"],
            created_at=found["created_at"],
            changed_at=found["changed_at"],
            key=found.get("key", b""),
            chain=found.get("chain", b""),
            untouched="creation" in found,
            waiting=_waiting(found),
        )

    async def entries(self, head: Head, before: str | None = None) -> AsyncGenerator[Entry, None]:
        """Give the entries up to a head, or before the one with an id, the newest first.

        What is no entry, such as a trace, is left out. Whoever may stop before the end closes it.
        """
        if head.untouched:
            head = replace(head, waiting=await self._created(head.user_id))
        async with contextlib.aclosing(self._documents(head, before, order=-1)) as documents:
            async for document in documents:
                told = read_entry(document)
                if told is not None:
                    yield told

    async def _created(self, user_id: str) -> tuple[Document, ...]:
        """Give the first entry of an untouched user as if it waited, or what waits if the user was changed by now."""
        found = await self._users.durable().find_one({"_id": user_id}, {"indexed": 0})
        if found is None:
            return ()
        user = from_document(found)
        if user.creation is None:
            return _waiting(found)
        record, _ = first_entry(user, user.creation, self._kept)
        return () if record.get("expires_at", _NEVER) <= datetime.now(UTC) else (record,)

    async def check(self, head: Head, expired_before: datetime | None) -> CheckedChain:
        """Follow the chain of a user's entries up to a head that was read before, a batch in memory at a time.

        Entries from before ``expired_before`` may be gone; None: none may.
        """
        if head.untouched:
            return CheckedChain(head, 1, 1 if head.chain or head.sequence != 1 else None, unordered=False)
        chain = ChainCheck()
        async with contextlib.aclosing(self._documents(head, None, order=1)) as documents:
            async for document in documents:
                if "digest" in document:
                    chain.take(read_entry(document))
        chain.end(
            head.sequence,
            head.chain,
            may_lack_first=expired_before is not None and head.created_at <= expired_before,
            may_lack_all=expired_before is not None and head.changed_at <= expired_before,
        )
        return CheckedChain(head, chain.begins_at, chain.broken_at, chain.unordered)

    async def user_ids(self, after: str, limit: int) -> list[str]:
        """List the ids of users, deleted ones among them, that come after one; in their order."""
        found = await self._users.durable().find({"_id": {"$gt": after}}, {"_id": 1}, sort=[("_id", 1)], limit=limit)
        return [each["_id"] for each in found]

    async def count_of_users(self) -> int:
        """Give about how many users there are, deleted ones among them."""
        return await self._users.estimate()

    async def _documents(self, head: Head, before: str | None, order: int) -> AsyncGenerator[Document, None]:
        """Give what waits in a user's document and what was moved, each once, by their ids."""
        # A digit sorts before a colon: these are the ids of the user's writes up to the head's version, and few more.
        since, until = f"{head.user_id}:0", before or f"{head.user_id}:{head.version + 1:010}:"
        waiting = {record["_id"]: record for record in head.waiting if record["_id"] < until}
        left = sorted(waiting, reverse=order < 0)
        where = {"user_id": head.user_id, "_id": {"$gte": since, "$lt": until}}
        async with contextlib.aclosing(
            self._history.durable().stream(where, sort=[("_id", order)], batch_size=_BATCH)
        ) as moved:
            async for document in moved:
                made_id = document["_id"]
                while left and (left[0] < made_id if order > 0 else left[0] > made_id):
                    yield waiting[left.pop(0)]
                if left and left[0] == made_id:
                    left.pop(0)
                yield document
        for made_id in left:
            yield waiting[made_id]
