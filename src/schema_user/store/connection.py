"""The only module that knows a driver: PyMongo's async API, or Motor, whose successor it is.

Writes are acknowledged by a majority and journaled, whatever the URI says. A driver's error leaves here as one of
ours: what can pass by itself is ``Unavailable``, a duplicate key is ``DuplicateKey``, anything else is a bug and
stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import bson
import pymongo
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from schema_user.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
    from datetime import timedelta

log = logging.getLogger(__name__)

Document = dict[str, Any]
Pipeline = list[dict[str, Any]]

RETRY_AFTER: Final = 2
"""Seconds after which a client may come again when the database has no primary: an election takes that long."""

_HEARTBEAT_MS: Final = 2000
SETTLING: Final = 0.01
"""Seconds between two looks at whether a majority has what the primary has."""

_SOON: Final = 0.8
"""The part of a time limit after which a read that failed was given up for it: the driver leaves time for the way."""

_DUPLICATE_KEY: Final = 11000
_STATEMENTS: Final = {"insert": "documents", "update": "updates"}
_DEFAULT_DATABASE: Final = "schema_user"
_TRANSIENT_LABELS: Final = ("RetryableWriteError", "TransientTransactionError")
_TRANSIENT_CODES: Final = frozenset(
    {6, 7, 50, 64, 89, 91, 133, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436}
)
"""Server codes for: not reachable, time limit, write concern not met in time, shutting down, no primary."""


class DuplicateKey(Exception):
    """A document with this ``_id`` or unique value is there already; ``pattern`` names the fields of the index."""

    def __init__(self, pattern: frozenset[str]) -> None:
        """Keep the fields of the index that refused."""
        super().__init__(f"duplicate key on {', '.join(sorted(pattern))}")
        self.pattern = pattern


class TookTooLong(Exception):
    """A read was given up at the time limit that its caller set."""


class _PlainInt(TypeDecoder):
    """Gives 64-bit integers as plain ``int``: neither msgspec nor the validators take a subclass."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        """Drop the subclass."""
        return int(value)


_CODEC: Final = CodecOptions[Document](tz_aware=True, type_registry=TypeRegistry([_PlainInt()]))


_PLAIN: Final = CodecOptions[Document](tz_aware=False)
"""Decodes five times as fast, for results without 64-bit integers; times come without their zone, UTC."""

_AS_IT_IS: Final = CodecOptions(RawBSONDocument, tz_aware=True)


def decoded(content: bytes) -> Document:
    """Read a document out of its BSON."""
    return bson.decode(content, codec_options=_CODEC)


def unavailable() -> Unavailable:
    """Say that the database cannot take it now; whether it took a write before is not said."""
    return Unavailable(
        "DATABASE_UNAVAILABLE", "the database has no primary or does not answer in time", retry_after=RETRY_AFTER
    )


def _unavailable(error: PyMongoError) -> Unavailable:
    """Translate a driver's error; its text goes to the log, as it may name hosts."""
    log.warning("database unavailable: %s: %s", type(error).__name__, error)
    return unavailable()


def _passes(error: PyMongoError) -> bool:
    if isinstance(error, (ConnectionFailure, NotPrimaryError, ExecutionTimeout, WTimeoutError)) or error.timeout:
        return True
    code = getattr(error, "code", None)
    return code in _TRANSIENT_CODES or any(error.has_error_label(label) for label in _TRANSIENT_LABELS)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateKey(frozenset((error.details or {}).get("keyPattern", {}))) from error
    except PyMongoError as error:
        if _passes(error):
            raise _unavailable(error) from error
        raise


