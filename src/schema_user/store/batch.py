"""Gathered reads and group commit: those who wait at the same moment share one call to the database.

One call for each request costs the driver and the server more than the work itself. Here whatever comes in while a
call is under way goes out with the next one; alone, an item goes out at once. A caller that gives up takes nobody
else's item with it, and a queue that is full refuses (``QUEUE_FULL``) before memory grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from schema_user.errors import Unavailable
from schema_user.store.connection import DuplicateKey, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence
    from collections.abc import Collection as Bunch

    from bson.raw_bson import RawBSONDocument

    from schema_user.store.connection import Collection

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_GRACE: Final = 0.3
"""Seconds beyond the driver's own time limit."""

_PAUSE: Final = 0.2
"""Seconds between two sends of a write whose outcome is not known."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much goes out at once and how much may wait; sizes in bytes, as the items say of themselves.

    One call at a time makes the largest batches. A second would let the server work while the journal is written; with
    32 clients on two cores it was measured to be slower.
    """

    calls: int = 1
    items: int = 256
    size: int = 6 * 1024 * 1024
    waiting: int = 4096
    waiting_size: int = 64 * 1024 * 1024


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    key: Hashable
    size: int
    outcome: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Hands items to ``send`` in batches; no two items with the same key (other than None) are in one batch.

    ``send`` gives for each item, in their order, its result or the exception that its caller shall see; what it
    raises itself is for all of them.
    """

    def __init__(self, send: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], bounds: Bounds) -> None:
        """Send nothing yet; the event loop is that of the first item."""
        self._send = send
        self._bounds = bounds
        self._queue: deque[_Waiting[T, R]] = deque()
        self._queued = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._due = False

    async def do(self, item: T, key: Hashable = None, size: int = 0) -> R:
        """Have an item sent and give its result.

        Raises:
            Unavailable: ``QUEUE_FULL``, if too much waits already; nothing was sent then.
            Exception: whatever ``send`` says of the item.
        """
        bounds = self._bounds
        if len(self._queue) >= bounds.waiting or self._queued + size > bounds.waiting_size:
            raise Unavailable("QUEUE_FULL", "too many requests wait for the database", retry_after=1)
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T, R] = _Waiting(item, key, size, loop.create_future())
        self._queue.append(waiting)
        self._queued += size
        if not self._due and len(self._calls) < bounds.calls:
            self._due = True
            loop.call_soon(self._begin)
        return await waiting.outcome

    def _begin(self) -> None:
        """Start a call with what waits; after the callbacks that are ready now, so that their items come along."""
        self._due = False
        batch = self._next()
        if batch:
            task = asyncio.get_running_loop().create_task(self._carry(batch))
            self._calls.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._queue and not self._due:
            self._due = True
            task.get_loop().call_soon(self._begin)

    def _next(self) -> list[_Waiting[T, R]]:
        batch: list[_Waiting[T, R]] = []
        keys: set[Hashable] = set()
        later: list[_Waiting[T, R]] = []
        size = 0
        while self._queue and len(batch) < self._bounds.items and (not batch or size < self._bounds.size):
            waiting = self._queue.popleft()
            if waiting.outcome.cancelled():
                self._queued -= waiting.size
            elif waiting.key is not None and waiting.key in keys:
                later.append(waiting)
            else:
                keys.add(waiting.key)
                batch.append(waiting)
                size += waiting.size
        self._queue.extendleft(reversed(later))
        self._queued -= size
        return batch

    def _emptied(self) -> list[_Waiting[T, R]]:
        waiting, self._queue, self._queued = list(self._queue), deque(), 0
        return waiting

    async def _carry(self, batch: list[_Waiting[T, R]]) -> None:
        outcomes: list[R | Exception]
        try:
            outcomes = list(await self._send([waiting.item for waiting in batch]))
        except Exception as error:  # noqa: BLE001 -- it is raised where the callers wait
            outcomes = [error] * len(batch)
            if isinstance(error, Unavailable):
                # Those who waited behind it have waited as long; each would wait once more.
                batch += self._emptied()
                outcomes += [unavailable()] * (len(batch) - len(outcomes))
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.outcome.done():
                continue
            if isinstance(outcome, Exception):
                waiting.outcome.set_exception(outcome)
            else:
                waiting.outcome.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Write:
    """One insert or one guarded update of a document.

    ``write_id`` is stored with what it writes, for as long as anybody may ask whether it was applied.
    """

    document_id: str
    write_id: str
    statement: RawBSONDocument

    @property
    def size(self) -> int:
        """Its bytes on their way to the database."""
        return len(self.statement.raw)


class GroupCommit:
    """Applies the writes of many callers in one durable call, and tells each its own outcome.

    A batch says how many of its updates matched, not which. So when not all did, or when an answer was lost, the
    outcome of each is read back by its write id. Deciding by version would take another writer's change for one's
    own. A write is guarded (an update by the version it read, an insert by its id), hence sending it again is safe:
    at most one of the sends applies.
    """

    def __init__(
        self,
        collection: Collection,
        kind: str,
        applied: Callable[[Sequence[Write]], Awaitable[Bunch[str]]],
        patience: float,
        bounds: Bounds | None = None,
    ) -> None:
        """Write to a collection.

        ``kind`` is ``insert`` or ``update``; ``applied`` gives those write ids of some writes that are stored;
        ``patience`` is for how many seconds the outcome of a batch is sought.
        """
        self._collection = collection
        self._kind = kind
        self._applied = applied
        self._patience = patience
        self._batcher: Batcher[Write, bool] = Batcher(self._send, bounds or Bounds())

    async def do(self, write: Write) -> bool:
        """Apply a write, majority-durable; False if its guard did not hold.

        Raises:
            Unavailable: if the queue is full, or the database does not answer; then the outcome may be unknown.
        """
        return await self._batcher.do(write, write.document_id, write.size)

    async def _send(self, writes: list[Write]) -> Sequence[bool | Exception]:
        outcomes: dict[int, bool | Exception] = {}
        # The driver must see its own time limit first: it learns from it that the server does not answer.
        seconds = self._patience + _GRACE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._decide(writes, outcomes, time.monotonic() + seconds)
        if not outcomes:
            raise unavailable()
        return [outcomes[index] if index in outcomes else unavailable() for index in range(len(writes))]

    async def _decide(self, writes: list[Write], outcomes: dict[int, bool | Exception], deadline: float) -> None:
        """Send until each outcome is known, or until ``deadline``: the driver may swallow a cancellation."""
        doubtful = False
        while time.monotonic() < deadline:
            left = [index for index in range(len(writes)) if index not in outcomes]
            try:
                outcomes |= await self._once(writes, left, doubtful=doubtful)
            except Unavailable as error:
                log.warning("the outcome of %d writes is not known yet: %s", len(left), error)
            if len(outcomes) == len(writes):
                return
            doubtful = True
            await asyncio.sleep(_PAUSE)

    async def _once(self, writes: list[Write], left: list[int], *, doubtful: bool) -> dict[int, bool | Exception]:
        """Send what is left and give the outcomes that are certain now; ``doubtful`` if it was sent before."""
        reply = await self._collection.write_all(self._kind, [writes[index].statement for index in left])
        errors = {left[position]: error for position, error in reply.errors.items()}
        bad = {index: error for index, error in errors.items() if not isinstance(error, (DuplicateKey, Unavailable))}
        fine = [index for index in left if index not in errors]
        duplicate = [index for index, error in errors.items() if isinstance(error, DuplicateKey)]
        if not doubtful and reply.applied == len(fine):
            return {**bad, **dict.fromkeys(fine, True), **dict.fromkeys(duplicate, False)}
        stored = await self._applied([writes[index] for index in (*fine, *duplicate)])
        return {**bad, **{index: writes[index].write_id in stored for index in (*fine, *duplicate)}}
