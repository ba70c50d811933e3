"""The history of a user on the wire of v3alpha."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user import history_reading
from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v3alpha.users import UserView, user_view
from schema_user.domain.search import DEFAULT_LIMIT, MAX_LIMIT
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.history_reading import Moment, ToldEntry

_SEQUENCE: Final = re.compile(r"[0-9]{1,18}")
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)
"""RFC 3339, 5.6; a plus that was not escaped in the query arrives as a space."""
_MICROSECONDS: Final = 7
"""Characters of a fraction of a second that are heeded, the dot among them."""
_TOKEN_MAX_CHARACTERS: Final = 4000
_QUERY: Final = {
    "at": "A time (RFC 3339) or a sequence: give the user as it was then. What lies in the future is the present.",
    "limit": f"How many entries at most: 1 to {MAX_LIMIT}, {DEFAULT_LIMIT} if absent. Large ones end a page before.",
    "pageToken": "The `nextPageToken` of the page before.",
}


class ChangeView(View, kw_only=True):
    """One place that changed; without `old` and `new` its values are hidden from the caller, or lie around it."""

    pointer: str
    old: Any = msgspec.UNSET
    new: Any = msgspec.UNSET


class EntryView(View, kw_only=True):
    """One change of a user: who made it, when, by which request, and what changed."""

    sequence: str
    at: str
    token_id: str
    user_id: str | None = None
    request_id: str
    changes: list[ChangeView]


class HistoryView(View, kw_only=True):
    """One page of a history, the newest entry first; with `at`, the user as it was instead."""

    result: list[EntryView] | None = None
    next_page_token: str | None = None
    user: UserView | None = None


def _refused(name: str, description: str) -> Malformed:
    return Malformed("QUERY_INVALID", f"{name} {description}", [Violation(f"?{name}", description, "query")])


def _moment(text: str) -> Moment:
    """Read a sequence or a time."""
    if _SEQUENCE.fullmatch(text):
        return int(text)
    if parts := _TIME.fullmatch(text):
        day, clock, fraction, zone = parts.groups()
        try:
            offset = zone.upper().replace(" ", "+")
            return datetime.fromisoformat(f"{day}T{clock}{(fraction or '')[:_MICROSECONDS]}{offset}").astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise _refused("at", "must be a time as of RFC 3339, such as 2025-01-03T13:39:46.859Z, or a sequence")


def _limit(call: Call) -> int:
    limit = call.number("limit")
    if limit is not None and limit > MAX_LIMIT:
        raise _refused("limit", f"must be at most {MAX_LIMIT}")
    return limit or DEFAULT_LIMIT


def _page_token(call: Call) -> str | None:
    token = call.query.get("pageToken")
    if token is not None and len(token) > _TOKEN_MAX_CHARACTERS:
        raise _refused("pageToken", f"must have at most {_TOKEN_MAX_CHARACTERS} characters")
    return token


def entry_view(told: ToldEntry) -> EntryView:
    """Show an entry, as far as its caller may read it."""
    entry = told.entry
    return EntryView(
        sequence=str(entry.sequence),
        at=rfc3339(entry.at),
        token_id=entry.token_id,
        user_id=entry.actor_id,
        request_id=entry.request_id,
        changes=[ChangeView(**change) for change in told.changes],
    )


@operation(
    "GET",
    "/v3alpha/users/{user_id:str}/history",
    summary="Get a user's history",
    tag="Users",
    permission="user.read",
    view=HistoryView,
    query=_QUERY,
    faults=(404,),
    conditional=True,
)
async def get_user_history(call: Call) -> Answer:
    """Give what changed of a user, the newest first: who, when, by which request, and what; or the user as it was.

    Only changes that raised the sequence are there. A value is shown if the caller may read it today and might have
    under the schema of then. Of a deleted user the facts stay and the values are gone, so it can't be given with `at`.
    """
    user_id = call.path["user_id"]
    if (text := call.query.get("at")) is not None:
        for other in ("limit", "pageToken"):
            if other in call.query:
                raise _refused(other, "does not go with at")
        past = await history_reading.get_past_user(call.wiring, call.caller, user_id, _moment(text))
        return Answer(HistoryView(user=user_view(past.user, past.schema_type)), past.user.sequence)
    limit, token = _limit(call), _page_token(call)
    page = await history_reading.list_history(call.wiring, call.caller, user_id, limit, token)
    entries = [entry_view(each) for each in page.entries]
    return Answer(HistoryView(result=entries, next_page_token=page.next_token), page.sequence)


ROUTES: list[HTTPRouteHandler] = [get_user_history]
