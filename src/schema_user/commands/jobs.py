"""Jobs: start one, cancel one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from schema_user.errors import Exhausted

if TYPE_CHECKING:
    from schema_user.domain.job import Job
    from schema_user.wiring import Wiring

MOST_UNFINISHED: Final = 10
"""Jobs of one organization, or of the instance, that have not ended."""

MOST_STARTED: Final = 200
_SPAN: Final = timedelta(hours=1)
"""So many jobs of one organization, or of the instance, may be started in so long."""

_RETRY_AFTER: Final = 5


async def start_job(wiring: Wiring, job: Job) -> None:
    """Store a job for a runner to claim, within the limits of its owner; one that is there already stays as it is.

    Raises:
        Exhausted: ``JOBS_UNFINISHED`` or ``JOBS_STARTED``.
    """
    owner = job.owner_id
    room_at = await wiring.quotas.take(f"jobs|{owner or ''}", MOST_STARTED, _SPAN, job.created_at)
    if room_at is not None:
        seconds = max(1, int((room_at - job.created_at).total_seconds()))
        raise Exhausted("JOBS_STARTED", f"{MOST_STARTED} jobs were started within an hour", retry_after=seconds)
    if await wiring.jobs.count_unfinished(owner) >= MOST_UNFINISHED:
        raise _too_many()
    # Counted again once it is there, so that of several that come at once none slips through.
    if await wiring.jobs.insert(job) and await wiring.jobs.count_unfinished(owner) > MOST_UNFINISHED:
        await wiring.jobs.withdraw(job.job_id)
        raise _too_many()


def _too_many() -> Exhausted:
    text = f"{MOST_UNFINISHED} jobs have not ended yet; wait for one of them, or cancel it"
    return Exhausted("JOBS_UNFINISHED", text, metadata={"limit": str(MOST_UNFINISHED)}, retry_after=_RETRY_AFTER)


async def cancel_job(wiring: Wiring, job: Job) -> Job:
    """Ask a job to end: at once if nobody works on it, else within about a second; one that ended stays as it is."""
    await wiring.jobs.cancel(job.job_id, wiring.now())
    return await wiring.jobs.find(job.job_id) or job
