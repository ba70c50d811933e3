"""Searches of the later generation: filters, in the place of queries, over the same fields."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec

from schema_user.api.body import refused
from schema_user.api.query_tree import NotBody, QueriesBody, query_tree
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.search_bodies import SchemaState, SchemaStateQuery, StateQuery
from schema_user.domain import search
from schema_user.domain.search import TextMethod
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.api.operation import Call

_Value = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Number = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


class FilterMethod(enum.StrEnum):
    """How a text is compared."""

    EQUALS = "TEXT_FILTER_METHOD_EQUALS"
    EQUALS_IGNORE_CASE = "TEXT_FILTER_METHOD_EQUALS_IGNORE_CASE"
    STARTS_WITH = "TEXT_FILTER_METHOD_STARTS_WITH"
    STARTS_WITH_IGNORE_CASE = "TEXT_FILTER_METHOD_STARTS_WITH_IGNORE_CASE"
    CONTAINS = "TEXT_FILTER_METHOD_CONTAINS"

    @property
    def text_method(self) -> TextMethod:
        """The same comparison by the name that all versions share."""
        return TextMethod[self.name]


PART: Final = {
    "query.offset": "With filters alone as the body: how many results are passed over.",
    "query.limit": "Likewise: how many results at most.",
    "query.desc": "Likewise: `true` for descending.",
    "sortingColumn": "Likewise: by what the results are sorted.",
}
"""What google.api.http makes parameters of, as only the filters are the body there."""


class PartBody(Body, kw_only=True):
    """Which part of the results; at most 1000 at once, 0 as good as absent."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0, le=search.MAX_LIMIT)] = search.DEFAULT_LIMIT
    desc: bool = False


def page_of(part: PartBody | None, sort: str) -> search.Page:
    """Read which part of the results is wanted."""
    part = part or PartBody()
    return search.Page(sort, not part.desc, part.offset, part.limit or search.DEFAULT_LIMIT)


class FilteredBody(Body, kw_only=True):
    """A search by filters, all of which must hold; subclasses say by which, and what can be sorted by."""

    query: PartBody | None = None
    sorting_column: Any = None
    filters: list[Any] = msgspec.field(default_factory=list)


S = TypeVar("S", bound=FilteredBody)


def searched(call: Call, body: S) -> S:
    """Give a search with what its parameters say of it, which its body must not say too.

    Raises:
        Malformed: if both do, or for a parameter of another form than in a body.
    """
    given = {name: call.query[name] for name in PART if name in call.query}
    if not given:
        return body
    kind = type(body)
    if body != kind(filters=body.filters):
        raise refused([Violation(f"?{next(iter(given))}", "goes with filters alone as the body", "alternatives")])
    wrong = [name for name, text in given.items() if _parsed({name: text}, kind) is None]
    if wrong:
        raise refused([Violation(f"?{name}", "is not of the form that it must have", "type") for name in wrong])
    return msgspec.structs.replace(_parsed(given, kind) or body, filters=body.filters)


def _parsed(given: dict[str, str], kind: type[S]) -> S | None:
    part = {name.removeprefix("query."): text for name, text in given.items() if name.startswith("query.")}
    column = {name: text for name, text in given.items() if name == "sortingColumn"}
    try:
        return msgspec.convert({"query": part, **column}, kind, strict=False)
    except msgspec.ValidationError:
        return None


class IdFilter(Body, kw_only=True):
    """The id is like this; the case of ids matters."""

    id: _Value
    method: FilterMethod = FilterMethod.EQUALS


class UsernameFilter(Body, kw_only=True):
    """The username is like this. Every username is its organization's own, whether that is asked for or not."""

    username: _Value
    method: FilterMethod = FilterMethod.EQUALS
    is_organization_specific: bool = False


class EmailFilter(Body, kw_only=True):
    """The email address is like this."""

    address: _Value
    method: FilterMethod = FilterMethod.EQUALS