@contextlib.contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Give up a read after so many seconds, also at the server; None: as long as any call may take.

    Raises:
        TookTooLong: then.
    """
    if seconds is None:
        with _translated():
            yield
        return
    began = time.monotonic()
    try:
        with pymongo.timeout(seconds):
            yield
    except PyMongoError as error:
        # The server, or the driver before it sends, gives up only for the limit set here: nothing else sets one.
        given_up = isinstance(error, ExecutionTimeout) or time.monotonic() - began >= seconds * _SOON
        if _passes(error) and given_up:
            raise TookTooLong from error
        with _translated():
            raise


def raw(document: Document) -> RawBSONDocument:
    """Encode a document once, where its own caller hears of what cannot be encoded; it is sent as it is."""
    return RawBSONDocument(bson.encode(document, codec_options=_CODEC))


@dataclass(frozen=True, slots=True)
class Written:
    """What became of several writes: how many were applied, and the errors of others by their place."""

    applied: int
    errors: dict[int, Exception]

    def require_stored(self) -> None:
        """Raise the first error that is no duplicate: what is sent again may be there already."""
        for error in self.errors.values():
            if not isinstance(error, DuplicateKey):
                raise error


async def _done(result: Any) -> Any:
    """Give what a driver's method gives: the two do not agree on which of them have to be awaited."""
    return await result if inspect.isawaitable(result) else result


def _write_error(error: Mapping[str, Any]) -> Exception:
    code = error.get("code")
    if code == _DUPLICATE_KEY:
        return DuplicateKey(frozenset(error.get("keyPattern", {})))
    if code in _TRANSIENT_CODES:
        return unavailable()
    return OperationFailure(f"write error {code}", code)


