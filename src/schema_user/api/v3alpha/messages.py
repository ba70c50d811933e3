"""Messages on their way to people and to webhooks, as an operator sees them, on the wire of v3alpha.

A message waits in its user's document until the relay brings it to the outbox, within a second of its birth. Until
then it is neither found nor listed here.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from schema_user import queries
from schema_user.api.details import View, rfc3339
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.search_bodies import (
    MessageQueryBody,
    MessageState,
    SearchBody,
    SearchDetails,
    page_of,
    query_of,
    search_details,
)
from schema_user.commands import messages

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.message import SeenMessage

_PATH = "/v3alpha/messages"
_ONE = _PATH + "/{message_id:str}"
_TAG = "Messages"


class MessageSortingColumn(enum.StrEnum):
    """What messages can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"
    NEXT_TRY = "FIELD_NAME_NEXT_TRY"


class SearchMessagesBody(SearchBody, kw_only=True):
    """A search over messages; several queries must all hold."""

    sorting_column: MessageSortingColumn = MessageSortingColumn.UNSPECIFIED
    queries: list[MessageQueryBody] = []


class MessageView(View, kw_only=True):
    """What may be told of a message: never its code, its link or its text."""

    message_id: str
    kind: str
    channel: str
    recipient: str | None = None
    state: MessageState
    tries: int
    last_error: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    webhook_id: str | None = None
    creation_date: str
    next_try_date: str | None = None
    done_date: str | None = None


class GotMessageView(View, kw_only=True):
    """One message."""

    message: MessageView


class FoundMessagesView(View, kw_only=True):
    """One page of messages."""

    details: SearchDetails
    sorting_column: MessageSortingColumn
    result: list[MessageView]
    next_page_token: str | None = None


def message_view(message: SeenMessage) -> MessageView:
    """Show a message; a parked one is not tried again by itself, and one that is done never."""
    return MessageView(
        message_id=message.message_id,
        kind=message.kind,
        channel=str(message.channel),
        recipient=message.recipient,
        state=MessageState(f"MESSAGE_STATE_{message.state.upper()}"),
        tries=message.tries,
        last_error=message.last_error,
        user_id=message.user_id,
        organization_id=message.organization_id,
        webhook_id=message.webhook_id,
        creation_date=rfc3339(message.created_at),
        next_try_date=rfc3339(message.next_at) if message.state == "pending" else None,
        done_date=None if message.done_at is None else rfc3339(message.done_at),
    )


def _answer(message: SeenMessage) -> Answer:
    return Answer(GotMessageView(message=message_view(message)))


@operation(
    "GET",
    _ONE,
    summary="Get a message",
    tag=_TAG,
    permission="message.read",
    view=GotMessageView,
    faults=(404,),
)
async def get_message(call: Call) -> Answer:
    """Give what may be told of a message; those that are done are kept for 30 days, a webhook's for 7."""
    return _answer(await queries.get_message(call.wiring, call.caller, call.path["message_id"]))


@operation(
    "POST",
    _PATH + "/search",
    summary="Search messages",
    tag=_TAG,
    permission="message.read",
    body=SearchMessagesBody,
    view=FoundMessagesView,
    optional_body=True,
    example={"queries": [{"stateQuery": {"state": "MESSAGE_STATE_PARKED"}}]},
)
async def search_messages(call: Call, body: SearchMessagesBody) -> Answer:
    """Search the messages of the organizations where the caller holds `message.read`.

    A message is found within a second of the change that caused it.
    """
    column = body.sorting_column
    if column is MessageSortingColumn.UNSPECIFIED:
        column = MessageSortingColumn.CREATION_DATE
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_messages(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundMessagesView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[message_view(each) for each in found.items],
        next_page_token=found.next_token,
    )
    return Answer(view)


@operation(
    "POST",
    _ONE + "/retry",
    summary="Try a message again",
    tag=_TAG,
    permission="message.write",
    body=EmptyBody,
    view=GotMessageView,
    optional_body=True,
    faults=(404, 409),
)
async def retry_message(call: Call, _body: EmptyBody) -> Answer:
    """Let a message that was parked, or waits for its next try, be sent now; its tries are counted anew.

    What a webhook was told already is told again, under the same ids, for 7 days after it was told.

    One that nobody could use any more, such as that of a code that expired, is dropped instead of being sent.
    """
    return _answer(await messages.retry_message(call.wiring, call.caller, call.path["message_id"]))


@operation(
    "DELETE",
    _ONE,
    summary="Drop a message",
    tag=_TAG,
    permission="message.delete",
    view=GotMessageView,
    faults=(404, 409),
)
async def drop_message(call: Call) -> Answer:
    """Give up a message that was parked or waits: it is not sent, and recipient and code are erased."""
    return _answer(await messages.drop_message(call.wiring, call.caller, call.path["message_id"]))


ROUTES: list[HTTPRouteHandler] = [get_message, search_messages, retry_message, drop_message]
