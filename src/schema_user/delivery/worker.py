"""The worker that brings messages out: it claims, sends and settles, and outlives whatever goes wrong.

It claims the messages that are due and starts a task for each, so that a slow address holds up nobody but itself. A
wait ends early by ``wake``, when a relay of this process brought a message; those of others are found by the poll.
Any number of workers may run, here and elsewhere: a claimed message is leased to one of them, and comes back by itself
if that one dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import random
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import ADDRESS_CHANGED
from schema_user.errors import Unavailable
from schema_user.store.users import live_digests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from schema_user.delivery.transports import Transport
    from schema_user.domain.message import Message
    from schema_user.domain.user import User
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How fast a worker works, in seconds.

    A lease outlasts ``send_timeout`` by enough to note the outcome through a failover of the database. The retries
    after 5 s, 25 s, 2 min, 10 min, 52 min, 4 h and 22 h, each give or take a fifth, make 8 tries in about a day.
    """

    poll: float = 1.0
    at_once: int = 16
    send_timeout: float = 30.0
    lease: float = 60.0
    tries: int = 8
    first_retry: float = 5.0
    growth: float = 5.0
    spread: float = 0.2
    longest_pause: float = 5.0

    def retry_after(self, tries: int) -> timedelta:
        """How long to wait after the failure of a try, the first being 1."""
        chance = random.uniform(1 - self.spread, 1 + self.spread)  # noqa: S311 -- not a secret
        return timedelta(seconds=self.first_retry * self.growth ** (tries - 1) * chance)

    def pause_after(self, failures: int) -> float:
        """How long to leave the database alone after failures in a row."""
        return float(min(self.longest_pause, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1))  # noqa: S311 -- not a secret


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try that failed: why, and whether another would end the same way."""

    reason: str
    permanent: bool = False


_Outcome = _Failed | str
"""What became of a message: ``sent``, ``dropped``, or why it failed."""


class Worker:
    """Delivers the messages of one database, in the event loop that calls ``run``."""

    def __init__(self, wiring: Wiring, transports: Mapping[Channel, Transport], rhythm: Rhythm | None = None) -> None:
        """Send over ``transports``; messages of a channel that has none stay pending and sealed."""
        self._outbox = wiring.outbox
        self._users = wiring.users
        self._now = wiring.now
        self._transports = dict(transports)
        self._rhythm = rhythm or Rhythm()
        self._name = f"{platform.node()}:{os.getpid()}:{wiring.random_bits(32):08x}"
        self._relayed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._slots = asyncio.Semaphore(self._rhythm.at_once)
        self._flying: set[asyncio.Task[None]] = set()
        self._work: asyncio.Task[None] | None = None
        self._away = False

    def wake(self) -> None:
        """Say that a message was relayed; cheap, never raises, called in the worker's own event loop."""
        self._relayed.set()

    async def run(self) -> None:
        """Work until ``stop`` is called; cancelling it stops at once, and leaves what was in flight to its lease."""
        for channel in Channel:
            if channel not in self._transports:
                log.warning("no transport for %s: its messages stay pending and encrypted until there is one", channel)
        self._work = asyncio.create_task(self._until_stopped(), name="delivery")
        try:
            await asyncio.wait({self._work})
        finally:
            if not self._work.done():
                self._work.cancel()
                await asyncio.wait({self._work})
        if not self._work.cancelled():
            self._work.result()

    async def stop(self, grace: float = 15.0) -> None:
        """Claim nothing more and let what is in flight finish, for ``grace`` seconds at most.

        A message cut off by the end of that time is sent again after its lease, by whoever runs then.
        """
        self._stopping.set()
        self._relayed.set()
        if self._work is None:
            return
        _, late = await asyncio.wait({self._work}, timeout=grace)
        if late:
            self._work.cancel()
            await asyncio.wait(late)

    async def _until_stopped(self) -> None:
        try:
            if self._transports:
                await self._repeat(self._start_next, self._relayed)
            else:
                await self._stopping.wait()
            if self._flying:
                await asyncio.wait(set(self._flying))
        finally:
            for task in (left := set(self._flying)):
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def _repeat(self, step: Callable[[], Awaitable[bool]], bell: asyncio.Event) -> None:
        """Take a step again and again: at once while there is more to do, else when the bell rings or at the poll."""
        failures = 0
        while not self._stopping.is_set():
            bell.clear()
            try:
                more = await step()
            except Unavailable:
                self._database_away()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the messages of others must go out
                _log_unexpected(error)
            else:
                failures = 0
                self._database_back()
                if not more:
                    await _wait(bell, self._rhythm.poll)
                continue
            await _wait(self._stopping, self._rhythm.pause_after(failures))
            failures += 1

    def _database_away(self) -> None:
        if not self._away:
            log.warning("delivery waits for the database")
        self._away = True

    def _database_back(self) -> None:
        if self._away:
            log.warning("delivery goes on: the database is back")
        self._away = False

    async def _start_next(self) -> bool:
        """Claim the next message and start it on its way, once there is room for another."""
        await self._slots.acquire()
        try:
            claimed = await self._claim()
        except BaseException:
            self._slots.release()
            raise
        if claimed is None:
            self._slots.release()
            return False
        task = asyncio.create_task(self._carry(*claimed))
        self._flying.add(task)
        task.add_done_callback(self._landed)
        return True

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._slots.release()

    async def _claim(self) -> tuple[Document, Message | None] | None:
        if self._stopping.is_set():
            return None
        lease = timedelta(seconds=self._rhythm.lease)
        return await self._outbox.claim(self._transports, self._now(), lease, self._name)

    async def _carry(self, record: Document, message: Message | None) -> None:
        """Bring a message out, and then the next one: under load the claims need not wait for one another."""
        claimed: tuple[Document, Message | None] | None = record, message
        try:
            while claimed is not None:
                deadline = asyncio.get_running_loop().time() + self._rhythm.lease
                outcome = await self._send(*claimed)
                await self._note(claimed[0], outcome, deadline)
                claimed = await self._claim()
        except Unavailable:  # what was not noted comes back by its lease
            self._database_away()
        except Exception as error:  # noqa: BLE001 -- likewise
            _log_unexpected(error)

    async def _send(self, record: Document, message: Message | None) -> _Outcome:
        if record["tries"] > self._rhythm.tries:
            return _Failed("every try was cut off", permanent=True)
        if message is None:
            return _Failed("sealed under a key that is not set")
        if is_dead(message, await self._users.find(message.user_id), self._now()):
            return "dropped"
        try:
            async with asyncio.timeout(self._rhythm.send_timeout):
                await self._transports[message.channel].send(message)
        except Undelivered as fault:
            return _Failed(fault.reason, fault.permanent)
        except TimeoutError:
            return _Failed("not sent in time")
        except Exception as error:  # noqa: BLE001 -- a bug in one message's way is no reason to lose it
            _log_unexpected(error)
            return _Failed(type(error).__name__)
        return "sent"

    async def _note(self, record: Document, outcome: _Outcome, deadline: float) -> None:
        """Write the outcome down, as long as the lease allows: what was sent and not noted is sent again."""
        failures = 0
        while True:
            try:
                if isinstance(outcome, _Failed):
                    await self._give_back(record, outcome)
                else:
                    await self._outbox.settle(record, outcome, self._now())
            except Unavailable:
                self._database_away()
                pause = self._rhythm.pause_after(failures)
                if asyncio.get_running_loop().time() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
                failures += 1
            else:
                return

    async def _give_back(self, record: Document, failed: _Failed) -> None:
        tries: int = record["tries"]
        if failed.permanent or tries >= self._rhythm.tries:
            await self._outbox.postpone(record, None, failed.reason)
            log.warning("message %s parked after %d tries: %s", record["_id"], tries, failed.reason)
            return
        await self._outbox.postpone(record, self._now() + self._rhythm.retry_after(tries), failed.reason)
        log.info("message %s failed, try %d: %s", record["_id"], tries, failed.reason)


def is_dead(message: Message, user: User | None, now: datetime) -> bool:
    """Whether nobody could use the message any more.

    That of a code is dead with its user, its address, its time and its code. That an address was changed is told
    whatever became of the user since: it may be the only trace of a takeover.
    """
    if message.kind == ADDRESS_CHANGED:
        return False
    if user is None or not user.usable:
        return True
    address = user.contact.on(message.channel)
    if address is None or address.value != message.recipient:
        return True
    if message.expires_at is not None and message.expires_at <= now:
        return True
    return message.code_digest is not None and message.code_digest not in live_digests(user, message.channel)


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


def _log_unexpected(error: Exception) -> None:
    """Log a bug by its type and place only: its text might hold an address or a code."""
    log.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