class Collection:
    """The verbs of a collection that the stores use, the same for both drivers.

    ``read`` options: updates read what the primary has (the guard of the write finds out the rest); answers to
    readers come through ``durable()``, which shows only what a majority holds.
    """

    def __init__(self, raw: Any) -> None:
        """Wrap a driver's collection."""
        self._raw = raw

    def durable(self) -> Collection:
        """Give the collection as readers must see it: nothing that a failover could take back."""
        return Collection(self._raw.with_options(read_concern=ReadConcern("majority")))

    async def find_one(self, where: Document, fields: Mapping[str, int] | None = None) -> Document | None:
        """Find one document, or None."""
        with _translated():
            found: Document | None = await self._raw.find_one(where, fields)
            return found

    async def find(self, where: Document, fields: Mapping[str, int] | None = None, **options: Any) -> list[Document]:
        """Find documents; ``options`` are the driver's ``sort``, ``skip``, ``limit`` and ``hint``."""
        with _translated():
            found: list[Document] = await self._raw.find(where, fields, **options).to_list(None)
            return found

    async def stream(
        self, where: Document, fields: Mapping[str, int] | None = None, **options: Any
    ) -> AsyncGenerator[Document, None]:
        """Find documents one by one, holding a batch of at most 16 MiB; ``options`` as for ``find()``.

        Whoever may stop before the end closes it (``contextlib.aclosing``). A document that comes or goes meanwhile is
        seen or is not.
        """
        cursor = self._raw.find(where, fields, **options)
        try:
            while True:
                with _translated():
                    found: Document | None = await anext(cursor, None)
                if found is None:
                    return
                yield found
        finally:
            await cursor.close()

    async def encoded(
        self, where: Document, fields: Mapping[str, int] | None = None, *, size: int, **options: Any
    ) -> list[bytes]:
        """Find documents as BSON for ``decoded()``, until they have ``size`` bytes together.

        ``options`` are those of ``find()``. To decode a whole page at once would hold up everybody else.
        """
        plain = self._raw.with_options(codec_options=_AS_IT_IS)
        cursor = plain.find(where, fields, **options)
        found: list[bytes] = []
        try:
            while size > 0:
                with _translated():
                    document: RawBSONDocument | None = await anext(cursor, None)
                if document is None:
                    break
                found.append(bytes(document.raw))
                size -= len(document.raw)
        finally:
            await cursor.close()
        return found

    async def aggregate(
        self, pipeline: Pipeline, *, seconds: float | None = None, hint: Sequence[tuple[str, int]] | None = None
    ) -> list[Document]:
        """Run an aggregation and give its documents; over this index, if one is named.

        Raises:
            TookTooLong: after ``seconds``, if they are given.
        """
        with _within(seconds):
            cursor = await _done(self._raw.aggregate(pipeline, **({"hint": dict(hint)} if hint else {})))
            found: list[Document] = await cursor.to_list(None)
            return found

    async def keys(
        self,
        index: Sequence[tuple[str, int]],
        lower: Sequence[tuple[str, Any]],
        upper: Sequence[tuple[str, Any]],
        fields: Sequence[str],
        *,
        limit: int,
        skip: int = 0,
        sort: Sequence[tuple[str, int]] | None = None,
        seconds: float | None = None,
    ) -> list[Document]:
        """Read ``fields`` out of an index, from one of its keys up to before another one, without the documents.

        Each document comes once, however many of its keys are there. Times are of UTC, without the zone. ``seconds``
        as for ``aggregate()``. There is no filter: one would make the server fetch the documents.
        """
        shown: Document = {"_id": 0} | dict.fromkeys(fields, 1)
        plain = self._raw.with_options(codec_options=_PLAIN)
        with _within(seconds):
            # A batch that could hold one more lets the server see the end, and close the cursor, in one call.
            options: Document = {"limit": limit, "batch_size": limit + 1, "sort": list(sort) if sort else None}
            cursor = plain.find({}, shown, hint=list(index), skip=skip, **options)
            found: list[Document] = await cursor.min(list(lower)).max(list(upper)).to_list(None)
            return found

    async def count(
        self,
        where: Document,
        limit: int = 0,
        *,
        seconds: float | None = None,
        hint: Sequence[tuple[str, int]] | None = None,
    ) -> int:
        """Count documents exactly, but no more than ``limit`` if one is given; ``seconds`` as for ``aggregate()``."""
        options: Document = ({"limit": limit} if limit else {}) | ({"hint": dict(hint)} if hint else {})
        with _within(seconds):
            counted: int = await self._raw.count_documents(where, **options)
            return counted

    async def estimate(self) -> int:
        """Give about how many documents there are, without counting them."""
        with _translated():
            return int(await self._raw.estimated_document_count())

    async def insert(self, document: Document) -> None:
        """Insert a document.

        Raises:
            DuplicateKey: for an ``_id`` or unique value that is there.
        """
        with _translated():
            await self._raw.insert_one(document)

    async def update(self, where: Document, change: Document | Pipeline, *, upsert: bool = False) -> bool:
        """Change one document; whether one was there (or, with ``upsert``, was made)."""
        with _translated():
            result = await self._raw.update_one(where, change, upsert=upsert)
            return bool(result.matched_count or result.upserted_id is not None)

    async def update_all(self, where: Document, change: Document) -> int:
        """Change every document that matches; how many did."""
        with _translated():
            return int((await self._raw.update_many(where, change)).matched_count)

    async def take(self, where: Document, change: Document) -> Document | None:
        """Change a document that matches and give it as it is afterwards."""
        with _translated():
            found: Document | None = await self._raw.find_one_and_update(
                where, change, return_document=ReturnDocument.AFTER
            )
            return found

    async def exchange(self, where: Document, change: Document | Pipeline, *, upsert: bool = False) -> Document | None:
        """Change a document that matches and give it as it was before; None: none was there.

        Two that make the same document at once may collide; the server, or this, tries again.
        """
        options = {"upsert": upsert, "return_document": ReturnDocument.BEFORE}
        with _translated():
            try:
                found: Document | None = await self._raw.find_one_and_update(where, change, **options)
            except DuplicateKeyError:
                found = await self._raw.find_one_and_update(where, change, **options)
            return found

    async def delete(self, where: Document) -> bool:
        """Delete one document; whether one was there."""
        with _translated():
            return bool((await self._raw.delete_one(where)).deleted_count)

    async def delete_all(self, where: Document) -> int:
        """Delete every document that matches; how many did."""
        with _translated():
            return int((await self._raw.delete_many(where)).deleted_count)

    async def write_all(self, kind: str, statements: Sequence[RawBSONDocument], *, durable: bool = True) -> Written:
        """Apply many writes in one call, in no order; one that fails does not keep the others from being applied.

        ``kind`` is ``insert`` (documents) or ``update`` (statements with ``q``, ``u`` and ``multi``). The driver does
        not repeat it: who must know the outcome sends again what is guarded. ``durable`` writes are acknowledged by a
        majority and journaled, others by the primary: good enough for what is done again if it is lost.

        Raises:
            Unavailable: if the outcome of some is not known.
        """
        concern = {"w": "majority", "j": True} if durable else {"w": 1}
        command = {kind: self._raw.name, _STATEMENTS[kind]: statements, "ordered": False, "writeConcern": concern}
        with _translated():
            reply = await self._raw.database.command(command)
        if "writeConcernError" in reply:
            log.warning("not acknowledged by a majority: %s", reply["writeConcernError"].get("codeName"))
            raise unavailable()
        errors = {error["index"]: _write_error(error) for error in reply.get("writeErrors", ())}
        return Written(reply["n"], errors)

    async def settled(self, document_id: str, version: int, patience: float) -> None:
        """Wait until a majority holds a document in this version or a later one.

        Raises:
            Unavailable: if none does within ``patience`` seconds: perhaps a failover took the version back.
        """
        durable, deadline = self.durable(), time.monotonic() + patience
        while True:
            held = await durable.find_one({"_id": document_id}, {"version": 1})
            if held is not None and held["version"] >= version:
                return
            if time.monotonic() > deadline:
                raise unavailable()
            await asyncio.sleep(SETTLING)

    async def ensure_index(self, keys: Sequence[tuple[str, int]], **options: Any) -> None:
        """Make an index if it is not there."""
        with _translated():
            await self._raw.create_index(list(keys), **options)


