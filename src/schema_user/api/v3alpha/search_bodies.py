"""Searches on the wire: what all of them share, and the queries of each kind of resource."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from schema_user.api.details import View, rfc3339
from schema_user.api.query_tree import NotBody, QueriesBody, query_tree
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.domain import search
from schema_user.domain.contact import Channel
from schema_user.domain.data_search import MAX_PATH, flaw
from schema_user.domain.message import WEBHOOK
from schema_user.domain.search import DataMethod, TextMethod
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

_Value = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class PageBody(Body, kw_only=True):
    """Which part of the results; at most 1000 at once."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=search.MAX_LIMIT)] = search.DEFAULT_LIMIT
    asc: bool = False


class SearchBody(Body, kw_only=True):
    """What every search takes; a page token goes on where its page ended, and then ``offset`` is not heeded."""

    query: PageBody | None = None
    page_token: Annotated[str, msgspec.Meta(max_length=4000)] | None = None


class SearchDetails(View, kw_only=True):
    """How many results there are in all, and when that was true; of more than 10,000 about how many."""

    total_result: str
    timestamp: str
    is_estimate: bool | None = None


def search_details(total: int, now: datetime, *, is_estimate: bool = False) -> SearchDetails:
    """Give the details of a search."""
    return SearchDetails(total_result=str(total), timestamp=rfc3339(now), is_estimate=is_estimate or None)


def page_of(body: SearchBody, sort: str) -> search.Page:
    """Read which part of the results is wanted."""
    part = body.query or PageBody()
    return search.Page(sort, part.asc, part.offset, part.limit, body.page_token)


class IdQuery(Body, kw_only=True):
    """The id is this one, or (with ``method``) like it."""

    id: _Value
    method: TextMethod = TextMethod.EQUALS


class UserIdQuery(Body, kw_only=True):
    """The id is this one."""

    id: _Value


class OrganizationIdQuery(Body, kw_only=True):
    """The organization is this one."""

    organization_id: _Value


class UsernameQuery(Body, kw_only=True):
    """The username is like this."""

    username: _Value
    method: TextMethod = TextMethod.EQUALS


class EmailQuery(Body, kw_only=True):
    """The email address is like this."""

    address: _Value
    method: TextMethod = TextMethod.EQUALS


class PhoneQuery(Body, kw_only=True):
    """The phone number is like this (stored as E.164)."""

    number: _Value
    method: TextMethod = TextMethod.EQUALS


class UserState(enum.StrEnum):
    """The states that can be searched for."""

    ACTIVE = "USER_STATE_ACTIVE"
    INACTIVE = "USER_STATE_INACTIVE"
    LOCKED = "USER_STATE_LOCKED"


class StateQuery(Body, kw_only=True):
    """The user's state is this one."""

    state: UserState


class SchemaState(enum.StrEnum):
    """The states of a user schema."""

    ACTIVE = "STATE_ACTIVE"
    INACTIVE = "STATE_INACTIVE"


class SchemaStateQuery(Body, kw_only=True):
    """The schema's state is this one."""

    state: SchemaState


class SchemaIdQuery(Body, kw_only=True):
    """The user's schema is this one."""

    id: _Value


class RevisionQueryMethod(enum.StrEnum):
    """How a revision is compared."""

    EQUALS = DataMethod.EQUALS.value
    LESS = DataMethod.LESS.value
    LESS_OR_EQUALS = DataMethod.LESS_OR_EQUALS.value
    GREATER = DataMethod.GREATER.value
    GREATER_OR_EQUALS = DataMethod.GREATER_OR_EQUALS.value


class SchemaRevisionQuery(Body, kw_only=True):
    """The user has this schema, and the revision that its data passed compares so with another one."""

    schema_id: _Value
    revision: Annotated[int, msgspec.Meta(ge=1)]
    method: RevisionQueryMethod = RevisionQueryMethod.EQUALS


class TypeQuery(Body, kw_only=True):
    """The type of the (user's) schema is like this."""

    type: _Value
    method: TextMethod = TextMethod.EQUALS


class NameQuery(Body, kw_only=True):
    """The name is like this."""

    name: _Value
    method: TextMethod = TextMethod.EQUALS


