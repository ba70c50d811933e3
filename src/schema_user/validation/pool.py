"""The server's side of its validation workers: processes that are given one call at a time, and replaced when they end.

A worker ends itself when a call takes too long (``worker.py``). What that means for the call depends on what was said
before: nothing yet, and it was ``Stopped``, or ``Crowded`` if the clock alone had run out, as on a machine that is
overloaded; a verdict, and the document is known to be invalid. A worker that ended for
another reason, because somebody killed it or it ran out of memory or stack, gets its call tried again, twice at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from schema_user.validation.breaker import PATIENCE, Breaker, Crowded
from schema_user.validation.frames import (
    HEADER,
    MAX_FRAME,
    Check,
    Compare,
    Compared,
    Failed,
    Gated,
    Listed,
    ListedMany,
    Need,
    Studied,
    Study,
    Text,
    Transform,
    Transformed,
    Validate,
    ValidateMany,
    Verdict,
    framed,
    read_reply,
)
from schema_user.validation.worker import (
    BY_THE_CLOCK,
    CALL_SECONDS,
    MANY_SECONDS,
    OVERDUE,
    PROOF_SECONDS,
    STOPS,
    UPLOAD_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from schema_user.domain.comparison import Comparison
    from schema_user.errors import Violation
    from schema_user.validation.frames import Reply, Request

log = logging.getLogger(__name__)

MAX_WAITING: Final = 256
"""How many calls may wait for a worker."""

_GRACE: Final = 0.25
"""Seconds after which a worker that should have ended itself is killed."""

_START_SECONDS: Final = 30.0
_LONGEST_PAUSE: Final = 5.0
_REAP_AGAIN: Final = 0.002
_MAX_LOSSES: Final = 2

T = TypeVar("T")


class Stopped(Exception):
    """A call was stopped before anything was known: it took too long or too much memory."""


class WorkerFault(Exception):
    """Validation failed in a way that it never should."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What validation found: valid, or what is wrong; ``listed`` is False if that was stopped."""

    valid: bool
    violations: Sequence[Violation] = ()
    listed: bool = True


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What an upload's check found; ``validated`` is None without a document, or if the document was not come to."""

    gated: Gated
    validated: Outcome | None = None
    stopped: bool = False


