"""What a user's change leaves to be moved: entries of its history, messages to people, answers to repeatable requests.

They are born inside the user's document, in the one write that caused them, and wait there in ``pending``. A relay
copies them to where they belong, then takes them out; a crash in between repeats what is idempotent, as each record
has its id from birth. The process that wrote them still has them in memory and moves many at once; ``sweep`` finds
those that a crash left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from bson.raw_bson import RawBSONDocument

from schema_user.domain.message import user_of
from schema_user.errors import Unavailable
from schema_user.store.connection import raw
from schema_user.store.erasure import ERASURE, Erasure
from schema_user.store.requests import REQUESTS, answering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Collection as Bunch

    from schema_user.store.connection import Database, Document

log = logging.getLogger(__name__)

HISTORY: Final = "history"
OUTBOX: Final = "outbox"

_USERS: Final = 400
"""Users moved at once."""

_SIZE: Final = 4 * 1024 * 1024
"""Bytes moved at once."""

_NOTED: Final = 20_000
_NOTED_SIZE: Final = 64 * 1024 * 1024
"""What is remembered, in users and bytes; the rest is left to the sweep."""

_GATHERING: Final = 0.1
_GATHERING_MESSAGES: Final = 0.01
"""Seconds that a relay waits for more, so that one call moves the work of many requests; people wait for messages."""

_MANY: Final = 8
"""Records of one user that are copied without waiting for more: a document holds a bounded number."""

_QUIET: Final = 1.0
"""Seconds after which a user's document is emptied of what was copied; until then its next change does it."""

_SWEEP_EVERY: Final = 2.0
_SWEEP_AGE: Final = timedelta(seconds=6)
"""When something in a user's document counts as left behind: its own process would have moved it long before."""

FRESH: Final = timedelta(seconds=3)
"""How far ``pending_since`` may lie behind a change that empties the document as it writes, to spare an index."""


class Item(msgspec.Struct, frozen=True):
    """One record that waits: where it belongs, its id, and its bytes as they will stand there."""

    collection: str
    record_id: str
    record: RawBSONDocument

    @property
    def document(self) -> Document:
        """Write it down as it waits in its user's document."""
        return {"id": self.record_id, "to": self.collection, "size": self.size, "record": self.record}

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.record.raw)


class Noted(msgspec.Struct, frozen=True):
    """What one write left in a user's document, at which version, and the ids that waited there before it."""

    user_id: str
    version: int
    items: tuple[Item, ...]
    before: tuple[str, ...] = ()


@dataclass(slots=True)
class _Left:
    """What this process knows of a user's document: at which version, since when, and which records wait there."""

    version: int
    at: float
    waiting: set[str]
    copied: set[str]
    messages: set[str]


