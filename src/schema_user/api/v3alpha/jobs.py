"""Jobs on the wire of v3alpha: what all of them show, how one is read and cancelled, and what may be done to data."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.users import ViolationView
from schema_user.domain.migration import MAX_EXPRESSION, MOST_RENAMES, Rename, Transformation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.caller import Caller
    from schema_user.domain.job import Job
    from schema_user.wiring import Wiring

    Act = Callable[[Wiring, Caller, str, str], Awaitable[Job]]
    """Reads or cancels a job: the ids are the schema's and its own."""

TAG = "User schemas"
_Pointer = Annotated[str, msgspec.Meta(min_length=2, max_length=1000, pattern=r"^(/([^~/]|~[01])*)+$")]


class JobStateName(enum.StrEnum):
    """How far a job is."""

    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    DONE = "JOB_STATE_DONE"
    FAILED = "JOB_STATE_FAILED"
    CANCELLED = "JOB_STATE_CANCELLED"


class StartedJobView(View, kw_only=True):
    """A job that was started; ``warnings`` name what of a schema is taken but does nothing."""

    job_id: str
    warnings: list[ViolationView] | None = None


class JobView(View, kw_only=True):
    """How far a job is."""

    state: JobStateName
    done: int
    total: int
    error: str | None = None
    creation_date: str
    start_date: str | None = None
    end_date: str | None = None


def job_state(job: Job) -> JobStateName:
    """Name the state of a job as the wire does."""
    return JobStateName[job.state.name]


def job_facts(job: Job) -> dict[str, Any]:
    """Give the fields of ``JobView``."""
    return {
        "state": job_state(job),
        "done": job.progress.done,
        "total": job.progress.total,
        "error": job.error or None,
        "creation_date": rfc3339(job.created_at),
        "start_date": rfc3339(job.started_at) if job.started_at else None,
        "end_date": rfc3339(job.ended_at) if job.ended_at else None,
    }


def job_routes(
    path: str, noun: str, permission: str, view: type[JobView], show: Callable[[Job], JobView], *, get: Act, cancel: Act
) -> list[HTTPRouteHandler]:
    """Make the two operations on one job: to read it, and to cancel it."""

    async def read(call: Call) -> Answer:
        return Answer(show(await get(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])))

    async def end(call: Call, _body: EmptyBody) -> Answer:
        return Answer(show(await cancel(call.wiring, call.caller, call.path["schema_id"], call.path["job_id"])))

    name = noun.replace(" ", "_")
    read.__name__, end.__name__ = f"get_{name}", f"cancel_{name}"
    read.__doc__ = f"Give how far a {noun} is and what it found; it can be read for seven days after its end."
    end.__doc__ = f"Cancel a {noun}: it ends within about a second, and what it did stays. One that has ended stays so."
    one = path + "/{job_id:str}"
    facts: dict[str, Any] = {"tag": TAG, "permission": permission, "view": view, "faults": (404,)}
    return [
        operation("GET", one, summary=f"Get a {noun}", **facts)(read),
        operation("POST", one + "/cancel", summary=f"Cancel a {noun}", body=EmptyBody, optional_body=True, **facts)(
            end
        ),
    ]


class RenameBody(Body, kw_only=True):
    """A property that gets another name or place."""

    source: _Pointer
    target: _Pointer


class TransformationBody(Body, kw_only=True):
    """What users' data becomes on the way to a revision.

    In this order: `rename`, `patch`, `expression`, `defaults`; then the result is validated.
    """

    rename: Annotated[list[RenameBody], msgspec.Meta(max_length=MOST_RENAMES)] = []
    patch: list[dict[str, Any]] | None = None
    expression: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EXPRESSION)] | None = None
    defaults: bool = False


def transformation(body: TransformationBody) -> Transformation:
    """Give what a body asks to be done to data."""
    return Transformation(
        renames=tuple(Rename(each.source, each.target) for each in body.rename),
        patch=body.patch,
        expression=body.expression,
        defaults=body.defaults,
    )