@dataclass(slots=True)
class _Exchange:
    """One request on its way: what was answered so far, and the future of the end.

    The future's result is the exit status of the worker, or None if it lives.
    """

    text: str
    replies: list[Reply] = field(default_factory=list)
    ended: asyncio.Future[int | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Limits(NamedTuple):
    """Seconds: what a call may compute at most, and from when on, by the clock, it counts against who pays for it."""

    seconds: float
    slow: float


class _Waiting(NamedTuple):
    """A call that waits for a worker, and who pays for it."""

    payers: Sequence[str]
    worker: asyncio.Future[_Worker]


class _Worker(asyncio.Protocol):
    """One process, and the line to it."""

    def __init__(self, engine: str, offer: Callable[[_Worker], None], lost: Callable[[_Worker], None]) -> None:
        self.was_ready = False
        self.alive = True
        self.status: int | None = None
        self._offer = offer
        self._lost = lost
        self._read = bytearray()
        self._exchange: _Exchange | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._overdue = False
        self._gone = asyncio.Event()
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- this very interpreter
                [sys.executable, "-P", "-m", "schema_user.validation.worker", engine],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                process_group=0,
                env={name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")},
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def open(self) -> None:
        """Listen to what it says."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: self, sock=self._line)
        self._expect(_START_SECONDS)

    def begin(self, request: Request, text: str, seconds: float) -> _Exchange:
        """Send a request; ``seconds`` is what the worker may compute for it."""
        self._exchange = _Exchange(text)
        self._expect(seconds * BY_THE_CLOCK + _GRACE)
        self._send(request)
        return self._exchange

    def _send(self, request: Request) -> None:
        if self._transport is not None:
            self._transport.write(framed(request))

    def kill(self) -> None:
        """End the process; what is told of that comes by way of its line."""
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End the process and wait until nothing is left of it."""
        self.kill()
        if self._transport is None:
            self._line.close()
            self._process.wait()
            return
        await self._gone.wait()

    def data_received(self, data: bytes) -> None:
        """Take frames out of what comes."""
        self._read += data
        while len(self._read) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._read)
            if size > MAX_FRAME:
                self.kill()
                return
            if len(self._read) < HEADER.size + size:
                return
            body = bytes(self._read[HEADER.size : HEADER.size + size])
            del self._read[: HEADER.size + size]
            self._take(read_reply(body))

    def _take(self, reply: Reply) -> None:
        exchange = self._exchange
        if isinstance(reply, Need) and exchange is not None:
            self._send(Text(exchange.text))
            return
        if exchange is not None:
            exchange.replies.append(reply)
        if not reply.last:
            return
        self._expect(None)
        self._exchange = None
        self.was_ready = True
        if exchange is not None and not exchange.ended.done():
            exchange.ended.set_result(None)
        self._offer(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the name is the protocol's
        """Bury it, whatever it died of."""
        self.alive = False
        self._expect(None)
        self.kill()
        self._reap()

    def _reap(self) -> None:
        status = self._process.poll()
        if status is None:
            asyncio.get_running_loop().call_later(_REAP_AGAIN, self._reap)
            return
        self.status = status = -OVERDUE if self._overdue else status
        self._gone.set()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.ended.done():
            exchange.ended.set_result(status)
        self._lost(self)

    def _expect(self, seconds: float | None) -> None:
        """Kill it unless it has answered in so many seconds."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._stop)

    def _stop(self) -> None:
        self._overdue = True
        self.kill()


class Pool:
    """At most ``size`` workers, started when they are first needed, or all by ``start``."""

    def __init__(self, size: int, engine: str = "rust", *, breaker: Breaker | None = None) -> None:
        self._size = size
        self._engine = engine
        self._breaker = breaker or Breaker()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._waiting: list[_Waiting] = []
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()
        self._whole = asyncio.Event()
        self._failures = 0
        self._closing = False

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine

    @property
    def pids(self) -> list[int]:
        """The processes that are there now."""
        return [worker.pid for worker in self._workers]

    @property
    def is_busy(self) -> bool:
        """Whether there is nobody to spare."""
        return bool(self._waiting) or (not self._idle and len(self._workers) >= self._size)

    def start(self) -> None:
        """Start all workers, and wait for none of them: a call waits for the first that is ready."""
        while len(self._workers) < self._size:
            self._hire()

    async def close(self) -> None:
        """End all workers; calls under way are given up."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._workers.clear()
        self._idle.clear()

    async def violations(self, key: str, text: str, dialect: str, data: bytes, payers: Sequence[str] = ()) -> Outcome:
        """Validate a document, JSON in bytes, under a schema that is known by ``key`` and never changes.

        Raises:
            Stopped: if it took too long, or too much memory, before the verdict.
            Crowded: if too much waits already, or the machine has no time for it.
        """
        request = Validate(key, dialect, data)
        limits = _Limits(CALL_SECONDS + UPLOAD_SECONDS, CALL_SECONDS / 2)
        replies = await self._shielded(self._call(request, text, limits, payers))
        return _outcome(replies)

    async def violations_of_many(
        self, key: str, text: str, dialect: str, documents: list[bytes], payers: Sequence[str] = ()
    ) -> list[list[Violation]]:
        """Validate documents as ``violations`` does one: the first of them, as many as there is time for.

        Raises:
            Stopped: if one of them took too long, or too much memory.
            Crowded: if too much waits already, or the machine has no time for it.
        """
        request = ValidateMany(key, dialect, documents)
        limits = _Limits(MANY_SECONDS + CALL_SECONDS + UPLOAD_SECONDS, MANY_SECONDS + CALL_SECONDS / 2)
        replies = await self._shielded(self._call(request, text, limits, payers))
        match replies:
            case [ListedMany(violations)]:
                return violations
        raise _unexpected(replies)

    async def check(
        self, document: bytes, data: bytes | None, max_bytes: int, payers: Sequence[str] = ()
    ) -> CheckOutcome:
        """Put an uploaded schema through the gate, and a document through the schema.

        Raises:
            Stopped: if the gate took too long, or too much memory.
            Crowded: if too much waits already, or the machine has no time for it.
        """
        request = Check(document, data, max_bytes)
        limits = _Limits(UPLOAD_SECONDS, UPLOAD_SECONDS / 2)
        replies = await self._shielded(self._call(request, "", limits, payers))
        match replies:
            case [Gated(last=True) as gated]:
                return CheckOutcome(gated)
            case [Gated() as gated]:
                return CheckOutcome(gated, stopped=True)
            case [Gated() as gated, *validated]:
                return CheckOutcome(gated, _outcome(validated))
        raise _unexpected(replies)

    async def study(self, text: str, dialect: str, payers: Sequence[str] = ()) -> Studied:
        """Find out what a schema costs.

        Raises:
            Stopped: if that took too long.
            Crowded: if too much waits already.
        """
        request = Study(dialect, text)
        limits = _Limits(UPLOAD_SECONDS, UPLOAD_SECONDS)
        replies = await self._shielded(self._call(request, "", limits, payers))
        match replies:
            case [Studied() as studied]:
                return studied
        raise _unexpected(replies)

    async def compare(self, request: Compare, payers: Sequence[str] = ()) -> Comparison:
        """Compare two schemas; what could not be proven in time is unknown.

        Raises:
            Stopped: if even walking them took too long.
            Crowded: if too much waits already.
        """
        limits = _Limits(UPLOAD_SECONDS + PROOF_SECONDS, UPLOAD_SECONDS)
        replies = await self._shielded(self._call(request, "", limits, payers))
        found = [each for each in replies if isinstance(each, Compared)]
        if not found:
            raise _unexpected(replies)
        return found[-1].comparison

    async def transform(self, request: Transform, payers: Sequence[str] = ()) -> Transformed:
        """Apply an expression to a document.

        Raises:
            Stopped: if that took too long, or too much memory.
            Crowded: if too much waits already.
        """
        limits = _Limits(CALL_SECONDS, CALL_SECONDS / 2)
        replies = await self._shielded(self._call(request, "", limits, payers))
        match replies:
            case [Transformed() as transformed]:
                return transformed
        raise _unexpected(replies)

    async def _shielded(self, call: Coroutine[object, object, T]) -> T:
        """Let a call come to its end, and its worker back, even if whoever waits for it goes away."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard, even if nobody waits any longer

    async def _call(self, request: Request, text: str, limits: _Limits, payers: Sequence[str]) -> list[Reply]:
        """Have a request answered: those who are tripped take turns, and what a lost worker had is tried again."""
        losses = 0
        while True:
            narrow = self._breaker.tripped(payers)
            async with self._breaker.turn(narrow) if narrow else contextlib.nullcontext():
                worker = await self._take(payers)
                began = time.monotonic()
                try:
                    if not narrow and self._breaker.tripped(payers):
                        self._give(worker)  # it happened while this one waited: it has to take turns as well
                        continue
                    exchange = worker.begin(request, text, limits.seconds)
                    status = await exchange.ended
                finally:
                    self._release(payers)
                if narrow:
                    await self._refilled()
            if status is not None and -status not in STOPS and not exchange.replies and losses < _MAX_LOSSES:
                log.warning("a validation worker ended during a call and is replaced (status %d)", status)
                losses += 1
                continue
            if status is not None or time.monotonic() - began > limits.slow:
                self._breaker.strike(payers)
            if not exchange.replies:
                raise Crowded if status == -OVERDUE else Stopped
            return exchange.replies

    async def _refilled(self) -> None:
        """Wait until those who have ended are replaced: the time that takes is part of a turn."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._whole.wait()

    async def _take(self, payers: Sequence[str]) -> _Worker:
        """Have a worker until ``_release``; it counts for those who pay."""
        if self._idle and self._may(payers) and self._idle[-1].alive:
            self._running.update(payers)
            return self._idle.pop()
        same = sum(each.payers == payers for each in self._waiting)
        if len(self._waiting) >= MAX_WAITING or (payers and same >= MAX_WAITING // 2):
            raise Crowded
        mine: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(payers, mine))
        self._hire()
        self._dispatch()
        try:
            # While the first workers start, a call is as patient as that may take.
            for _ in range(int(_START_SECONDS / PATIENCE) if self._starting else 1):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        return await asyncio.shield(mine)
                if not self._starting:
                    break
            raise TimeoutError  # noqa: TRY301 -- as if there had been one wait
        except BaseException as error:
            if mine.done() and not mine.cancelled():  # it came in the same moment: to the next
                self._give(mine.result())
                self._release(payers)
            mine.cancel()
            if isinstance(error, TimeoutError):
                raise Crowded from None
            raise

    @property
    def _starting(self) -> bool:
        """Whether the first workers are on their way, and none has failed to start."""
        return not self._failures and not any(each.was_ready for each in self._workers)

    def _release(self, payers: Sequence[str]) -> None:
        """Say that the worker that was taken is taken no more, or has ended."""
        self._running.subtract(payers)
        self._running = +self._running  # without those that are at nought
        self._dispatch()

    def _give(self, worker: _Worker) -> None:
        """Take a worker back, or a new one."""
        self._failures = 0
        if all(each.was_ready for each in self._workers):
            self._whole.set()
        self._idle.append(worker)
        self._dispatch()

    def _dispatch(self) -> None:
        """Give idle workers to those that wait, first to those for whom fewest work already.

        Of the idle ones the one that worked last goes first: it knows most schemas.
        """
        self._idle = [each for each in self._idle if each.alive]
        while self._idle:
            self._waiting = [each for each in self._waiting if not each.worker.done()]
            following = min(self._waiting, key=lambda each: self._share(each.payers), default=None)
            if following is None or not self._may(following.payers):
                return
            self._running.update(following.payers)
            following.worker.set_result(self._idle.pop())

    def _share(self, payers: Sequence[str]) -> int:
        return max((self._running[payer] for payer in payers), default=0)

    def _may(self, payers: Sequence[str]) -> bool:
        """Whether one more worker may work for these: the last one is spared for others."""
        return self._share(payers) < max(1, self._size - 1)

    def _hire(self) -> None:
        if self._closing or len(self._workers) >= self._size:
            return
        try:
            worker = _Worker(self._engine, self._give, self._lost)
        except OSError as error:
            self._hire_later(error.strerror or "")
            return
        self._workers.add(worker)
        task = asyncio.create_task(worker.open())
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _lost(self, worker: _Worker) -> None:
        """Replace a worker that has ended."""
        self._workers.discard(worker)
        self._whole.clear()
        if self._closing:
            return
        if worker.was_ready:
            self._hire()
        else:
            self._hire_later(f"status {worker.status}")

    def _hire_later(self, why: str) -> None:
        log.error("a validation worker could not start (%s)", why)
        pause = min(0.1 * 2**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        asyncio.get_running_loop().call_later(pause, self._hire)


def _outcome(replies: Sequence[Reply]) -> Outcome:
    match replies:
        case [Verdict(valid=True)]:
            return Outcome(valid=True)
        case [Verdict(valid=False), Listed(violations)]:
            return Outcome(valid=False, violations=violations)
        case [Verdict(valid=False)]:
            return Outcome(valid=False, listed=False)
    raise _unexpected(replies)


def _unexpected(replies: Sequence[Reply]) -> WorkerFault:
    last = replies[-1]
    return WorkerFault(last.error if isinstance(last, Failed) else f"a worker answered {type(last).__name__}")
