"""Webhooks on the wire of v3alpha."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from schema_user import queries
from schema_user.api.body import refused
from schema_user.api.details import View, rfc3339
from schema_user.api.glossary import WEBHOOK_ID
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.search_bodies import (
    SearchBody,
    SearchDetails,
    WebhookQueryBody,
    page_of,
    query_of,
    search_details,
)
from schema_user.commands import webhooks
from schema_user.domain.permission import Permission
from schema_user.domain.webhook import URL_MAX_CHARACTERS, EventType
from schema_user.errors import Violation

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.webhook import Webhook

_PATH = "/v3alpha/webhooks"
_ONE = _PATH + "/{webhook_id:str}"
_TAG = "Webhooks"
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Url = Annotated[str, msgspec.Meta(min_length=1, max_length=URL_MAX_CHARACTERS)]
_EventTypes = Annotated[list[EventType], msgspec.Meta(min_length=1, max_length=len(EventType))]

_EXAMPLE: Final[dict[str, Any]] = {
    "url": "https://app.example.com/hooks/users",
    "eventTypes": ["user.created", "user.email.verified"],
    "organizationId": "default",
}


class CreateWebhookBody(Body, kw_only=True):
    """A new webhook."""

    url: _Url
    event_types: _EventTypes
    organization_id: _Short | None = None


class UpdateWebhookBody(Body, kw_only=True):
    """What shall change; what is absent stays."""

    url: _Url | None = None
    event_types: _EventTypes | None = None
    active: bool | None = None
    rotate_secret: bool = False


class WebhookSortingColumn(enum.StrEnum):
    """What webhooks can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    URL = "FIELD_NAME_URL"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"


class SearchWebhooksBody(SearchBody, kw_only=True):
    """A search over webhooks; several queries must all hold."""

    sorting_column: WebhookSortingColumn = WebhookSortingColumn.UNSPECIFIED
    queries: list[WebhookQueryBody] = []


class WebhookState(enum.StrEnum):
    """Whether a webhook is told what happens; ``GONE``: not any more, as its receiver answered 410."""

    ACTIVE = "WEBHOOK_STATE_ACTIVE"
    INACTIVE = "WEBHOOK_STATE_INACTIVE"
    GONE = "WEBHOOK_STATE_GONE"


class CreatedWebhookView(View, kw_only=True):
    """A new webhook, and its secret, shown this once."""

    webhook_id: str
    secret: str


class WebhookView(View, kw_only=True):
    """What is known of a webhook; never its secret."""

    webhook_id: str
    url: str
    event_types: list[EventType]
    organization_id: str | None = None
    state: WebhookState
    creation_date: str
    change_date: str


class GotWebhookView(View, kw_only=True):
    """One webhook."""

    webhook: WebhookView


class ChangedWebhookView(View, kw_only=True):
    """A webhook as it is now; a new secret is shown this once."""

    webhook: WebhookView
    secret: str | None = None


class FoundWebhooksView(View, kw_only=True):
    """One page of webhooks."""

    details: SearchDetails
    sorting_column: WebhookSortingColumn
    result: list[WebhookView]
    next_page_token: str | None = None


class DeletedWebhookView(View, kw_only=True):
    """A webhook that is no more."""

    webhook_id: str


def _state(webhook: Webhook) -> WebhookState:
    if webhook.active:
        return WebhookState.ACTIVE
    return WebhookState.GONE if webhook.gone else WebhookState.INACTIVE


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        event_types=list(webhook.event_types),
        organization_id=webhook.organization_id,
        state=_state(webhook),
        creation_date=rfc3339(webhook.created_at),
        change_date=rfc3339(webhook.changed_at),
    )


def _owner(call: Call, named: str | None) -> str | None:
    """The instance's, if nothing else is said and the caller holds the permission there, else its organization's."""
    acting = call.caller.acting
    if named is None:
        everywhere = acting is None and call.caller.may(Permission.WEBHOOK_WRITE, None)
        return None if everywhere else call.caller.home
    if acting not in {None, named}:
        raise refused([Violation("organizationId", "differs from the header x-zitadel-orgid", "organization")])
    return named


def _types(given: list[EventType]) -> tuple[EventType, ...]:
    twice = [index for index, each in enumerate(given) if each in given[:index]]
    if twice:
        raise refused([Violation(f"eventTypes/{index}", "is given twice", "unique") for index in twice])
    return tuple(given)


