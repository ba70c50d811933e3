"""What a user schema has indexed and unique, and how far the users there were before are, on the wire of v3alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schema_user import queries
from schema_user.api.details import View
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.jobs import JobStateName, StartedJobView, job_state
from schema_user.commands.schema_marks import repeat_backfill
from schema_user.domain.backfill import Filled

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.job import Job

_PATH = "/v3alpha/user_schemas/{schema_id:str}/indexing"
_TAG = "User schemas"


class IndexedPathView(View, kw_only=True):
    """A path that is indexed; while it is not ready, it cannot be searched."""

    path: str
    ready: bool


class SharerView(View, kw_only=True):
    """A user that has a value which should be unique, and where."""

    user_id: str
    field: str


class DuplicateView(View, kw_only=True):
    """One value that several users of an organization have; it is ``holderId``'s, and not the first hundred others'."""

    path: str
    holder_id: str
    count: int
    users: list[SharerView]


class BackFillView(View, kw_only=True):
    """How far the last back-fill is, and what it found up to there, in the organizations whose users may be read."""

    job_id: str
    state: JobStateName
    done: int
    total: int
    filled: int
    duplicates: list[DuplicateView]
    more_duplicates: int | None = None
    crowded: list[str]
    more_crowded: int | None = None
    error: str | None = None


class IndexingView(View, kw_only=True):
    """What the current revision of a schema marks."""

    indexed: list[IndexedPathView]
    unique: list[str]
    back_fill: BackFillView | None = None


def _back_fill(job: Job, organizations: frozenset[str] | None) -> BackFillView:
    found = job.progress.found
    filled = msgspec.json.decode(found, type=Filled) if found else Filled()

    def seen(organization_id: str) -> bool:
        return organizations is None or organization_id in organizations

    return BackFillView(
        job_id=job.job_id,
        state=job_state(job),
        done=job.progress.done,
        total=job.progress.total,
        filled=filled.changed,
        duplicates=[
            DuplicateView(
                path=each.path,
                holder_id=each.holder_id,
                count=each.count,
                users=[SharerView(user_id=user.user_id, field=user.pointer) for user in each.users],
            )
            for each in filled.duplicates
            if seen(each.organization_id)
        ],
        more_duplicates=filled.others or None,
        crowded=[user_id for organization_id, user_id in filled.crowded if seen(organization_id)],
        more_crowded=filled.more_crowded or None,
        error=job.error or None,
    )


@operation(
    "GET",
    _PATH,
    summary="Get what a user schema has indexed",
    tag=_TAG,
    permission="userschema.read",
    view=IndexingView,
    faults=(404,),
)
async def get_indexing(call: Call) -> Answer:
    """Give which paths are indexed and unique, and what the last back-fill found; it is kept for seven days.

    Users are named in the organizations where the caller holds user.read.
    """
    told = await queries.get_indexing(call.wiring, call.caller, call.path["schema_id"])
    view = IndexingView(
        indexed=[IndexedPathView(path=each.path, ready=each.ready) for each in told.paths],
        unique=list(told.unique),
        back_fill=None if told.job is None else _back_fill(told.job, told.organizations),
    )
    return Answer(view)


@operation(
    "POST",
    _PATH,
    summary="Back-fill a user schema again",
    tag=_TAG,
    permission="userschema.write",
    body=EmptyBody,
    view=StartedJobView,
    status=202,
    faults=(404, 429),
    optional_body=True,
)
async def repeat_indexing(call: Call, _body: EmptyBody) -> Answer:
    """Go through the users again, for example to see whether duplicates are left; one that has not ended goes on."""
    job = await repeat_backfill(call.wiring, call.caller, call.path["schema_id"])
    return Answer(StartedJobView(job_id=job.job_id))


ROUTES: list[HTTPRouteHandler] = [get_indexing, repeat_indexing]