class PhoneFilter(Body, kw_only=True):
    """The phone number is like this (stored as E.164)."""

    number: _Number
    method: FilterMethod = FilterMethod.EQUALS


class SchemaIdFilter(Body, kw_only=True):
    """The user's schema is this one."""

    id: _Value


class TypeFilter(Body, kw_only=True):
    """The type of the (user's) schema is like this."""

    type: _Value
    method: FilterMethod = FilterMethod.EQUALS


class UserFilterBody(Body, kw_only=True):
    """One filter over users: exactly one member is given."""

    or_filter: UserFiltersBody | None = None
    and_filter: UserFiltersBody | None = None
    not_filter: UserNotFilterBody | None = None
    user_id_filter: IdFilter | None = None
    organization_id_filter: IdFilter | None = None
    username_filter: UsernameFilter | None = None
    email_filter: EmailFilter | None = None
    phone_filter: PhoneFilter | None = None
    state_filter: StateQuery | None = None
    schema_id_filter: SchemaIdFilter | None = None
    schema_type_filter: TypeFilter | None = None


class UserFiltersBody(QueriesBody, kw_only=True):
    """Several filters."""

    queries: list[UserFilterBody] = msgspec.field(default_factory=list)


class UserNotFilterBody(NotBody, kw_only=True):
    """A filter that must not hold."""

    query: UserFilterBody


class SchemaFilterBody(Body, kw_only=True):
    """One filter over user schemas: exactly one member is given."""

    or_filter: SchemaFiltersBody | None = None
    and_filter: SchemaFiltersBody | None = None
    not_filter: SchemaNotFilterBody | None = None
    type_filter: TypeFilter | None = None
    state_filter: SchemaStateQuery | None = None
    id_filter: IdFilter | None = None


class SchemaFiltersBody(QueriesBody, kw_only=True):
    """Several filters."""

    queries: list[SchemaFilterBody] = msgspec.field(default_factory=list)


class SchemaNotFilterBody(NotBody, kw_only=True):
    """A filter that must not hold; it calls it ``filter``, where that of users says ``query``."""

    query: SchemaFilterBody = msgspec.field(name="filter")


def query_of(bodies: Sequence[UserFilterBody] | Sequence[SchemaFilterBody]) -> search.Query:
    """Turn the filters of a search into a query that all of them must satisfy; raises Malformed as ``query_tree``."""
    return query_tree(bodies, _leaf, "filters")


def _leaf(body: Body, member: Body, at: str, found: list[Violation]) -> search.Query:
    """Turn a filter without filters in it into a typed query."""
    of_users = isinstance(body, UserFilterBody)
    match member:
        case IdFilter():
            return _id_query("organization_id" if at.endswith("organizationIdFilter") else "id", member, at, found)
        case UsernameFilter(username=value, method=method):
            return search.Text("username", value, method.text_method)
        case EmailFilter(address=value, method=method):
            return search.Text("email", value, method.text_method)
        case PhoneFilter(number=value, method=method):
            return search.Text("phone", value, method.text_method)
        case TypeFilter(type=value, method=method):
            return search.Text("schema_type" if of_users else "type", value, method.text_method)
        case SchemaIdFilter(id=value):
            return search.Is("schema_id", value)
        case StateQuery(state=state):
            return search.Is("state", state.value)
        case SchemaStateQuery(state=state):
            active = search.Is("state", "active")
            return active if state is SchemaState.ACTIVE else search.Not(active)
        case _:
            message = f"no query is made of {type(member).__name__}"
            raise AssertionError(message)


def _id_query(column: str, member: IdFilter, at: str, found: list[Violation]) -> search.Query:
    method = member.method.text_method
    if method.ignores_case:
        found.append(Violation(f"{at}/method", "must heed the case of ids", "unsupported"))
    return search.Is(column, member.id) if method is TextMethod.EQUALS else search.Text(column, member.id, method)