class Database:
    """A connection to one database; made inside the event loop that uses it."""

    def __init__(self, uri: str, driver: str = "pymongo", timeout: timedelta | None = None) -> None:
        """Connect lazily: the first call finds out whether the server is there.

        ``timeout`` bounds each call as a whole: choosing a server, sending, waiting, and the driver's retry.
        """
        milliseconds = int(timeout.total_seconds() * 1000) if timeout else 5000
        self.timeout = milliseconds / 1000
        options: dict[str, Any] = {
            "w": "majority",
            "journal": True,
            "retryWrites": True,
            "retryReads": True,
            "timeoutMS": milliseconds,
            "serverSelectionTimeoutMS": milliseconds,
            # A primary that hangs without closing its connections is noticed by the driver's monitor only, after the
            # sum of these two; batches use few connections, so their own timeouts tell the driver little.
            "connectTimeoutMS": milliseconds,
            "heartbeatFrequencyMS": _HEARTBEAT_MS,
            "appname": "schema-user",
        }
        if driver == "motor":
            from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 -- an optional dependency

            self._client: Any = AsyncIOMotorClient(uri, **options)
        else:
            self._client = AsyncMongoClient(uri, **options)
        try:
            name = self._client.get_default_database().name
        except ConfigurationError:
            name = _DEFAULT_DATABASE
        self._raw = self._client.get_database(
            name, codec_options=_CODEC, write_concern=WriteConcern("majority", j=True)
        )

    def collection(self, name: str) -> Collection:
        """Give a collection by its name."""
        return Collection(self._raw.get_collection(name))

    async def insert_together(self, parts: Mapping[str, Sequence[Document]]) -> None:
        """Insert documents into collections in one transaction, majority-durable: all of them, or none.

        Raises:
            DuplicateKey: if one of them is there; none was stored then.
            Unavailable: if the outcome is not known, or another write was in the way.
        """
        with _translated():
            session = await _done(self._client.start_session())
            try:
                await _done(session.start_transaction(write_concern=WriteConcern("majority", j=True)))
                for name, documents in parts.items():
                    command = {"insert": name, "documents": documents, "ordered": True}
                    reply = await self._raw.command(command, session=session)
                    for error in reply.get("writeErrors", ()):
                        raise _write_error(error)
                await session.commit_transaction()
            finally:
                await session.end_session()  # aborts what was not committed

    async def ping(self) -> None:
        """Find out whether a primary answers.

        Raises:
            Unavailable: if none does in time.
        """
        with _translated():
            hello = await self._raw.command("hello")
        if not hello.get("isWritablePrimary"):
            raise Unavailable("DATABASE_UNAVAILABLE", "the database has no primary", retry_after=RETRY_AFTER)

    async def drop(self) -> None:
        """Drop the whole database; tests do."""
        with _translated():
            await self._client.drop_database(self._raw.name)

    async def close(self) -> None:
        """Close every connection."""
        await _done(self._client.close())


@contextlib.asynccontextmanager
async def connected(uri: str, driver: str, timeout: timedelta | None = None) -> AsyncIterator[Database]:  # noqa: ASYNC109 -- the driver's own, for each call
    """Connect for as long as the block lasts."""
    database = Database(uri, driver, timeout)
    try:
        yield database
    finally:
        await database.close()