class DataQueryMethod(enum.StrEnum):
    """How a value in ``data`` is compared: as a text, or by its kind."""

    EQUALS = DataMethod.EQUALS.value
    LESS = DataMethod.LESS.value
    LESS_OR_EQUALS = DataMethod.LESS_OR_EQUALS.value
    GREATER = DataMethod.GREATER.value
    GREATER_OR_EQUALS = DataMethod.GREATER_OR_EQUALS.value
    TEXT_EQUALS = TextMethod.EQUALS.value
    TEXT_EQUALS_IGNORE_CASE = TextMethod.EQUALS_IGNORE_CASE.value
    TEXT_STARTS_WITH = TextMethod.STARTS_WITH.value
    TEXT_STARTS_WITH_IGNORE_CASE = TextMethod.STARTS_WITH_IGNORE_CASE.value
    TEXT_CONTAINS = TextMethod.CONTAINS.value
    TEXT_CONTAINS_IGNORE_CASE = TextMethod.CONTAINS_IGNORE_CASE.value
    TEXT_ENDS_WITH = TextMethod.ENDS_WITH.value
    TEXT_ENDS_WITH_IGNORE_CASE = TextMethod.ENDS_WITH_IGNORE_CASE.value

    @property
    def method(self) -> TextMethod | DataMethod:
        """The method by its name."""
        return TextMethod(self.value) if self.value in set(TextMethod) else DataMethod(self.value)


class DataQuery(Body, kw_only=True):
    """A value at an indexed path of ``data``, or an item of an array there, is like this."""

    path: Annotated[str, msgspec.Meta(min_length=2, max_length=MAX_PATH)]
    value: str | int | float | bool
    method: DataQueryMethod = DataQueryMethod.EQUALS


class UserQueryBody(Body, kw_only=True):
    """One query over users: exactly one member is given."""

    user_id_query: UserIdQuery | None = None
    organization_id_query: OrganizationIdQuery | None = None
    username_query: UsernameQuery | None = None
    email_query: EmailQuery | None = None
    phone_query: PhoneQuery | None = None
    state_query: StateQuery | None = None
    schema_id_query: SchemaIdQuery | None = None
    schema_type_query: TypeQuery | None = None
    schema_revision_query: SchemaRevisionQuery | None = None
    data_query: DataQuery | None = None
    or_query: UserQueriesBody | None = None
    and_query: UserQueriesBody | None = None
    not_query: UserNotBody | None = None


class UserQueriesBody(QueriesBody, kw_only=True):
    """Several queries."""

    queries: list[UserQueryBody]


class UserNotBody(NotBody, kw_only=True):
    """A query that must not hold."""

    query: UserQueryBody


class SchemaQueryBody(Body, kw_only=True):
    """One query over user schemas: exactly one member is given."""

    id_query: IdQuery | None = None
    type_query: TypeQuery | None = None
    state_query: SchemaStateQuery | None = None
    or_query: SchemaQueriesBody | None = None
    and_query: SchemaQueriesBody | None = None
    not_query: SchemaNotBody | None = None


class SchemaQueriesBody(QueriesBody, kw_only=True):
    """Several queries."""

    queries: list[SchemaQueryBody]


class SchemaNotBody(NotBody, kw_only=True):
    """A query that must not hold."""

    query: SchemaQueryBody


class OrganizationQueryBody(Body, kw_only=True):
    """One query over organizations: exactly one member is given."""

    id_query: IdQuery | None = None
    name_query: NameQuery | None = None


class TokenQueryBody(Body, kw_only=True):
    """One query over tokens: exactly one member is given."""

    id_query: IdQuery | None = None
    name_query: NameQuery | None = None
    user_id_query: UserIdQuery | None = None


class MessageState(enum.StrEnum):
    """The states of a message."""

    PENDING = "MESSAGE_STATE_PENDING"
    PARKED = "MESSAGE_STATE_PARKED"
    SENT = "MESSAGE_STATE_SENT"
    DROPPED = "MESSAGE_STATE_DROPPED"


class MessageStateQuery(Body, kw_only=True):
    """The message's state is this one."""

    state: MessageState


class MessageChannel(enum.StrEnum):
    """How a message goes out: to a person, or to a webhook."""

    EMAIL = Channel.EMAIL.value
    PHONE = Channel.PHONE.value
    WEBHOOK = WEBHOOK


class ChannelQuery(Body, kw_only=True):
    """The message goes over this channel."""

    channel: MessageChannel


class KindQuery(Body, kw_only=True):
    """The message is of this kind."""

    kind: _Value


class WebhookIdQuery(Body, kw_only=True):
    """The message is for this webhook."""

    id: _Value


class CreatedQuery(Body, kw_only=True):
    """It was made within this time; at least one end is given."""

    since: _Time | None = None
    before: _Time | None = None


