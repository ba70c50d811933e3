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
from typing import TYPE_CHECKING, Final

from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.voice import Voices
from schema_user.domain.contact import Channel, masked
from schema_user.domain.message import ADDRESS_CHANGED, PASSWORD_RESET
from schema_user.errors import Unavailable
from schema_user.store.users import live_digests, live_reset_digests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from datetime import datetime

    from schema_user.delivery.transports import Transport
    from schema_user.domain.message import Message
    from schema_user.domain.user import User
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)

_LOOKED_AT: Final = 100
"""Messages that are looked at in one go, whether they are dead."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How fast a worker works, in seconds.

    A lease outlasts ``send_timeout`` by enough to note the outcome through a failover of the database. The retries
    after 5 s, 25 s, 2 min, 10 min, 52 min, 4 h and 22 h, each give or take a fifth, make 8 tries in about a day; a
    server that asks for more time gets it, up to ``longest_retry_after``. Dead messages are looked for each ``look``.
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
    longest_retry_after: float = 3600.0
    look: float = 60.0

    def retry_after(self, tries: int, asked: timedelta | None = None) -> timedelta:
        """How long to wait after the failure of a try, the first being 1; ``asked`` is what the other side wants."""
        chance = random.uniform(1 - self.spread, 1 + self.spread)  # noqa: S311 -- not a secret
        ours = timedelta(seconds=self.first_retry * self.growth ** (tries - 1) * chance)
        return max(ours, min(asked or ours, timedelta(seconds=self.longest_retry_after)))

    def pause_after(self, failures: int) -> float:
        """How long to leave the database alone after failures in a row."""
        return float(min(self.longest_pause, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1))  # noqa: S311 -- not a secret


@dataclass(frozen=True, slots=True)
class Failed:
    """A try that failed: why, and whether another would end the same way."""

    reason: str
    permanent: bool = False
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A message that is ``sent`` or ``dropped``; ``masked`` is its recipient for support, None if its user is gone."""

    state: str
    masked: str | None


Outcome = Failed | Ended
"""What became of a message."""