@operation(
    "POST",
    _PATH,
    summary="Create a webhook",
    tag=_TAG,
    permission="webhook.write",
    body=CreateWebhookBody,
    view=CreatedWebhookView,
    status=201,
    faults=(404,),
    example=_EXAMPLE,
    answer={"webhookId": WEBHOOK_ID, "secret": "whsec_<shown this once>"},
)
async def create_webhook(call: Call, body: CreateWebhookBody) -> Answer:
    """Subscribe a URL to event types: of an organization, or, without `organizationId` and for whom it may, of all.

    Each event is a POST of `{id, type, occurredAt, organizationId, userId | schemaId, sequence, requestId, changes}`,
    where `changes` are JSON Pointers to what changed and never values. It is signed as Standard Webhooks says, in
    `webhook-id`, `webhook-timestamp` and `webhook-signature`, by the secret that is shown this once. An event comes at
    least once, under the same `webhook-id` each time, and in no promised order: `sequence` tells it. What is not
    answered 2xx within 10 seconds is tried again for a day, then parked among the messages; 410 ends the webhook.
    """
    command = webhooks.CreateWebhook(body.url, _types(body.event_types), _owner(call, body.organization_id))
    made = await webhooks.create_webhook(call.wiring, call.caller, command)
    return Answer(CreatedWebhookView(webhook_id=made.webhook.webhook_id, secret=made.secret or ""))


@operation(
    "GET",
    _ONE,
    summary="Get a webhook",
    tag=_TAG,
    permission="webhook.read",
    view=GotWebhookView,
    faults=(404,),
)
async def get_webhook(call: Call) -> Answer:
    """Give what is known of a webhook."""
    return Answer(
        GotWebhookView(webhook=_view(await queries.get_webhook(call.wiring, call.caller, call.path["webhook_id"])))
    )


@operation(
    "POST",
    _PATH + "/search",
    summary="Search webhooks",
    tag=_TAG,
    permission="webhook.read",
    body=SearchWebhooksBody,
    view=FoundWebhooksView,
    optional_body=True,
    example={"queries": [{"urlQuery": {"url": "https://app.example.com/", "method": "TEXT_QUERY_METHOD_STARTS_WITH"}}]},
)
async def search_webhooks(call: Call, body: SearchWebhooksBody) -> Answer:
    """Search the webhooks of the organizations where the caller holds `webhook.read`."""
    column = body.sorting_column
    if column is WebhookSortingColumn.UNSPECIFIED:
        column = WebhookSortingColumn.ID
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_webhooks(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundWebhooksView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[_view(each) for each in found.items],
        next_page_token=found.next_token,
    )
    return Answer(view)


@operation(
    "PUT",
    _ONE,
    summary="Update a webhook",
    tag=_TAG,
    permission="webhook.write",
    body=UpdateWebhookBody,
    view=ChangedWebhookView,
    faults=(404, 409),
    example={"rotateSecret": True},
)
async def update_webhook(call: Call, body: UpdateWebhookBody) -> Answer:
    """Change where a webhook leads, what it hears of, or whether it does; with `rotateSecret` it gets a new secret.

    For 24 hours after that, events are signed by the old secret too. What was parked stays so until it is retried.
    """
    types = None if body.event_types is None else _types(body.event_types)
    command = webhooks.UpdateWebhook(body.url, types, body.active, body.rotate_secret)
    saved = await webhooks.update_webhook(call.wiring, call.caller, call.path["webhook_id"], command)
    return Answer(ChangedWebhookView(webhook=_view(saved.webhook), secret=saved.secret))


@operation(
    "DELETE",
    _ONE,
    summary="Delete a webhook",
    tag=_TAG,
    permission="webhook.delete",
    view=DeletedWebhookView,
    faults=(404,),
)
async def delete_webhook(call: Call) -> Answer:
    """Delete a webhook; what it was not told yet is dropped."""
    webhook = await webhooks.delete_webhook(call.wiring, call.caller, call.path["webhook_id"])
    return Answer(DeletedWebhookView(webhook_id=webhook.webhook_id))


ROUTES: list[HTTPRouteHandler] = [create_webhook, get_webhook, search_webhooks, update_webhook, delete_webhook]
