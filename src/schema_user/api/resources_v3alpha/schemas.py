"""User schemas under ``/resources/v3alpha``: what ``/v3alpha/user_schemas`` does, in the later generation's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user import queries
from schema_user.api.details import View
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.resources_v3alpha.filters import PART, FilteredBody, SchemaFilterBody, page_of, query_of, searched
from schema_user.api.resources_v3alpha.scope import INSTANCE, scoped
from schema_user.api.resources_v3alpha.views import (
    ListDetailsView,
    ResourceDetailsView,
    ResourceDoneView,
    list_details,
    schema_details,
)
from schema_user.api.v3alpha.schemas import (
    CreateSchemaBody,
    SchemaSortingColumn,
    UpdateSchemaBody,
    made_schema,
    target,
    updated_schema,
)
from schema_user.commands import schemas
from schema_user.domain.schema import SchemaState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.schema import UserSchema

_PATH: Final = "/resources/v3alpha/user_schemas"
_ONE: Final = _PATH + "/{schema_id:str}"
_CHECKS: Final = {"validateOnly": "true: check everything, store nothing."}
_SCHEMA: Final = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 200}},
}


class SearchSchemaResourcesBody(FilteredBody, kw_only=True):
    """A search over user schemas; several filters must all hold."""

    sorting_column: SchemaSortingColumn = SchemaSortingColumn.UNSPECIFIED
    filters: list[SchemaFilterBody] = msgspec.field(default_factory=list)


class SchemaConfigView(View, kw_only=True):
    """What was uploaded."""

    type: str
    schema: Any
    possible_authenticators: list[str]


class SchemaResourceView(View, kw_only=True):
    """A user schema at its current revision."""

    details: ResourceDetailsView
    config: SchemaConfigView
    state: str
    revision: int


class GotSchemaResourceView(View, kw_only=True):
    """One user schema."""

    user_schema: SchemaResourceView


class FoundSchemaResourcesView(View, kw_only=True):
    """One page of user schemas."""

    details: ListDetailsView
    sorting_column: SchemaSortingColumn
    result: list[SchemaResourceView]


def _view(call: Call, schema: UserSchema) -> SchemaResourceView:
    return SchemaResourceView(
        details=schema_details(schema, call.wiring.instance_id),
        config=SchemaConfigView(
            type=schema.type,
            schema=msgspec.Raw(schema.text.encode()),
            possible_authenticators=[each.value for each in schema.authenticators],
        ),
        state="STATE_ACTIVE" if schema.state is SchemaState.ACTIVE else "STATE_INACTIVE",
        revision=schema.revision,
    )


def _done(call: Call, schema: UserSchema, *, replayed: bool = False) -> Answer:
    view = ResourceDoneView(details=schema_details(schema, call.wiring.instance_id))
    return Answer(view, schema.sequence, replayed=replayed)


@scoped
async def create_schema_resource(call: Call, body: CreateSchemaBody) -> Answer:
    """Create a user schema: of the instance, or with `organization` of that organization."""
    saved = await made_schema(call, body)
    return _done(call, saved.schema, replayed=saved.replayed)


@scoped
async def get_schema_resource(call: Call) -> Answer:
    """Give a user schema. The JSON Schema comes back equal to what was uploaded."""
    schema = await queries.get_schema(call.wiring, call.caller, call.path["schema_id"], None)
    return Answer(GotSchemaResourceView(user_schema=_view(call, schema)), schema.sequence)


@scoped
async def patch_schema_resource(call: Call, body: UpdateSchemaBody) -> Answer:
    """Update a user schema. Users pass a new revision when their data is next written."""
    saved = await updated_schema(call, body)
    return _done(call, saved.schema, replayed=saved.replayed)


@scoped
async def delete_schema_resource(call: Call) -> Answer:
    """Delete a user schema that no user has; otherwise it is refused with the number of users."""
    return _done(call, await schemas.delete_schema(call.wiring, target(call)))


@scoped
async def search_schema_resources(call: Call, body: SearchSchemaResourcesBody) -> Answer:
    """Search the instance's user schemas and those of the caller's organizations.

    An array of filters alone is a body too.
    """
    body = searched(call, body)
    column = body.sorting_column
    if column is SchemaSortingColumn.UNSPECIFIED:
        column = SchemaSortingColumn.ID
    page = page_of(body.query, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_schemas(call.wiring, call.caller, query_of(body.filters), page)
    view = FoundSchemaResourcesView(
        details=list_details(page, found.total, call.wiring.now()),
        sorting_column=body.sorting_column,
        result=[_view(call, schema) for schema in found.items],
    )
    return Answer(view)


def _transition(verb: str, state: SchemaState) -> Callable[..., Awaitable[Answer]]:
    async def set_state(call: Call, _body: EmptyBody) -> Answer:
        saved = await schemas.set_schema_state(call.wiring, target(call), state)
        return _done(call, saved.schema, replayed=saved.replayed)

    set_state.__name__ = f"{verb}_schema_resource"
    set_state.__doc__ = f"{verb.capitalize()} a user schema; a wrong state is refused."
    return scoped(set_state)


TRANSITIONS: Final = {
    "deactivate": _transition("deactivate", SchemaState.INACTIVE),
    "reactivate": _transition("reactivate", SchemaState.ACTIVE),
}
"""The operations that move a user schema from state to state, by their verbs."""

_TAG: Final[dict[str, Any]] = {"tag": "User schemas (resources v3alpha)"}
_CHANGES: Final[dict[str, Any]] = {**_TAG, "conditional": True, "faults": (404, 409, 412), "view": ResourceDoneView}

ROUTES: list[HTTPRouteHandler] = [
    operation(
        "POST",
        _PATH,
        summary="Create a user schema",
        permission="userschema.write",
        body=CreateSchemaBody,
        view=ResourceDoneView,
        status=201,
        query={**_CHECKS, **INSTANCE},
        faults=(404, 409),
        keyed=True,
        example={
            "type": "customer-lite",
            "schema": _SCHEMA,
            "possibleAuthenticators": ["AUTHENTICATOR_TYPE_USERNAME", "AUTHENTICATOR_TYPE_PASSWORD"],
        },
        **_TAG,
    )(create_schema_resource),
    operation(
        "GET",
        _ONE,
        summary="Get a user schema",
        permission="userschema.read",
        view=GotSchemaResourceView,
        query=INSTANCE,
        faults=(404,),
        conditional=True,
        **_TAG,
    )(get_schema_resource),
    operation(
        "PATCH",
        _ONE,
        summary="Update a user schema",
        permission="userschema.write",
        body=UpdateSchemaBody,
        query={**_CHECKS, **INSTANCE},
        keyed=True,
        example={"schema": {**_SCHEMA, "required": ["name", "email"]}},
        **_CHANGES,
    )(patch_schema_resource),
    operation(
        "DELETE",
        _ONE,
        summary="Delete a user schema",
        permission="userschema.delete",
        query=INSTANCE,
        **_CHANGES,
    )(delete_schema_resource),
    operation(
        "POST",
        _PATH + "/_search",
        summary="Search user schemas",
        permission="userschema.read",
        body=SearchSchemaResourcesBody,
        alone=("filters", list[SchemaFilterBody]),
        view=FoundSchemaResourcesView,
        query={**PART, **INSTANCE},
        optional_body=True,
        example={"filters": [{"typeFilter": {"type": "cust", "method": "TEXT_FILTER_METHOD_STARTS_WITH"}}]},
        **_TAG,
    )(search_schema_resources),
    *(
        operation(
            "POST",
            f"{_ONE}/_{verb}",
            summary=f"{verb.capitalize()} a user schema",
            permission="userschema.write",
            body=EmptyBody,
            query=INSTANCE,
            keyed=True,
            optional_body=True,
            **_CHANGES,
        )(set_state)
        for verb, set_state in TRANSITIONS.items()
    ),
]
