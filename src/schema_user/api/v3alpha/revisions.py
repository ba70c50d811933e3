"""The revisions of a user schema on the wire: which there are, and what changed between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_user import queries
from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.comparison import Difference

_PATH = "/v3alpha/user_schemas/{schema_id:str}/revisions"
_TAG = "User schemas"


class RevisionView(View, kw_only=True):
    """A revision, and when it became current."""

    revision: int
    creation_date: str


class RevisionsView(View, kw_only=True):
    """Every revision, the newest first."""

    result: list[RevisionView]


class DifferenceView(View, kw_only=True):
    """One difference between two schemas; ``breaking`` is left out if it could not be told."""

    pointer: str
    kind: str
    description: str
    breaking: bool | None = None


class ComparedView(View, kw_only=True):
    """What changed from one revision to another, and whether documents of the one pass the other."""

    from_revision: int
    to_revision: int
    verdict: str
    differences: list[DifferenceView]


def difference_views(differences: Iterable[Difference]) -> list[DifferenceView]:
    """Make the views of differences."""
    return [
        DifferenceView(pointer=each.pointer, kind=each.kind, description=each.description, breaking=each.breaking)
        for each in differences
    ]


@operation(
    "GET",
    _PATH,
    summary="List a user schema's revisions",
    tag=_TAG,
    permission="userschema.read",
    view=RevisionsView,
    faults=(404,),
)
async def list_revisions(call: Call) -> Answer:
    """List every revision; each is kept and never changes."""
    found = await queries.list_revisions(call.wiring, call.caller, call.path["schema_id"])
    return Answer(RevisionsView(result=[RevisionView(revision=n, creation_date=rfc3339(at)) for n, at in found]))


@operation(
    "GET",
    _PATH + "/diff",
    summary="Compare two revisions of a user schema",
    tag=_TAG,
    permission="userschema.read",
    view=ComparedView,
    query={
        "from": "The revision that is compared with; absent: the one before `to`.",
        "to": "The revision that is compared; absent: the current one.",
    },
    faults=(404,),
)
async def compare_revisions(call: Call) -> Answer:
    """Say in words what changed, and whether every document that passed the one passes the other.

    `safe` is a proof; `breaking`: what is asked was narrowed; `unknown`: only a dry run over the stored users tells.
    """
    compared = await queries.compare_revisions(
        call.wiring, call.caller, call.path["schema_id"], call.number("from"), call.number("to")
    )
    view = ComparedView(
        from_revision=compared.from_revision,
        to_revision=compared.to_revision,
        verdict=compared.comparison.verdict.value,
        differences=difference_views(compared.comparison.differences),
    )
    return Answer(view)


ROUTES: list[HTTPRouteHandler] = [list_revisions, compare_revisions]
