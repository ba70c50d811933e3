"""Migrations of users to a revision of a user schema, on the wire of v3alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.dry_runs import JobStateName, StartedJobView, job_state
from schema_user.api.v3alpha.users import ViolationView, violation_views
from schema_user.commands import migrations
from schema_user.domain.migration import MAX_EXPRESSION, MOST_RENAMES, Migration, Rename, Tally

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.job import Job

_PATH = "/v3alpha/user_schemas/{schema_id:str}/migrations"
_ONE = _PATH + "/{job_id:str}"
_TAG = "User schemas"
_PERMISSION = "userschema.write and user.write"
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Pointer = Annotated[str, msgspec.Meta(min_length=2, max_length=1000, pattern=r"^(/([^~/]|~[01])*)+$")]


class RenameBody(Body, kw_only=True):
    """A property that gets another name or place."""

    source: _Pointer
    target: _Pointer


class MigrationBody(Body, kw_only=True):
    """Where users shall be moved, and what their data becomes on the way.

    In this order: `rename`, `patch`, `expression`, `defaults`; then the result is validated.
    """

    to_revision: Annotated[int, msgspec.Meta(ge=1)]
    from_schema_id: _Id | None = None
    rename: Annotated[list[RenameBody], msgspec.Meta(max_length=MOST_RENAMES)] = []
    patch: list[dict[str, Any]] | None = None
    expression: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EXPRESSION)] | None = None
    defaults: bool = False


class FailureView(View, kw_only=True):
    """A user who was not moved, and why."""

    user_id: str
    reason: str
    violations: list[ViolationView]


class MigrationView(View, kw_only=True):
    """How far a migration is, and what became of the users up to there."""

    state: JobStateName
    done: int
    total: int
    to_revision: int
    from_schema_id: str | None = None
    moved: int
    skipped: int
    failed: int
    failures: list[FailureView]
    error: str | None = None
    creation_date: str
    start_date: str | None = None
    end_date: str | None = None


def migration_view(job: Job) -> MigrationView:
    """Make the view of a migration."""
    asked = msgspec.json.decode(job.asked, type=Migration)
    found = job.progress.found
    tally = msgspec.json.decode(found, type=Tally) if found else Tally()
    return MigrationView(
        state=job_state(job),
        done=job.progress.done,
        total=job.progress.total,
        to_revision=asked.to_revision,
        from_schema_id=asked.from_schema_id,
        moved=tally.moved,
        skipped=tally.skipped,
        failed=tally.failed,
        failures=[
            FailureView(user_id=each.user_id, reason=each.reason, violations=violation_views(each.violations))
            for each in tally.failures
        ],
        error=job.error or None,
        creation_date=rfc3339(job.created_at),
        start_date=rfc3339(job.started_at) if job.started_at else None,
        end_date=rfc3339(job.ended_at) if job.ended_at else None,
    )


def _started(started: migrations.Started) -> Answer:
    return Answer(StartedJobView(job_id=started.job.job_id), replayed=started.replayed)


@operation(
    "POST",
    _PATH,
    summary="Move users to a revision",
    tag=_TAG,
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

    Each is written by itself, as by an update; who is at the revision already is left alone.
    """
    migration = Migration(
        to_revision=body.to_revision,
        from_schema_id=body.from_schema_id,
        renames=tuple(Rename(each.source, each.target) for each in body.rename),
        patch=body.patch,
        expression=body.expression,
        defaults=body.defaults,
    )
    started = await migrations.start_migration(
        call.wiring, call.caller, call.path["schema_id"], migration, once=call.once
    )
    return _started(started)


@operation(
    "GET",
    _ONE,
    summary="Get a migration",
    tag=_TAG,
    permission=_PERMISSION,
    view=MigrationView,
    faults=(404,),
)
async def get_migration(call: Call) -> Answer:
    """Give how far a migration is and who failed; it can be read for seven days after its end."""
    job = await migrations.get_migration(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])
    return Answer(migration_view(job))


@operation(
    "POST",
    _ONE + "/cancel",
    summary="Cancel a migration",
    tag=_TAG,
    permission=_PERMISSION,
    body=EmptyBody,
    view=MigrationView,
    faults=(404,),
    optional_body=True,
)
async def cancel_migration(call: Call, _body: EmptyBody) -> Answer:
    """Cancel a migration: it ends within about a second, and who was moved stays so."""
    job = await migrations.cancel_migration(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])
    return Answer(migration_view(job))


@operation(
    "POST",
    _ONE + "/retry",
    summary="Try the failures of a migration again",
    tag=_TAG,
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


ROUTES: list[HTTPRouteHandler] = [start_migration, get_migration, cancel_migration, retry_migration]
