"""Dry runs of user schemas on the wire of v3alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user import queries
from schema_user.api.details import View
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v3alpha.jobs import (
    TAG,
    JobView,
    StartedJobView,
    TransformationBody,
    job_facts,
    job_routes,
    transformation,
)
from schema_user.api.v3alpha.revisions import DifferenceView, difference_views
from schema_user.api.v3alpha.users import ViolationView, violation_views
from schema_user.commands import dry_runs
from schema_user.domain.comparison import Verdict
from schema_user.domain.dry_run import DryRun, Tally

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.job import Job

_PATH = "/v3alpha/user_schemas/{schema_id:str}/dry_run"
_PERMISSION = "userschema.write and user.read"
_EXAMPLE = {
    "schema": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["name", "email"],
        "properties": {"name": {"type": "string"}, "email": {"type": "string", "format": "email"}},
    }
}


class DryRunBody(TransformationBody, kw_only=True):
    """Another text of a user schema, and what users' data would become on the way to it.

    With `rename`, `patch`, `expression` or `defaults` users are judged as a migration would make them.
    """

    schema: Annotated[Any, msgspec.Meta(description="A JSON Schema: what the next revision could be.")]


class FailingView(View, kw_only=True):
    """One violation: how many users have it, and the ids of the first hundred."""

    violation: ViolationView
    count: int
    users: list[str]


class DryRunView(JobView, kw_only=True):
    """How far a dry run is, and what it found up to there."""

    revision: int
    verdict: Verdict | None = None
    differences: list[DifferenceView]
    passed: int
    failed: int
    failing: list[FailingView]
    more_violations: int | None = None


def dry_run_view(job: Job) -> DryRunView:
    """Show a dry run."""
    found = job.progress.found
    tally = msgspec.json.decode(found, type=Tally) if found else Tally()
    compared = tally.comparison
    return DryRunView(
        **job_facts(job),
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
    )


@operation(
    "POST",
    _PATH,
    summary="Try a schema on the stored users",
    tag=TAG,
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

    It covers the organizations where the caller holds both permissions, and changes nothing. Values that several users
    share are told of where they would have to be unique from now on.
    """
    asked = transformation(body)
    started = await dry_runs.start_dry_run(
        call.wiring,
        call.caller,
        call.path["schema_id"],
        body.schema,
        asked if asked.changes else None,
        once=call.once,
    )
    view = StartedJobView(job_id=started.job.job_id, warnings=violation_views(started.warnings) or None)
    return Answer(view, replayed=started.replayed)


ROUTES: list[HTTPRouteHandler] = [
    start_dry_run,
    *job_routes(
        _PATH,
        "dry run",
        _PERMISSION,
        DryRunView,
        dry_run_view,
        get=queries.get_dry_run,
        cancel=dry_runs.cancel_dry_run,
    ),
]