class MessageQueryBody(Body, kw_only=True):
    """One query over messages: exactly one member is given."""

    id_query: IdQuery | None = None
    state_query: MessageStateQuery | None = None
    channel_query: ChannelQuery | None = None
    kind_query: KindQuery | None = None
    user_id_query: UserIdQuery | None = None
    organization_id_query: OrganizationIdQuery | None = None
    webhook_id_query: WebhookIdQuery | None = None
    created_query: CreatedQuery | None = None
    or_query: MessageQueriesBody | None = None
    and_query: MessageQueriesBody | None = None
    not_query: MessageNotBody | None = None


class MessageQueriesBody(QueriesBody, kw_only=True):
    """Several queries."""

    queries: list[MessageQueryBody]


class MessageNotBody(NotBody, kw_only=True):
    """A query that must not hold."""

    query: MessageQueryBody


class UrlQuery(Body, kw_only=True):
    """The URL is like this."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    method: TextMethod = TextMethod.EQUALS


class WebhookQueryBody(Body, kw_only=True):
    """One query over webhooks: exactly one member is given."""

    id_query: IdQuery | None = None
    organization_id_query: OrganizationIdQuery | None = None
    url_query: UrlQuery | None = None


AnyQueryBody = (
    UserQueryBody | SchemaQueryBody | OrganizationQueryBody | TokenQueryBody | MessageQueryBody | WebhookQueryBody
)


def _leaf(body: object) -> search.Query:
    """Turn a query without queries in it into a typed one."""
    match body:
        case IdQuery(id=value, method=method):
            return search.Text("id", value, method)
        case OrganizationIdQuery(organization_id=value):
            return search.Is("organization_id", value)
        case UsernameQuery(username=value, method=method):
            return search.Text("username", value, method)
        case EmailQuery(address=value, method=method):
            return search.Text("email", value, method)
        case PhoneQuery(number=value, method=method):
            return search.Text("phone", value, method)
        case SchemaIdQuery(id=value):
            return search.Is("schema_id", value)
        case SchemaRevisionQuery(schema_id=schema_id, revision=revision, method=method):
            compared = search.Number("schema_revision", revision, DataMethod(method.value))
            return search.AllOf((search.Is("schema_id", schema_id), compared))
        case NameQuery(name=value, method=method):
            return search.Text("name", value, method)
        case StateQuery(state=state):
            return search.Is("state", state.value)
        case SchemaStateQuery(state=SchemaState.ACTIVE):
            return search.Is("state", "active")
        case SchemaStateQuery():
            return search.Not(search.Is("state", "active"))
        case _:
            message = f"no query is made of {type(body).__name__}"
            raise AssertionError(message)


def query_of(bodies: Sequence[AnyQueryBody]) -> search.Query:
    """Turn the queries of a search into one that all of them must satisfy; raises Malformed as ``query_tree`` does."""
    return query_tree(bodies, _member)


def _member(body: Body, member: Body, at: str, found: list[Violation]) -> search.Query:
    """Turn a query into a typed one; what some names mean depends on what is searched."""
    if isinstance(member, TypeQuery):
        column = "schema_type" if isinstance(body, UserQueryBody) else "type"
        return search.Text(column, member.type, member.method)
    if isinstance(member, UserIdQuery):
        return search.Is("id" if isinstance(body, UserQueryBody) else "user_id", member.id)
    if isinstance(member, DataQuery):
        return _data(member, at, found)
    if isinstance(member, CreatedQuery):
        return _created(member, at, found)
    return _message_leaf(member) or _leaf(member)


def _message_leaf(body: object) -> search.Query | None:
    """Turn a query that only messages and webhooks know into a typed one."""
    match body:
        case MessageStateQuery(state=state):
            return search.Is("state", state.removeprefix("MESSAGE_STATE_").lower())
        case ChannelQuery(channel=channel):
            return search.Is("channel", channel.value)
        case KindQuery(kind=value):
            return search.Is("kind", value)
        case WebhookIdQuery(id=value):
            return search.Is("webhook_id", value)
        case UrlQuery(url=value, method=method):
            return search.Text("url", value, method)
        case _:
            return None


def _data(body: DataQuery, at: str, found: list[Violation]) -> search.Query:
    asked = search.Data(body.path, body.method.method, body.value, at)
    wrong = flaw(asked)
    if wrong is not None:
        name, words, reason = wrong
        found.append(Violation(f"{at}/{name}", words, reason))
    return asked


def _created(body: CreatedQuery, at: str, found: list[Violation]) -> search.Query:
    if body.since is None and body.before is None:
        found.append(Violation(at, "must have since, before or both", "required"))
    try:
        since, before = (None if each is None else each.astimezone(UTC) for each in (body.since, body.before))
    except OverflowError:
        found.append(Violation(at, "must lie in the years 1 to 9999 of UTC", "range"))
        return search.AllOf(())
    return search.During("creation_date", since, before)
