"""The runner: claims jobs, one at a time, and keeps each at work until it ends, is cancelled, or others wait.

To add a kind of job:

1. a line in ``JobKind`` (``domain/job.py``), and structs of what is asked and found: they are stored as JSON;
2. a module beside this one with ``async def work(wiring: Wiring, work: Work) -> None``. It goes through something in a
   fixed order, beginning behind ``work.progress.cursor`` with what ``work.progress.found`` holds; says how far it is by
   ``work.note()`` when that is ``work.due`` (written twice a second, cursor and found as one); and hands the ``Effort``
   of each step to ``work.rest()``, which leaves the machine to the updates. What it does between two notes may
   be done again after a crash, so it must be harmless to repeat. When it returns the job is done, as of the last note;
3. its line in ``KINDS`` of ``jobs/kinds.py``;
4. a command that starts it, by ``start_job()`` of ``commands/jobs.py``, and its routes: ``api/v3alpha/dry_runs.py``
   shows how.

A kind ends badly by ``JobFailed``, whose reason readers see. ``Unavailable`` gives the job back for a while. Anything
else is a bug: it is logged, and the job has failed. A job that takes its process along ``tries`` times has failed too.

Cancelling, a stop of the process and a lost lease end ``work()`` by a cancellation wherever it awaits, at most a beat
later; what was noted up to there is stored. A runner that is killed says nothing: its lease ends, and another one goes
on from what was stored last.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import platform
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from schema_user.domain.job import MOST_FOUND, JobState
from schema_user.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from datetime import datetime
    from typing import Any

    from schema_user.domain.job import Job, JobKind, Progress
    from schema_user.store.jobs import Leased
    from schema_user.wiring import Wiring

    Kind = Callable[[Wiring, "Work"], Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)

_NOTE_EVERY: Final = 0.25
_OF_WAITING: Final = 0.2
_CALM: Final = 0.1
_TO_NEWEST: Final = 0.3
"""The load under which a process counts as calm, and how fast a new measurement replaces those before."""

_LARGE: Final = 64 * 1024
"""Bytes of what was found that are not written with every beat."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a runner works, in seconds.

    A job that others wait for has a ``turn`` at a time. ``share`` is the part of one core that a job may keep busy,
    ``calm_share`` while its process has hardly anything else to do.
    What was found is written with each ``beat``, every ``slow_beat`` if it is large.
    """

    poll: float = 1.0
    beat: float = 0.5
    slow_beat: float = 5.0
    lease: float = 10.0
    turn: float = 20.0
    share: float = 0.12
    calm_share: float = 0.3
    tries: int = 5
    pause: float = 5.0


class JobFailed(Exception):
    """A job cannot reach its end; ``reason`` (upper snake) is what readers see of it."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


class _Ending(enum.Enum):
    ENDED = enum.auto()
    CANCELLED = enum.auto()
    GIVEN_BACK = enum.auto()
    LOST = enum.auto()


class Effort:
    """What a step takes of the machine from now on, for ``Work.rest()``.

    The processor time of this thread, and a part of the time in which it has none: then the database and the workers
    do their share, but under load the most of it is the others'. So a job goes slower the more there is to do.
    """

    __slots__ = ("_cpu", "_wall")

    def __init__(self) -> None:
        """Begin."""
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    @property
    def load(self) -> float:
        """The part of the time up to now in which this thread computed."""
        wall = time.perf_counter() - self._wall
        return (time.thread_time() - self._cpu) / wall if wall > 0 else 1.0

    @property
    def seconds(self) -> float:
        """The seconds of a core up to now."""
        cpu = time.thread_time() - self._cpu
        return cpu + max(0.0, time.perf_counter() - self._wall - cpu) * _OF_WAITING


