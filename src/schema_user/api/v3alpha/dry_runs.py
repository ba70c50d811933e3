"""Dry runs of user schemas on the wire of v3alpha."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user import queries
from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.revisions import DifferenceView, difference_views
from schema_user.api.v3alpha.users import ViolationView, violation_views
from schema_user.commands import dry_runs
from schema_user.domain.comparison import Verdict
from schema_user.domain.dry_run import DryRun, Tally

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.job import Job

_PATH = "/v3alpha/user_schemas/{schema_id:str}/dry_run"
_ONE = _PATH + "/{job_id:str}"
_TAG = "User schemas"
_PERMISSION = "userschema.write and user.read"
_EXAMPLE = {
    "schema": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["name", "email"],
        "properties": {"name": {"type": "string"}, "email": {"type": "string", "format": "email"}},
    }
}


class JobStateName(enum.StrEnum):
    """How far a job is."""

    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    DONE = "JOB_STATE_DONE"
    FAILED = "JOB_STATE_FAILED"
    CANCELLED = "JOB_STATE_CANCELLED"


class DryRunBody(Body, kw_only=True):
    """Another text of a user schema."""

    schema: Annotated[Any, msgspec.Meta(description="A JSON Schema: what the next revision could be.")]


class StartedJobView(View, kw_only=True):
    """A job that was started; ``warnings`` name what of a schema is taken but does nothing."""

    job_id: str
    warnings: list[ViolationView] | None = None


class FailingView(View, kw_only=True):
    """One violation: how many users have it, and the ids of the first hundred."""

    violation: ViolationView
    count: int
    users: list[str]


class DryRunView(View, kw_only=True):
    """How far a dry run is, and what it found up to there."""

    state: JobStateName
    done: int
    total: int
    revision: int
    verdict: Verdict | None = None
    differences: list[DifferenceView]
    passed: int
    failed: int
    failing: list[FailingView]
    more_violations: int | None = None
    error: str | None = None
    creation_date: str
    start_date: str | None = None
    end_date: str | None = None


def job_state(job: Job) -> JobStateName:
    """Name the state of a job as the wire does."""
    return JobStateName[job.state.name]


def dry_run_view(job: Job) -> DryRunView:
    """Show a dry run."""
    found = job.progress.found
    tally = msgspec.json.decode(found, type=Tally) if found else Tally()
    compared = tally.comparison
    return DryRunView(
        state=job_state(job),
        done=job.progress.done,
        total=job.progress.total,
        revision=msgspec.json.decode(job.asked, type=DryRun).revision,
        verdict=compared.verdict if compared else None,
        differences=difference_views(compared.differences) if compared else [],
        passed=tally.passed,
        failed=tally.failed,
        failing=[
            FailingView(violation=violation_views([each.violation])[0], count=each.count, users=each.users)
            for each in sorted(tally.groups, key=lambda each: (-each.count, each.violation.field))
        ],
        more_violations=tally.others or None,
        error=job.error or None,
        creation_date=rfc3339(job.created_at),
        start_date=rfc3339(job.started_at) if job.started_at else None,
        end_date=rfc3339(job.ended_at) if job.ended_at else None,
    )


@operation(
    "POST",
    _PATH,
    summary="Try a schema on the stored users",
    tag=_TAG,
    permission=_PERMISSION,
    body=DryRunBody,
    view=StartedJobView,
    status=202,
    keyed=True,
    faults=(404, 409, 429),
    example=_EXAMPLE,
)
async def start_dry_run(call: Call, body: DryRunBody) -> Answer:
    """Start a job that compares a JSON Schema with the current revision and judges the stored users by it.

    It covers the organizations where the caller holds both permissions, and changes nothing.
    """
    started = await dry_runs.start_dry_run(
        call.wiring, call.caller, call.path["schema_id"], body.schema, once=call.once
    )
    view = StartedJobView(job_id=started.job.job_id, warnings=violation_views(started.warnings) or None)
    return Answer(view, replayed=started.replayed)


@operation(
    "GET",
    _ONE,
    summary="Get a dry run",
    tag=_TAG,
    permission=_PERMISSION,
    view=DryRunView,
    faults=(404,),
)
async def get_dry_run(call: Call) -> Answer:
    """Give how far a dry run is and what it found; it can be read for seven days after its end."""
    job = await queries.get_dry_run(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])
    return Answer(dry_run_view(job))


@operation(
    "POST",
    _ONE + "/cancel",
    summary="Cancel a dry run",
    tag=_TAG,
    permission=_PERMISSION,
    body=EmptyBody,
    view=DryRunView,
    faults=(404,),
    optional_body=True,
)
async def cancel_dry_run(call: Call, _body: EmptyBody) -> Answer:
    """Cancel a dry run: it ends within about a second, and keeps what it found; one that has ended stays as it is."""
    job = await dry_runs.cancel_dry_run(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])
    return Answer(dry_run_view(job))


ROUTES: list[HTTPRouteHandler] = [start_dry_run, get_dry_run, cancel_dry_run]