class Relay:
    """Moves pending records of users to their collections, in the event loop that calls ``run``.

    Copying comes first, durably. Taking out needs no hurry: the next change of the user does it for free if this
    process makes it (``copied``), else one cheap write does when the user has been quiet for a second.
    """

    def __init__(self, database: Database, born_in: str = "users", erasure: Erasure | None = None) -> None:
        """Use a database; ``born_in`` is the collection whose documents records wait in, users or schemas.

        ``erasure`` is what its sweep does of users that are deleted.
        """
        self._erasure = erasure or Erasure(database)
        self._users = database.collection(born_in)
        self._patience = database.timeout
        self._collections = {name: database.collection(name) for name in (HISTORY, OUTBOX, REQUESTS)}
        self._arrived: Callable[[], None] = lambda: None
        self._noted: deque[Noted] = deque()
        self._noted_size = 0
        self._left: dict[str, _Left] = {}
        self._gone: list[str] = []
        self._bell = asyncio.Event()
        self._urgent = asyncio.Event()
        self._copying = asyncio.Lock()

    def wakes(self, arrived: Callable[[], None]) -> None:
        """Name who is told when messages reached the outbox; it must be cheap and never raise."""
        self._arrived = arrived

    def wake(self) -> None:
        """Tell the worker of this process, if it has one, that messages are due."""
        self._arrived()

    def note(self, noted: Noted) -> None:
        """Remember what a write of this process left; cheap, never raises."""
        size = sum(item.size for item in noted.items)
        left = self._left.pop(noted.user_id, None)
        if len(self._noted) >= _NOTED or self._noted_size + size > _NOTED_SIZE:
            return
        self._noted.append(noted)
        self._noted_size += size
        mine = {item.record_id for item in noted.items}
        copied = left.copied.intersection(noted.before) if left else set()
        if left:
            self._gone.extend((left.messages & left.copied).difference(noted.before))
        messages = {item.record_id for item in noted.items if item.collection == OUTBOX}
        if left:
            messages |= left.messages.intersection(noted.before)
        # The oldest first, so that those that are quiet are found at the front.
        self._left[noted.user_id] = _Left(noted.version, time.monotonic(), mine.union(noted.before), copied, messages)
        self._bell.set()
        if messages or len(mine) + len(noted.before) >= _MANY:
            self._urgent.set()

    def copied(self, user_id: str, ids: Bunch[str]) -> bool:
        """Whether all of these records of a user are known to stand where they belong."""
        left = self._left.get(user_id)
        return left is not None and left.copied.issuperset(ids)

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until ``stopping`` is set and ``ring`` was called, and then what is noted still."""
        swept_at = 0.0
        while not stopping.is_set():
            await _rung(self._bell, _QUIET)
            if not stopping.is_set():
                await _rung(self._urgent, _GATHERING)
                await asyncio.sleep(_GATHERING_MESSAGES)
            self._bell.clear()
            self._urgent.clear()
            try:
                await self.flush()
                await self._empty(_QUIET)
                if time.monotonic() - swept_at >= _SWEEP_EVERY:
                    swept_at = time.monotonic()
                    while await self.sweep(_SWEEP_AGE, _USERS) == _USERS and not stopping.is_set():
                        pass
            except Unavailable as error:
                log.warning("the relay waits for the database: %s", error)
                await asyncio.sleep(_SWEEP_EVERY / 4)
            except Exception as error:  # noqa: BLE001 -- whatever it is, the records of others must be moved
                # By its type only: its text might hold a user's values. The sweep comes back to what was lost.
                log.error("unexpected %s in the relay", type(error).__name__)  # noqa: TRY400
        with contextlib.suppress(Unavailable):
            await self.flush()
            await self._empty(0)

    def ring(self) -> None:
        """Let ``run`` look up from its waiting."""
        self._bell.set()
        self._urgent.set()

    async def flush(self) -> None:
        """Copy everything that is noted to where it belongs; what somebody else copies just now is waited for.

        Raises:
            Unavailable: if the database does not answer; the sweep will find what was not moved.
        """
        async with self._copying:
            while self._noted:
                taken = self._taken()
                await self._accept([item for noted in taken for item in noted.items])
                for noted in taken:
                    left = self._left.get(noted.user_id)
                    if left is not None:
                        left.copied.update(left.waiting.intersection(item.record_id for item in noted.items))

    def _taken(self) -> list[Noted]:
        taken: list[Noted] = []
        size = 0
        while self._noted and len(taken) < _USERS and size < _SIZE:
            noted = self._noted.popleft()
            taken.append(noted)
            size += sum(item.size for item in noted.items)
        self._noted_size -= size
        return taken

    async def _empty(self, quiet: float) -> None:
        """Take what was copied out of the documents that nobody changed for ``quiet`` seconds.

        One that somebody else changed meanwhile stays as it is, for the sweep, and so do its messages' records.
        """
        limit = time.monotonic() - quiet
        while done := self._quiet_ones(limit):
            whole = {user: left for user, left in done if left.copied == left.waiting}
            emptied = [
                raw({"q": {"_id": user, "version": left.version}, "u": _EMPTIED, "multi": False})
                for user, left in whole.items()
            ]
            if emptied:
                await self._users.write_all("update", emptied, durable=False)
            if wrote := {user: left.messages for user, left in whole.items() if left.messages}:
                full = await self._users.find({"_id": {"$in": list(wrote)}, "pending": {"$exists": True}}, {"_id": 1})
                for user in wrote.keys() - {each["_id"] for each in full}:
                    self._gone.extend(wrote[user])
        gone, self._gone = self._gone, []
        await self._release(gone)

    def _quiet_ones(self, limit: float) -> list[tuple[str, _Left]]:
        found: list[tuple[str, _Left]] = []
        for user, left in self._left.items():
            if left.at > limit or len(found) == _USERS:
                break
            found.append((user, left))
        for user, _ in found:
            del self._left[user]
        return found

    async def _accept(self, items: Sequence[Item]) -> None:
        """Copy records to where they belong, durably; those that are there already stay as they are."""
        for name, collection in self._collections.items():
            mine = [item for item in items if item.collection == name]
            if not mine:
                continue
            if name == REQUESTS:  # its record is there since the request began
                written = await collection.write_all("update", [answering(i.record_id, i.record) for i in mine])
            else:
                written = await collection.write_all("insert", [item.record for item in mine])
            written.require_stored()
            if name == OUTBOX:
                self._arrived()

    async def _release(self, messages: Sequence[str]) -> None:
        """Let the emptied records of messages go in time: no user's document names them any more."""
        statements = [
            raw({"q": {"_id": each, "user_id": user_of(each)}, "u": {"$set": {"relayed": True}}, "multi": False})
            for each in messages
        ]
        for start in range(0, len(statements), _USERS):
            await self._collections[OUTBOX].write_all("update", statements[start : start + _USERS], durable=False)

    async def sweep(self, age: timedelta = timedelta(0), limit: int = 100) -> int:
        """Move what has waited in users' documents for longer than ``age``; how many users had some."""
        users = await self._users.find(
            {"pending_since": {"$lte": datetime.now(UTC) - age}},
            {"pending": 1, "version": 1},
            sort=[("pending_since", 1)],
            limit=limit,
        )
        if not users:
            return 0
        # Only what a majority holds: a failover that took a change back would leave here what tells of it.
        held = await self._users.durable().find({"_id": {"$in": [user["_id"] for user in users]}}, {"version": 1})
        versions = {each["_id"]: each["version"] for each in held}
        users = [user for user in users if versions.get(user["_id"], 0) >= user["version"]]
        if users:
            await self._relieve(users)
        return len(users)

    async def relieve(self, user_id: str) -> None:
        """Move whatever waits in one user's document, whoever wrote it, so that there is room for more."""
        user = await self._users.find_one({"_id": user_id}, {"pending": 1, "version": 1})
        if user is not None:
            await self._users.settled(user_id, user["version"], self._patience)
            await self._relieve([user])

    async def erase(self, user_id: str, now: datetime) -> None:
        """Erase what stands elsewhere of a user that was deleted, once all is there that this process had noted of it.

        Raises:
            Unavailable: if the database does not answer; the sweep will do it.
        """
        await self.flush()
        await self._erasure.erase(user_id, now)

    async def _relieve(self, users: Sequence[Document]) -> None:
        items = {user["_id"]: _items(user) for user in users}
        moved = [item for each in items.values() for item in each]
        await self._accept(moved)
        for user_id, each in items.items():
            if any(item.collection == ERASURE for item in each):
                await self._erasure.erase(user_id, datetime.now(UTC))
        pulled = [_pulled(user_id, [item.record_id for item in each]) for user_id, each in items.items()]
        await self._users.write_all("update", pulled, durable=False)
        await self._release([item.record_id for item in moved if item.collection == OUTBOX])


def _items(user: Document) -> list[Item]:
    return [Item(each["to"], each["id"], raw(each["record"])) for each in user.get("pending", ())]


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


_EMPTIED: Final[Document] = {"$unset": {"pending": "", "pending_since": ""}}


def _pulled(user_id: str, ids: list[str]) -> RawBSONDocument:
    """Take records out of a user; a pipeline, so that one pushed meanwhile is not forgotten by the index."""
    moved: dict[str, Any] = {"$in": ["$$this.id", {"$literal": ids}]}
    rest = {"$filter": {"input": "$pending", "cond": {"$not": [moved]}}}
    empty = {"$eq": [{"$size": "$pending"}, 0]}
    return raw(
        {
            "q": {"_id": user_id, "pending": {"$exists": True}},
            "multi": False,
            "u": [
                {"$set": {"pending": rest}},
                {
                    "$set": {
                        "pending_since": {"$cond": [empty, "$$REMOVE", "$pending_since"]},
                        "pending": {"$cond": [empty, "$$REMOVE", "$pending"]},
                    }
                },
            ],
        }
    )
