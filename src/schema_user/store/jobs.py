"""Jobs in MongoDB: one document each, leased to one runner at a time.

A lease is renewed by each ``beat`` and named by a text that no other lease has, which guards every write of the runner:
one that was thought dead and is not writes nothing over what its successor found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.job import KEPT_TTL, UNFINISHED, Job, JobKind, JobState, Progress
from schema_user.store.connection import DuplicateKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from schema_user.store.connection import Database, Document

_UNFINISHED: Final = {"$in": [each.value for each in UNFINISHED]}
_LOOKED_AT: Final = 8
_FREE: Final = {"leased_by": "", "next_at": ""}


@dataclass(frozen=True, slots=True)
class Leased:
    """A job and the name of its lease; ``tries`` counts the leases in a row that ended without a word."""

    job: Job
    lease: str
    tries: int


class JobStore:
    """The collection ``jobs``."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._jobs = database.collection("jobs")
        self._bells: list[Callable[[], None]] = []

    async def prepare(self) -> None:
        """Make the indexes: to claim by, to count by, and one that lets jobs go that ended."""
        await self._jobs.ensure_index([("state", 1), ("next_at", 1)])
        await self._jobs.ensure_index([("schema_id", 1), ("created_at", 1)])
        await self._jobs.ensure_index([("owner_id", 1), ("state", 1)])
        await self._jobs.ensure_index([("expires_at", 1)], expireAfterSeconds=0)

    def wakes(self, bell: Callable[[], None]) -> None:
        """Call this whenever this process stores a job; it must be cheap and never raise."""
        self._bells.append(bell)

    def sleeps(self, bell: Callable[[], None]) -> None:
        """Call it no more."""
        self._bells.remove(bell)

    async def insert(self, job: Job) -> bool:
        """Store a new job; False if the id was used before."""
        try:
            await self._jobs.insert(_to_document(job))
        except DuplicateKey:
            return False
        for bell in self._bells:
            bell()
        return True

    async def find(self, job_id: str) -> Job | None:
        """Find a job as the primary has it."""
        document = await self._jobs.find_one({"_id": job_id})
        return None if document is None else _from_document(document)

    async def read(self, job_id: str) -> Job | None:
        """Find a job as a majority has it, for an answer."""
        document = await self._jobs.durable().find_one({"_id": job_id})
        return None if document is None else _from_document(document)

    async def latest(self, schema_id: str, kind: JobKind) -> Job | None:
        """Find the last job of a kind about a schema, as a majority has it."""
        where = {"schema_id": schema_id, "kind": kind.value}
        found = await self._jobs.durable().find(where, sort=[("created_at", -1)], limit=1)
        return _from_document(found[0]) if found else None

    async def count_unfinished(self, owner_id: str | None) -> int:
        """Count the jobs of an owner that have not ended."""
        return await self._jobs.count({"owner_id": owner_id, "state": _UNFINISHED})

    async def unfinished(self, schema_id: str, kinds: Collection[JobKind]) -> list[Job]:
        """List the jobs of these kinds about a schema that have not ended, the oldest first."""
        where = {"schema_id": schema_id, "state": _UNFINISHED, "kind": {"$in": [each.value for each in kinds]}}
        return [_from_document(each) for each in await self._jobs.find(where, sort=[("created_at", 1)])]

    async def withdraw(self, job_id: str) -> None:
        """Take back a job that no runner has had yet, as if it had never been stored."""
        await self._jobs.delete({"_id": job_id, "state": JobState.PENDING.value})

    async def cancel(self, job_id: str, now: datetime) -> None:
        """End a job that nobody works on, and let the runner of another one know; no change if it has ended."""
        ended = {"state": JobState.CANCELLED.value, "ended_at": now, "expires_at": now + KEPT_TTL, "cancelling": True}
        free = {"_id": job_id, "state": _UNFINISHED, "leased_by": {"$exists": False}}
        if not await self._jobs.update(free, {"$set": ended, "$unset": _FREE}):
            await self._jobs.update({"_id": job_id, "state": _UNFINISHED}, {"$set": {"cancelling": True}})

    # What runners do.

    async def claim(
        self, kinds: Collection[JobKind], now: datetime, until: datetime, lease: str, job_id: str | None = None
    ) -> Leased | None:
        """Lease the job that has waited longest, or the one of ``job_id``; None if none is due."""
        due: Document = {
            "state": _UNFINISHED,
            "next_at": {"$lte": now},
            "kind": {"$in": [each.value for each in kinds]},
        }
        if job_id is not None:
            due["_id"] = job_id
        found = await self._jobs.find(due, {"next_at": 1, "state": 1}, sort=[("next_at", 1)], limit=_LOOKED_AT)
        for each in found:
            change = {
                "$set": {"state": JobState.RUNNING.value, "next_at": until, "leased_by": lease},
                "$min": {"started_at": now},
                "$inc": {"tries": 1},
            }
            document = await self._jobs.take(each, change)
            if document is not None:
                return Leased(_from_document(document), lease, document["tries"])
        return None

    async def others_wait(self, kinds: Collection[JobKind], now: datetime) -> bool:
        """Whether a job is due that nobody works on."""
        return await self._jobs.find_one(_due(kinds, now), {"_id": 1}) is not None

    async def beat(self, leased: Leased, until: datetime, progress: Progress | None) -> bool:
        """Renew a lease, and store progress unless it is None.

        False: nothing was written, as the job is to be cancelled or the lease is another's; ``holds`` says which.
        """
        change: Document = {"next_at": until} | (_progress_document(progress) | {"tries": 1} if progress else {})
        return await self._jobs.update(_held(leased) | {"cancelling": False}, {"$set": change})

    async def holds(self, leased: Leased) -> bool:
        """Whether the lease is still good."""
        return await self._jobs.find_one(_held(leased), {"_id": 1}) is not None

    async def give_back(self, leased: Leased, progress: Progress, due_at: datetime) -> bool:
        """End a lease with what was found, and let the job go on from there at a time; False if it was another's."""
        change = _progress_document(progress) | {"next_at": due_at, "tries": 0}
        return await self._jobs.update(_held(leased), {"$set": change, "$unset": {"leased_by": ""}})

    async def end(self, leased: Leased, state: JobState, progress: Progress, now: datetime, error: str = "") -> bool:
        """End a job with what was found; False if the lease was another's."""
        change = _progress_document(progress) | {"state": state.value, "ended_at": now, "expires_at": now + KEPT_TTL}
        change["error"] = error
        return await self._jobs.update(_held(leased), {"$set": change, "$unset": _FREE})