class Work:
    """A job in the hands of its kind."""

    def __init__(self, job: Job, share: float, calm_share: float = 0.0) -> None:
        """Begin where the job was left; as for the shares, see ``Rhythm``."""
        self.job = job
        self.progress: Progress = job.progress
        self._shares = (share, max(share, calm_share))
        self._load = 1.0
        self._noted_at = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for a note, if making one costs anything."""
        return time.monotonic() - self._noted_at > _NOTE_EVERY

    def note(self, **changes: Any) -> None:
        """Say how far the job came: fields of ``Progress``, all of them as of one moment.

        Raises:
            ValueError: if ``found`` is too large to be stored.
        """
        self.progress = replace(self.progress, **changes)
        self._noted_at = time.monotonic()
        if len(self.progress.found) > MOST_FOUND:
            raise ValueError

    async def rest(self, busy: float) -> None:
        """Leave the core to others in proportion to the seconds that it was kept busy.

        What this thread computes meanwhile is the others': while that is little, the rest is shorter.
        """
        share = self._shares[self._load < _CALM]
        effort = Effort()
        await asyncio.sleep(busy * (1 / share - 1))
        self._load += (effort.load - self._load) * _TO_NEWEST


class Runner:
    """Runs jobs of these kinds in the event loop that calls ``run``; any number of runners may be at work."""

    def __init__(self, wiring: Wiring, kinds: Mapping[JobKind, Kind], rhythm: Rhythm | None = None) -> None:
        """Run jobs of ``kinds``; those of others are left to other runners."""
        self._wiring = wiring
        self._jobs = wiring.jobs
        self._kinds = kinds
        self._rhythm = rhythm or Rhythm()
        self._bell = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until ``stop`` is called."""
        self._jobs.wakes(self._bell.set)
        try:
            while not self._stopping.is_set():
                self._bell.clear()
                if not await self._step():
                    await _wait(self._bell, self._rhythm.poll)
        finally:
            self._jobs.sleeps(self._bell.set)

    async def _step(self) -> bool:
        try:
            return await self.run_next()
        except Unavailable:  # what was not noted is done again by whoever has the lease next
            return False
        except Exception as error:  # noqa: BLE001 -- whatever it is, the jobs of others must go on
            _log_unexpected(error)
            return False

    def stop(self) -> None:
        """Give back the job at work, and claim no more."""
        self._stopping.set()
        self._bell.set()

    async def run_next(self, job_id: str | None = None) -> bool:
        """Claim a job, or the one of ``job_id``, and have a turn of it; whether one was due.

        Raises:
            Unavailable: if the database does not answer.
        """
        lease = f"{platform.node()}:{os.getpid()}:{self._wiring.random_bits(64):016x}"
        now = self._wiring.now()
        leased = await self._jobs.claim(self._kinds, now, self._until(), lease, job_id)
        if leased is None:
            return False
        await self._carry(leased)
        return True

    def _until(self) -> datetime:
        return self._wiring.now() + timedelta(seconds=self._rhythm.lease)

    async def _carry(self, leased: Leased) -> None:
        job = leased.job
        work = Work(job, self._rhythm.share, self._rhythm.calm_share)
        if job.cancelling:
            await self._jobs.end(leased, JobState.CANCELLED, work.progress, self._wiring.now())
            return
        if leased.tries > self._rhythm.tries:
            await self._jobs.end(leased, JobState.FAILED, work.progress, self._wiring.now(), "JOB_CUT_OFF")
            return
        task = asyncio.create_task(self._kinds[job.kind](self._wiring, work), name=f"job {job.kind}")
        try:
            ending = await self._kept(leased, work, task)
        finally:
            while not task.done():  # on Python 3.11 a driver's ``wait_for`` may swallow a cancellation
                task.cancel()
                await asyncio.wait({task}, timeout=self._rhythm.beat)
        error = None if task.cancelled() else task.exception()
        cut_off = task.cancelled() and ending is _Ending.ENDED
        await self._close(leased, work, _Ending.GIVEN_BACK if cut_off else ending, error)

    async def _kept(self, leased: Leased, work: Work, task: asyncio.Task[None]) -> _Ending:
        """Renew the lease and store what is noted until something ends the turn."""
        written, written_at = work.progress, time.monotonic()
        turn_ends = written_at + self._rhythm.turn
        stop = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                await asyncio.wait({task, stop}, timeout=self._rhythm.beat, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return _Ending.ENDED
                if self._stopping.is_set():
                    return _Ending.GIVEN_BACK
                now, noted = time.monotonic(), work.progress
                due = len(noted.found) < _LARGE or now - written_at >= self._rhythm.slow_beat
                write = noted if due and noted is not written else None
                with contextlib.suppress(Unavailable):  # the next beat tries again; the lease decides
                    if not await self._jobs.beat(leased, self._until(), write):
                        return _Ending.CANCELLED if await self._jobs.holds(leased) else _Ending.LOST
                    if write is not None:
                        written, written_at = write, now
                    if now > turn_ends and await self._jobs.others_wait(self._kinds, self._wiring.now()):
                        return _Ending.GIVEN_BACK
        finally:
            stop.cancel()

    async def _close(self, leased: Leased, work: Work, ending: _Ending, error: BaseException | None) -> None:
        """Store the end of a turn, and of the job if that is it."""
        now, progress = self._wiring.now(), work.progress
        match ending, error:
            case _Ending.LOST, _:
                log.warning("job %s is another runner's now", leased.job.job_id)
            case _Ending.CANCELLED, _:
                await self._jobs.end(leased, JobState.CANCELLED, progress, now)
            case _Ending.GIVEN_BACK, _:
                await self._jobs.give_back(leased, progress, now)
            case _, Unavailable():
                await self._jobs.give_back(leased, progress, now + timedelta(seconds=self._rhythm.pause))
            case _, None:
                await self._jobs.end(leased, JobState.DONE, progress, now)
            case _, _:
                await self._jobs.end(leased, JobState.FAILED, progress, now, _reason(error))


def _reason(error: BaseException | None) -> str:
    if isinstance(error, JobFailed):
        return error.reason
    if error is not None:
        _log_unexpected(error)
    return "INTERNAL"


def _log_unexpected(error: BaseException) -> None:
    """Log a bug by its type and place only: its text might hold something of a user's."""
    log.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


@contextlib.asynccontextmanager
async def running_jobs(
    wiring: Wiring, kinds: Mapping[JobKind, Kind], rhythm: Rhythm | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Keep a runner at work for as long as the block lasts; gives its task."""
    runner = Runner(wiring, kinds, rhythm)
    task = asyncio.create_task(runner.run(), name="jobs")
    try:
        yield task
    finally:
        runner.stop()
        await task
