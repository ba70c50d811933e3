"""Requests under an ``Idempotency-Key`` in MongoDB.

A record is inserted before a request is performed, so that another request under the same key is told from it. What
makes its effect happen once is not the record: the answer is stored in the same write as the change that it tells of,
inside the changed document, and moved here from there. Whoever repeats the request reads the document first, then the
record, and writes only if neither knows an answer and the document is still as it was read.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.keyring import SealError, open_with, seal_with
from schema_user.domain.repetition import KEPT, Answered, Known, Once
from schema_user.errors import Aborted
from schema_user.store.batch import Batcher, Bounds
from schema_user.store.connection import SETTLING, DuplicateKey, raw, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bson.raw_bson import RawBSONDocument

    from schema_user.store.connection import Collection, Database, Document

REQUESTS: Final = "requests"


@dataclass(frozen=True, slots=True)
class _Noting:
    record_id: str
    record: RawBSONDocument


def answer_record(answered: Answered, at: datetime, key: bytes = b"") -> Document:
    """Write down what is kept of an answer given now, without the record's id; codes are sealed under ``key``."""
    answer: Document = {"sequence": answered.sequence, "changed_at": answered.changed_at}
    if answered.revision:
        answer["revision"] = answered.revision
    if answered.codes:
        answer["codes"] = seal_with(key, msgspec.json.encode(dict(answered.codes)), _context(answered.once.record_id))
    return {
        "digest": answered.once.digest,
        "expires_at": at + KEPT,
        "answer": answer,
    }


def known_of(record: Document, record_id: str, key: bytes = b"") -> Known:
    """Read a record; its codes only with the ``key`` that they were sealed under, if it is still there."""
    answer, digest = record.get("answer"), bytes(record["digest"])
    if answer is None:
        return Known(digest, record.get("resource_id"))
    answered = Answered(
        Once(record_id, digest),
        answer["sequence"],
        answer["changed_at"],
        answer.get("revision", 0),
        _codes(answer.get("codes"), record_id, key),
    )
    return Known(digest, record.get("resource_id"), answered)


def _codes(sealed: bytes | None, record_id: str, key: bytes) -> dict[str, str]:
    if not sealed or not key:
        return {}
    try:
        return msgspec.json.decode(open_with(key, sealed, _context(record_id)), type=dict[str, str])
    except SealError:  # of a user who was made anew, or of a lost key: as if they were dead
        return {}


def _context(record_id: str) -> str:
    return f"request|{record_id}"


def kept_in(answered: Answered, at: datetime) -> Document:
    """Write down an answer as it is kept inside the document that the request changed, beside a few others."""
    return {"id": answered.once.record_id, **answer_record(answered, at)}


async def found_in(collection: Collection, document_id: str, once: Once, patience: float) -> Known | None:
    """Find the answer to a request inside the document that it changed, once a majority holds it.

    Raises:
        Unavailable: if none does within ``patience`` seconds.
    """
    found = await collection.find_one(
        {"_id": document_id, "requests.id": once.record_id}, {"requests.$": 1, "version": 1}
    )
    if found is None:
        return None
    await collection.settled(document_id, found["version"], patience)
    return known_of(found["requests"][0], once.record_id)


def answering(record_id: str, record: RawBSONDocument) -> RawBSONDocument:
    """Give the statement that stores an answer in its record, unless there is one."""
    return raw(
        {"q": {"_id": record_id, "answer": {"$exists": False}}, "u": {"$set": record}, "upsert": True, "multi": False}
    )


class RequestStore:
    """The collection ``requests``."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._requests = database.collection("requests")
        self._patience = database.timeout
        self._notes: Batcher[_Noting, bool] = Batcher(self._insert, Bounds())

    async def prepare(self) -> None:
        """Make the index that lets records go after their time."""
        await self._requests.ensure_index([("expires_at", 1)], expireAfterSeconds=0)

    async def begin(self, once: Once, now: datetime, resource_id: str | None = None, key: bytes = b"") -> Known | None:
        """Note a request before it is performed; None if none came before it under its key.

        With ``resource_id``, that of a resource which the request makes, the note is durable: a repetition must
        find it. ``key`` opens the codes of an answer.

        Raises:
            Unavailable: if the database does not answer.
            Aborted: ``REQUEST_UNDECIDED``, if the record came and went in the same moment.
        """
        record: Document = {"_id": once.record_id, "digest": once.digest, "expires_at": now + KEPT}
        if resource_id is not None:
            record["resource_id"] = resource_id
        if await self._is_new(once.record_id, record, durable=resource_id is not None):
            return None
        known = await self.find(once, key)
        if known is None:
            # It expired between the two calls, or a failover took it back.
            raise Aborted("REQUEST_UNDECIDED", "the same request is being answered just now", retry_after=1)
        return known

    async def _is_new(self, record_id: str, record: Document, *, durable: bool) -> bool:
        if not durable:
            encoded = raw(record)
            return await self._notes.do(_Noting(record_id, encoded), None, len(encoded.raw))
        try:
            await self._requests.insert(record)
        except DuplicateKey:
            return False
        return True

    async def _insert(self, notes: list[_Noting]) -> Sequence[bool | Exception]:
        """Insert without waiting for a majority: a change that the note belongs to carries its own proof."""
        written = await self._requests.write_all("insert", [note.record for note in notes], durable=False)
        return [
            True if error is None else False if isinstance(error, DuplicateKey) else error
            for error in map(written.errors.get, range(len(notes)))
        ]

    async def find(self, once: Once, key: bytes = b"") -> Known | None:
        """Find what is known of a request; an answer only if a majority holds it."""
        record = await self._requests.find_one({"_id": once.record_id})
        if record is not None and "answer" in record:
            record = await self._held(once)
        return None if record is None else known_of(record, once.record_id, key)

    async def _held(self, once: Once) -> Document:
        """Wait until a majority shows the answer: its document may tell of it no more, so it must not be overlooked."""
        durable, deadline = self._requests.durable(), time.monotonic() + self._patience
        while True:
            record = await durable.find_one({"_id": once.record_id})
            if record is not None and "answer" in record:
                return record
            if time.monotonic() > deadline:
                raise unavailable()
            await asyncio.sleep(SETTLING)

    async def take_in(self, collection: Collection, document_id: str, patience: float) -> None:
        """Store the answers that a document keeps in their records, so that the next write can take their place.

        Nothing else can come to be kept there without a change of the version, which that write is guarded by.
        """
        found = await collection.find_one({"_id": document_id}, {"requests": 1, "version": 1})
        if found is None or not found.get("requests"):
            return
        await collection.settled(document_id, found["version"], patience)
        kept = [(each.pop("id"), raw(each)) for each in found["requests"]]
        written = await self._requests.write_all("update", [answering(*each) for each in kept])
        written.require_stored()

    async def settle(self, answered: Answered, at: datetime) -> None:
        """Store an answer in its record, if no relay carries it there from the document that was changed."""
        record = raw(answer_record(answered, at))
        written = await self._requests.write_all("update", [answering(answered.once.record_id, record)])
        written.require_stored()
