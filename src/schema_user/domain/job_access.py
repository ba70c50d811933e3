"""Over whose users a caller may start a job, and which jobs it may know of: those that it could start itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.access import lacking
from schema_user.domain.dry_run import DryRun
from schema_user.domain.job import JobKind
from schema_user.domain.permission import Permission
from schema_user.errors import Missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.job import Job
    from schema_user.domain.schema import UserSchema


DRY_RUN_NEEDS: Final = (Permission.USERSCHEMA_WRITE, Permission.USER_READ)


def covered(caller: Caller, schema: UserSchema, needs: Sequence[Permission]) -> tuple[str, ...] | None:
    """Give the organizations over whose users a caller may start a job: where it holds all permissions; None: all.

    Raises:
        Denied: if it holds them together nowhere.
    """
    found: frozenset[str] | None = None if schema.organization_id is None else frozenset({schema.organization_id})
    for permission in needs:
        held = caller.organizations(permission)
        if held is not None:
            found = held if found is None else found & held
        if found is not None and not found:
            raise lacking(permission)
    return None if found is None else tuple(sorted(found))


def may_change(caller: Caller, schema: UserSchema) -> bool:
    """Whether a caller may change the schema itself, and with it what of the users' data it may read."""
    return caller.may(Permission.USERSCHEMA_WRITE, schema.organization_id)


def payer(schema: UserSchema, organizations: tuple[str, ...] | None) -> str | None:
    """Say for which organization's limits a job counts: the schema's, else the first that it covers; None: instance."""
    if schema.organization_id is not None or not organizations:
        return schema.organization_id
    return organizations[0]


def reached_job(
    caller: Caller, schema: UserSchema, job: Job | None, job_id: str, *, kind: JobKind, needs: Sequence[Permission]
) -> Job:
    """Give a job about a schema if the caller could have started it.

    Raises:
        Missing: if there is none, or it covers users whom the caller's permissions do not.
        Denied: without the permissions.
    """
    if job is None or job.kind is not kind or job.schema_id != schema.schema_id:
        raise job_missing(job_id)
    if not job.within(covered(caller, schema, needs)):
        raise job_missing(job_id)
    return job


def reached_dry_run(caller: Caller, schema: UserSchema, job: Job | None, job_id: str) -> Job:
    """Give a dry run if the caller could have started it, and seen as much of the users' data.

    Raises:
        Missing, Denied: otherwise.
    """
    reached = reached_job(caller, schema, job, job_id, kind=JobKind.DRY_RUN, needs=DRY_RUN_NEEDS)
    if msgspec.json.decode(reached.asked, type=DryRun).whole and not may_change(caller, schema):
        raise job_missing(job_id)
    return reached


def job_missing(job_id: str) -> Missing:
    """Give the fault of a job that is not there for the caller."""
    return Missing("JOB_NOT_FOUND", "job not found", metadata={"jobId": job_id})