class Worker:
    """Delivers the messages of one database to people, in the event loop that calls ``run``.

    What goes elsewhere has a worker of its own, with slots of its own, which differs in what it claims and how it sends
    (``_channels``, ``_claim()``, ``_send()``).
    """

    def __init__(self, wiring: Wiring, transports: Mapping[Channel, Transport], rhythm: Rhythm | None = None) -> None:
        """Send over ``transports``; messages of a channel that has none stay pending and sealed.

        The transports are closed when the worker ends.
        """
        self._voices = Voices(wiring)
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
        self._announce()
        self._work = asyncio.create_task(self._until_stopped(), name="delivery")
        try:
            await asyncio.wait({self._work})
        finally:
            if not self._work.done():
                self._claim_no_more()
                self._work.cancel()
                await asyncio.wait({self._work})
        if not self._work.cancelled():
            self._work.result()

    @property
    def _channels(self) -> Collection[str]:
        """The channels whose messages it brings out."""
        return self._transports

    def _announce(self) -> None:
        for channel in Channel:
            if channel not in self._transports:
                log.warning("no transport for %s: its messages stay pending and encrypted until there is one", channel)

    async def stop(self, grace: float = 15.0) -> None:
        """Claim nothing more and let what is in flight finish, for ``grace`` seconds at most.

        A message cut off by the end of that time is sent again after its lease, by whoever runs then.
        """
        self._claim_no_more()
        if self._work is None:
            return
        _, late = await asyncio.wait({self._work}, timeout=grace)
        if late:
            self._work.cancel()
            await asyncio.wait(late)

    def _claim_no_more(self) -> None:
        """End the loops at their next turn: on Python 3.11 a driver's ``wait_for`` may swallow a cancellation."""
        self._stopping.set()
        self._relayed.set()

    async def _until_stopped(self) -> None:
        burying = asyncio.create_task(self._bury_from_time_to_time(), name="burying")
        try:
            if self._channels:
                await self._repeat(self._start_next, self._rhythm.poll, self._relayed)
            else:
                await self._stopping.wait()
            if self._flying:
                await asyncio.wait(set(self._flying))
        finally:
            for task in (left := {burying, *self._flying}):
                task.cancel()
            await asyncio.wait(left)
            await self._close()

    async def _close(self) -> None:
        for transport in {id(each): each for each in self._transports.values()}.values():
            await transport.close()

    async def _bury_from_time_to_time(self) -> None:
        await _wait(self._stopping, random.uniform(0, self._rhythm.look))  # noqa: S311 -- workers take turns
        await self._repeat(self._bury, self._rhythm.look)

    async def _repeat(
        self, step: Callable[[], Awaitable[bool]], pause: float, bell: asyncio.Event | None = None
    ) -> None:
        """Take a step again and again: at once while there is more to do, else after a pause or when the bell rings."""
        failures = 0
        while not self._stopping.is_set():
            if bell:
                bell.clear()
            try:
                more = await step()
            except Unavailable:
                self._database_away()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the messages of others must go out
                log_unexpected(error)
            else:
                failures = 0
                self._database_back()
                if not more:
                    await _wait(bell or self._stopping, pause)
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
        return await self._outbox.claim(self._channels, self._now(), lease, self._name)

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
            log_unexpected(error)

    async def _send(self, record: Document, message: Message | None) -> Outcome:
        if record["tries"] > self._rhythm.tries:
            return Failed("every try was cut off", permanent=True)
        if message is None:
            return Failed("sealed under a key that is not set")
        user = await self._users.find(message.user_id)
        # Of a deleted user nothing may stay behind, not even a masked address.
        to = None if user is None else masked(message.channel, message.recipient)
        if is_dead(message, user, self._now()):
            return Ended("dropped", to)
        voice = await self._voices.of(message.organization_id)
        try:
            async with asyncio.timeout(self._rhythm.send_timeout):
                await self._transports[message.channel].send(message, voice)
        except Undelivered as fault:
            return Failed(fault.reason, fault.permanent, fault.retry_after)
        except TimeoutError:
            return Failed("not sent in time")
        except Exception as error:  # noqa: BLE001 -- a bug in one message's way is no reason to lose it
            log_unexpected(error)
            return Failed(type(error).__name__)
        return Ended("sent", to)

    async def _note(self, record: Document, outcome: Outcome, deadline: float) -> None:
        """Write the outcome down, as long as the lease allows: what was sent and not noted is sent again."""
        failures = 0
        while True:
            try:
                if isinstance(outcome, Failed):
                    await self._give_back(record, outcome)
                else:
                    await self._outbox.settle(record, outcome.state, self._now(), outcome.masked)
            except Unavailable:
                self._database_away()
                pause = self._rhythm.pause_after(failures)
                if asyncio.get_running_loop().time() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
                failures += 1
            else:
                return

    async def _give_back(self, record: Document, failed: Failed) -> None:
        tries: int = record["tries"]
        if failed.permanent or tries >= self._rhythm.tries:
            await self._outbox.park(record, self._now(), failed.reason)
            log.warning("message %s parked after %d tries: %s", record["_id"], tries, failed.reason)
            return
        wait = self._rhythm.retry_after(tries, failed.retry_after)
        await self._outbox.postpone(record, self._now() + wait, failed.reason)
        log.info("message %s failed, try %d: %s", record["_id"], tries, failed.reason)

    async def _bury(self) -> bool:
        """Empty what waits or was parked and nobody can use any more; whether there may be more of it.

        A dead code would be dropped at its next try; but a parked one has none, and one without transport neither.
        """
        now = self._now()
        records = await self._outbox.unwatched(now, _LOOKED_AT)
        users = await asyncio.gather(*(self._users.find(record["user_id"]) for record, _ in records))
        for (record, message), user in zip(records, users, strict=True):
            if _is_leased(record, now) or not _is_over(record, message, user, now):
                await self._outbox.watch(record, now)
            else:
                to = None if user is None or message is None else masked(message.channel, message.recipient)
                await self._outbox.bury(record, now, to)
        return len(records) == _LOOKED_AT


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
    if message.code_digest is None:
        return False
    of_reset = message.kind == PASSWORD_RESET
    return message.code_digest not in (live_reset_digests(user) if of_reset else live_digests(user, message.channel))


def _is_leased(record: Document, now: datetime) -> bool:
    """Whether a worker has the message of a record in hand."""
    return "leased_by" in record and record["next_at"] > now


def _is_over(record: Document, message: Message | None, user: User | None, now: datetime) -> bool:
    """Whether to empty a record that it is time to look at; ``message`` is None if no key that is set opens it.

    What does not expire is looked at when it has been parked for so long that nobody will send it any more.
    """
    expires_at: datetime | None = record.get("expires_at")
    if expires_at is None:
        return bool(record["state"] == "parked")
    return expires_at <= now or (message is not None and is_dead(message, user, now))


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


def log_unexpected(error: Exception) -> None:
    """Log a bug by its type and place only: its text might hold an address or a code."""
    log.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
