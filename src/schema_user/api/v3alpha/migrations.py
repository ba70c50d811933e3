"""Migrations of users to a revision of a user schema, on the wire of v3alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from schema_user.api.details import View
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.jobs import (
    TAG,
    JobView,
    StartedJobView,
    TransformationBody,
    job_facts,
    job_routes,
    transformation,
)
from schema_user.api.v3alpha.users import ViolationView, violation_views
from schema_user.commands import migrations
from schema_user.domain.migration import Migration, Tally

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.job import Job

_PATH = "/v3alpha/user_schemas/{schema_id:str}/migrations"
_PERMISSION = "userschema.write and user.write"
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class MigrationBody(TransformationBody, kw_only=True):
    """Where users shall be moved, and what their data becomes on the way.

    In this order: `rename`, `patch`, `expression`, `defaults`; then the result is validated. With `dryRun` nothing is
    written.
    """

    to_revision: Annotated[int, msgspec.Meta(ge=1)]
    from_schema_id: _Id | None = None
    dry_run: bool = False


class FailureView(View, kw_only=True):
    """A user who was not moved, and why."""

    user_id: str
    reason: str
    violations: list[ViolationView]


class MigrationView(JobView, kw_only=True):
    """How far a migration is, and what became of the users up to there; with ``dryRun`` what would become of them."""

    to_revision: int
    from_schema_id: str | None = None
    dry_run: bool | None = None
    moved: int
    examples: list[str]
    skipped: int
    failed: int
    failures: list[FailureView]


def migration_view(job: Job) -> MigrationView:
    """Make the view of a migration."""
    asked = msgspec.json.decode(job.asked, type=Migration)
    found = job.progress.found
    tally = msgspec.json.decode(found, type=Tally) if found else Tally()
    return MigrationView(
        **job_facts(job),
        to_revision=asked.to_revision,
        from_schema_id=asked.from_schema_id,
        dry_run=asked.rehearsed or None,
        moved=tally.moved,
        examples=tally.examples,
        skipped=tally.skipped,
        failed=tally.failed,
        failures=[
            FailureView(user_id=each.user_id, reason=each.reason, violations=violation_views(each.violations))
            for each in tally.failures
        ],
    )


def _started(started: migrations.Started) -> Answer:
    return Answer(StartedJobView(job_id=started.job.job_id), replayed=started.replayed)


@operation(
    "POST",
    _PATH,
    summary="Move users to a revision",
    tag=TAG,
    permission=_PERMISSION,
    body=MigrationBody,
    view=StartedJobView,
    status=202,
    keyed=True,
    faults=(404, 409, 429),
    example={
        "toRevision": 3,
        "rename": [{"source": "/surname", "target": "/familyName"}],
        "expression": "merge(@, {displayName: join(' ', [givenName, familyName])})",
        "defaults": True,
    },
)
async def start_migration(call: Call, body: MigrationBody) -> Answer:
    """Start a job that moves users to the schema's current revision, in the organizations of the caller.

    Each is written by itself, as by an update; who is at the revision already is left alone. With `dryRun` the job does
    all of it but the writing, and says who would be moved.
    """
    migration = Migration(
        **msgspec.structs.asdict(transformation(body)),
        to_revision=body.to_revision,
        from_schema_id=body.from_schema_id,
        rehearsed=body.dry_run,
    )
    started = await migrations.start_migration(
        call.wiring, call.caller, call.path["schema_id"], migration, once=call.once
    )
    return _started(started)


@operation(
    "POST",
    _PATH + "/{job_id:str}/retry",
    summary="Try the failures of a migration again",
    tag=TAG,
    permission=_PERMISSION,
    body=EmptyBody,
    view=StartedJobView,
    status=202,
    keyed=True,
    faults=(404, 409, 429),
    optional_body=True,
)
async def retry_migration(call: Call, _body: EmptyBody) -> Answer:
    """Start a migration that has ended once more; who was moved is left alone, so it is for those who failed."""
    started = await migrations.retry_migration(
        call.wiring, call.caller, call.path["schema_id"], call.path["job_id"], once=call.once
    )
    return _started(started)


ROUTES: list[HTTPRouteHandler] = [
    start_migration,
    *job_routes(
        _PATH,
        "migration",
        _PERMISSION,
        MigrationView,
        migration_view,
        get=migrations.get_migration,
        cancel=migrations.cancel_migration,
    ),
    retry_migration,
]