def _due(kinds: Collection[JobKind], now: datetime) -> Document:
    return {"state": _UNFINISHED, "next_at": {"$lte": now}, "kind": {"$in": [each.value for each in kinds]}}


def _held(leased: Leased) -> Document:
    return {"_id": leased.job.job_id, "leased_by": leased.lease}


def _progress_document(progress: Progress) -> Document:
    return {
        "cursor": progress.cursor,
        "found": progress.found,
        "done": progress.done,
        "total": progress.total,
    }


def _to_document(job: Job) -> Document:
    return {
        "_id": job.job_id,
        "kind": job.kind.value,
        "schema_id": job.schema_id,
        "owner_id": job.owner_id,
        "organizations": None if job.organizations is None else list(job.organizations),
        "asked": job.asked,
        "created_at": job.created_at,
        "token_id": job.token_id,
        "user_id": job.user_id,
        "state": job.state.value,
        **_progress_document(job.progress),
        "cancelling": job.cancelling,
        "error": job.error,
        "next_at": job.created_at,
        "tries": 0,
    }


def _from_document(document: Document) -> Job:
    organizations = document["organizations"]
    return Job(
        job_id=document["_id"],
        kind=JobKind(document["kind"]),
        schema_id=document["schema_id"],
        owner_id=document["owner_id"],
        organizations=None if organizations is None else tuple(organizations),
        asked=document["asked"],
        created_at=document["created_at"],
        token_id=document["token_id"],
        user_id=document["user_id"],
        state=JobState(document["state"]),
        progress=Progress(document["cursor"], document["found"], document["done"], document["total"]),
        cancelling=document["cancelling"],
        error=document["error"],
        started_at=document.get("started_at"),
        ended_at=document.get("ended_at"),
    )
