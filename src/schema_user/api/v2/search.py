"""The list of people: its queries, and what it can be sorted by."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from schema_user.api.query_tree import NotBody, QueriesBody, query_tree
from schema_user.api.v2.bodies import Short
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.search_bodies import PageBody, StateQuery
from schema_user.domain import search
from schema_user.domain.search import TextMethod

if TYPE_CHECKING:
    from collections.abc import Sequence

_Many = Annotated[list[Short], msgspec.Meta(max_length=search.MAX_LIMIT)]


class HumanSortingColumn(enum.StrEnum):
    """What people can be sorted by."""

    UNSPECIFIED = "USER_FIELD_NAME_UNSPECIFIED"
    USER_NAME = "USER_FIELD_NAME_USER_NAME"
    EMAIL = "USER_FIELD_NAME_EMAIL"
    STATE = "USER_FIELD_NAME_STATE"
    CREATION_DATE = "USER_FIELD_NAME_CREATION_DATE"


COLUMNS: Final = {
    HumanSortingColumn.UNSPECIFIED: "id",
    HumanSortingColumn.USER_NAME: "username",
    HumanSortingColumn.EMAIL: "email",
    HumanSortingColumn.STATE: "state",
    HumanSortingColumn.CREATION_DATE: "creation_date",
}


class UserType(enum.StrEnum):
    """The kinds of users; those of this list are all human."""

    HUMAN = "TYPE_HUMAN"
    MACHINE = "TYPE_MACHINE"


class UserNameQuery(Body, kw_only=True):
    """The username is like this."""

    user_name: Short
    method: TextMethod = TextMethod.EQUALS


class LoginNameQuery(Body, kw_only=True):
    """The login name, which is the username, is like this."""

    login_name: Short
    method: TextMethod = TextMethod.EQUALS


class EmailAddressQuery(Body, kw_only=True):
    """The email address is like this."""

    email_address: Short
    method: TextMethod = TextMethod.EQUALS


class PhoneNumberQuery(Body, kw_only=True):
    """The phone number is like this (stored as E.164)."""

    number: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
    method: TextMethod = TextMethod.EQUALS


class UserTypeQuery(Body, kw_only=True):
    """The user is of this kind."""

    type: UserType


class InUserIdsQuery(Body, kw_only=True):
    """The id is one of these."""

    user_ids: _Many


class InUserEmailsQuery(Body, kw_only=True):
    """The email address is one of these."""

    user_emails: _Many


class InOrganizationQuery(Body, kw_only=True):
    """The organization is this one."""

    organization_id: Short


class HumanQueryBody(Body, kw_only=True):
    """One query over people: exactly one member is given."""

    user_name_query: UserNameQuery | None = None
    login_name_query: LoginNameQuery | None = None
    email_query: EmailAddressQuery | None = None
    phone_query: PhoneNumberQuery | None = None
    state_query: StateQuery | None = None
    type_query: UserTypeQuery | None = None
    in_user_ids_query: InUserIdsQuery | None = None
    in_user_emails_query: InUserEmailsQuery | None = None
    organization_id_query: InOrganizationQuery | None = None
    or_query: HumanQueriesBody | None = None
    and_query: HumanQueriesBody | None = None
    not_query: HumanNotBody | None = None


class HumanQueriesBody(QueriesBody, kw_only=True):
    """Several queries."""

    queries: list[HumanQueryBody]


class HumanNotBody(NotBody, kw_only=True):
    """A query that must not hold."""

    query: HumanQueryBody


class ListHumansBody(Body, kw_only=True):
    """A list of people; several queries must all hold."""

    query: PageBody | None = None
    sorting_column: HumanSortingColumn = HumanSortingColumn.UNSPECIFIED
    queries: list[HumanQueryBody] = msgspec.field(default_factory=list)


def page_of(body: ListHumansBody) -> search.Page:
    """Read which part of the results is wanted."""
    part = body.query or PageBody()
    return search.Page(COLUMNS[body.sorting_column], part.asc, part.offset, part.limit)


def query_of(bodies: Sequence[HumanQueryBody]) -> search.Query:
    """Turn the queries of a list into one that all of them must satisfy; raises Malformed as ``query_tree`` does."""
    return query_tree(bodies, lambda _body, member, _at, _found: _leaf(member))


def _leaf(body: object) -> search.Query:
    """Turn a query without queries in it into a typed one."""
    match body:
        case UserNameQuery(user_name=value, method=method) | LoginNameQuery(login_name=value, method=method):
            return search.Text("username", value, method)
        case EmailAddressQuery(email_address=value, method=method):
            return search.Text("email", value, method)
        case PhoneNumberQuery(number=value, method=method):
            return search.Text("phone", value, method)
        case StateQuery(state=state):
            return search.Is("state", state.value)
        case UserTypeQuery(type=UserType.HUMAN):
            return search.AllOf(())
        case UserTypeQuery():
            return search.AnyOf(())
        case InUserIdsQuery(user_ids=values):
            return search.AnyOf(tuple(search.Is("id", value) for value in values))
        case InUserEmailsQuery(user_emails=values):
            return search.AnyOf(tuple(search.Is("email", value) for value in values))
        case InOrganizationQuery(organization_id=value):
            return search.Is("organization_id", value)
        case _:
            message = f"no query is made of {type(body).__name__}"
            raise AssertionError(message)
