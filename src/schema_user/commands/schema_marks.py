"""What a schema's revision marks: noted in its head, for searches, and what is left to do for the users there are.

A path is ready while all users of the schema have their values of it indexed: at once if the schema is new or the
revision before had the path at the same places, else when a back-fill has gone through the users.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from schema_user.commands.jobs import start_job
from schema_user.domain.access import reached_schema, require
from schema_user.domain.backfill import BackFill
from schema_user.domain.job import Job, JobKind
from schema_user.domain.permission import Permission
from schema_user.domain.schema import IndexedPath, Marking

if TYPE_CHECKING:
    from schema_user.domain.caller import Caller
    from schema_user.domain.indexing import IndexPlan
    from schema_user.domain.schema import UserSchema
    from schema_user.wiring import Wiring


async def repeat_backfill(wiring: Wiring, caller: Caller, schema_id: str) -> Job:
    """Start another back-fill of a schema, unless the last one has not ended: then give that.

    Raises:
        Missing, Denied: if the schema is not there for the caller, or it may not change it.
        Exhausted: if too many jobs were started or have not ended.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    require(caller, Permission.USERSCHEMA_WRITE, schema.organization_id)
    last = await wiring.jobs.latest(schema_id, JobKind.BACK_FILL)
    if last is not None and not last.state.ended:
        return last
    job = _job(wiring, caller, schema, backfill_id(schema, wiring.new_id()))
    await start_job(wiring, job)
    return job


async def marked_schema(wiring: Wiring, before: UserSchema | None, after: UserSchema) -> UserSchema:
    """Give a schema with what its new revision marks."""
    # Not from the cache: a revision that is only tried, or loses a race, may be another one under the same number.
    plan = await wiring.plans.compiled(after)
    if before is None:
        return replace(after, marking=_of_new(plan))
    return replace(after, marking=_of_next(before.marking, await wiring.plans.get(before), plan))


def _of_new(plan: IndexPlan | None) -> Marking:
    if plan is None:
        return Marking()
    return Marking(tuple(IndexedPath(path, own=path not in plan.not_own) for path in sorted(plan.routes)))


def _of_next(before: Marking, old: IndexPlan | None, new: IndexPlan | None) -> Marking:
    known = {each.path: each for each in before.paths}
    old_routes = old.routes if old is not None else {}
    new_routes = new.routes if new is not None else {}
    hidden = new.not_own if new is not None else frozenset()
    paths = tuple(
        IndexedPath(
            path,
            ready=path in known and known[path].ready and old_routes.get(path) == routes,
            own=path not in hidden,
        )
        for path, routes in sorted(new_routes.items())
    )
    stale = {*known, *before.stale} - new_routes.keys()
    unique = new is not None and bool(new.newly_unique(old))
    pending = before.pending or bool(stale) or unique or not all(each.ready for each in paths)
    return Marking(paths, tuple(sorted(stale)), pending)


def filled(marking: Marking) -> Marking:
    """Give what is marked once every user was written under it."""
    return Marking(tuple(replace(each, ready=True) for each in marking.paths))


def backfill_id(schema: UserSchema, again: str = "") -> str:
    """Give the id of the job that back-fills a schema's revision; ``again`` is another text for each repetition."""
    return f"{schema.schema_id}-{schema.revision}{again and '-'}{again}"


async def plan_backfill(wiring: Wiring, caller: Caller, schema: UserSchema) -> None:
    """Store the job that brings a schema's users under its marks, before the revision is saved; once for each.

    It counts for no limit: a revision has one.
    """
    await wiring.jobs.insert(_job(wiring, caller, schema, backfill_id(schema)))


def _job(wiring: Wiring, caller: Caller, schema: UserSchema, job_id: str) -> Job:
    return Job(
        job_id=job_id,
        kind=JobKind.BACK_FILL,
        schema_id=schema.schema_id,
        owner_id=schema.organization_id,
        organizations=None,
        asked=msgspec.json.encode(BackFill(schema.revision)),
        created_at=wiring.now(),
        token_id=caller.token_id,
        user_id=caller.user_id,
    )
