"""User schemas on the wire of v3alpha."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from schema_user import queries
from schema_user.api.body import refused
from schema_user.api.details import DetailsView, View, details
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.jobs import TransformationBody, transformation
from schema_user.api.v3alpha.search_bodies import (
    SchemaQueryBody,
    SearchBody,
    SearchDetails,
    page_of,
    query_of,
    search_details,
)
from schema_user.api.v3alpha.users import OrganizationBody, ViolationView, acting_organization, violation_views
from schema_user.commands import schemas
from schema_user.commands.schemas import SchemaTarget
from schema_user.domain.permission import Permission
from schema_user.domain.schema import Authenticator, Compatibility, SchemaState
from schema_user.errors import Violation

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.schema import UserSchema

_PATH = "/v3alpha/user_schemas"
_ONE = _PATH + "/{schema_id:str}"
_TAG = "User schemas"
_CHECKS = {"validateOnly": "true: check everything, store nothing."}
_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 200}},
}
_JobId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Type = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class CreateSchemaBody(Body, kw_only=True):
    """A new user schema."""

    type: _Type
    schema: Annotated[Any, msgspec.Meta(description="A JSON Schema: draft 4, 6, 7, 2019-09 or 2020-12.")]
    possible_authenticators: list[Authenticator] = []
    organization: OrganizationBody | None = None
    compatibility: Compatibility | None = None


class UpdateSchemaBody(Body, kw_only=True):
    """What shall change; only a changed ``schema`` raises the revision."""

    type: _Type | None = None
    schema: Annotated[Any, msgspec.Meta(description="A JSON Schema; equal to the present one: no new revision.")] = None
    possible_authenticators: list[Authenticator] | None = None
    compatibility: Compatibility | None = None
    dry_run_job_id: _JobId | None = None
    migration: TransformationBody | None = None


class CheckBody(Body, kw_only=True):
    """A JSON Schema, and a document to try it with."""

    schema: Any
    data: dict[str, Any] | None = None


class SchemaSortingColumn(enum.StrEnum):
    """What user schemas can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    TYPE = "FIELD_NAME_TYPE"
    STATE = "FIELD_NAME_STATE"
    REVISION = "FIELD_NAME_REVISION"
    CHANGE_DATE = "FIELD_NAME_CHANGE_DATE"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"


class SearchSchemasBody(SearchBody, kw_only=True):
    """A search over user schemas; several queries must all hold."""

    sorting_column: SchemaSortingColumn = SchemaSortingColumn.UNSPECIFIED
    queries: list[SchemaQueryBody] = []


class SavedSchemaView(View, kw_only=True):
    """What saving a schema answers; ``warnings`` name what is taken but does nothing."""

    id: str
    details: DetailsView
    revision: int
    job_id: str | None = None
    warnings: list[ViolationView] | None = None


class SchemaView(View, kw_only=True):
    """A user schema at one revision."""

    id: str
    details: DetailsView
    type: str
    state: str
    revision: int
    schema: Any
    possible_authenticators: list[str]
    compatibility: str


class GotSchemaView(View, kw_only=True):
    """One user schema."""

    schema: SchemaView


class FoundSchemasView(View, kw_only=True):
    """One page of user schemas."""

    details: SearchDetails
    sorting_column: SchemaSortingColumn
    result: list[SchemaView]
    next_page_token: str | None = None


class ChangedSchemaView(View, kw_only=True):
    """What a change of state or a deletion answers."""

    details: DetailsView


class CheckedView(View, kw_only=True):
    """What the gate, and the schema, say."""

    valid: bool
    violations: list[ViolationView]
    warnings: list[ViolationView]


def _details(call: Call, schema: UserSchema) -> DetailsView:
    return details(schema, schema.organization_id or call.wiring.instance_id)


def _view(call: Call, schema: UserSchema) -> SchemaView:
    active = schema.state is SchemaState.ACTIVE
    return SchemaView(
        id=schema.schema_id,
        details=_details(call, schema),
        type=schema.type,
        state="STATE_ACTIVE" if active else "STATE_INACTIVE",
        revision=schema.revision,
        schema=msgspec.Raw(schema.text.encode()),
        possible_authenticators=[each.value for each in schema.authenticators],
        compatibility=schema.compatibility.value,
    )


def _saved(call: Call, saved: schemas.Saved) -> Answer:
    schema = saved.schema
    view = SavedSchemaView(
        id=schema.schema_id,
        details=_details(call, schema),
        revision=schema.revision,
        job_id=saved.job_id,
        warnings=violation_views(saved.warnings) or None,
    )
    return Answer(view, schema.sequence, replayed=saved.replayed)


def target(call: Call) -> SchemaTarget:
    """Name the schema that a request wants to change."""
    sequence, only = call.expected_sequence, call.validate_only
    return SchemaTarget(call.caller, call.path["schema_id"], sequence, only, call.request_id, call.once)


def _authenticators(given: list[Authenticator]) -> tuple[Authenticator, ...]:
    twice = [index for index, each in enumerate(given) if each in given[:index]]
    if twice:
        raise refused([Violation(f"possibleAuthenticators/{index}", "is given twice", "unique") for index in twice])
    return tuple(given)


def _owner(call: Call, body: CreateSchemaBody) -> str | None:
    """The instance's, if nothing else is said and the caller holds the permission there, else its organization's."""
    if body.organization is None and call.caller.acting is None and call.caller.may(Permission.USERSCHEMA_WRITE, None):
        return None
    return acting_organization(call, body.organization)


@operation(
    "POST",
    _PATH,
    summary="Create a user schema",
    tag=_TAG,
    permission="userschema.write",
    body=CreateSchemaBody,
    view=SavedSchemaView,
    status=201,
    keyed=True,
    query=_CHECKS,
    faults=(404, 409),
    example={
        "type": "customer-lite",
        "schema": _SCHEMA,
        "possibleAuthenticators": ["AUTHENTICATOR_TYPE_USERNAME", "AUTHENTICATOR_TYPE_PASSWORD"],
    },
)
async def create_schema(call: Call, body: CreateSchemaBody) -> Answer:
    """Create a user schema: of the instance, or with `organization` of that organization."""
    return _saved(call, await made_schema(call, body))


async def made_schema(call: Call, body: CreateSchemaBody) -> schemas.Saved:
    """Create a user schema, for every version that takes this body."""
    command = schemas.CreateSchema(
        body.type,
        body.schema,
        _owner(call, body),
        _authenticators(body.possible_authenticators),
        body.compatibility or Compatibility.ALLOW,
    )
    return await schemas.create_schema(
        call.wiring,
        call.caller,
        command,
        validate_only=call.validate_only,
        request_id=call.request_id,
        once=call.once,
    )


@operation(
    "GET",
    _ONE,
    summary="Get a user schema",
    tag=_TAG,
    permission="userschema.read",
    view=GotSchemaView,
    query={"revision": "An earlier revision; absent: the current one."},
    faults=(404,),
    conditional=True,
)
async def get_schema(call: Call) -> Answer:
    """Give a user schema. The JSON Schema comes back equal to what was uploaded."""
    revision = call.number("revision")
    schema = await queries.get_schema(call.wiring, call.caller, call.path["schema_id"], revision)
    return Answer(GotSchemaView(schema=_view(call, schema)), schema.sequence)


@operation(
    "PUT PATCH",
    _ONE,
    summary="Update a user schema",
    tag=_TAG,
    permission="userschema.write",
    body=UpdateSchemaBody,
    view=SavedSchemaView,
    query=_CHECKS,
    faults=(404, 409, 412),
    conditional=True,
    keyed=True,
    example={"schema": {**_SCHEMA, "required": ["name", "email"]}},
)
async def update_schema(call: Call, body: UpdateSchemaBody) -> Answer:
    """Update a user schema; `compatibility` says what becomes of its users.

    `allow`: they move to the new revision when their data is next written. `migrate`: a migration begins, which `jobId`
    names. It moves all whose data passes, changed by `migration` if that is given; who fails is listed and stays. Read
    it at `/v3alpha/user_schemas/{schemaId}/migrations/{jobId}`; the caller needs user.write as well. `refuse`: none of
    them may fail it, so it must be provably safe, or `dryRunJobId` names a dry run of it.
    """
    return _saved(call, await updated_schema(call, body))


async def updated_schema(call: Call, body: UpdateSchemaBody) -> schemas.Saved:
    """Update the schema in the path, for every version that takes this body."""
    authenticators = body.possible_authenticators
    command = schemas.UpdateSchema(
        body.type,
        body.schema,
        None if authenticators is None else _authenticators(authenticators),
        body.compatibility,
        body.dry_run_job_id,
        None if body.migration is None else transformation(body.migration),
    )
    return await schemas.update_schema(call.wiring, target(call), command)


@operation(
    "DELETE",
    _ONE,
    summary="Delete a user schema",
    tag=_TAG,
    permission="userschema.delete",
    view=ChangedSchemaView,
    faults=(404, 409, 412),
    conditional=True,
)
async def delete_schema(call: Call) -> Answer:
    """Delete a user schema that no user has; otherwise it is refused with the number of users."""
    schema = await schemas.delete_schema(call.wiring, target(call))
    return Answer(ChangedSchemaView(details=_details(call, schema)), schema.sequence)


def _state_route(word: str, state: SchemaState, summary: str) -> HTTPRouteHandler:
    async def set_state(call: Call, _body: EmptyBody) -> Answer:
        saved = await schemas.set_schema_state(call.wiring, target(call), state)
        view = ChangedSchemaView(details=_details(call, saved.schema))
        return Answer(view, saved.schema.sequence, replayed=saved.replayed)

    set_state.__name__, set_state.__doc__ = f"{word}_schema", f"{summary}; a wrong state is refused."
    return operation(
        "POST",
        f"{_ONE}/{word}",
        summary=summary,
        tag=_TAG,
        permission="userschema.write",
        body=EmptyBody,
        view=ChangedSchemaView,
        faults=(404, 409, 412),
        conditional=True,
        keyed=True,
        optional_body=True,
    )(set_state)


@operation(
    "POST",
    _PATH + "/search",
    summary="Search user schemas",
    tag=_TAG,
    permission="userschema.read",
    body=SearchSchemasBody,
    view=FoundSchemasView,
    optional_body=True,
    example={"queries": [{"typeQuery": {"type": "cust", "method": "TEXT_QUERY_METHOD_STARTS_WITH"}}]},
)
async def search_schemas(call: Call, body: SearchSchemasBody) -> Answer:
    """Search the instance's user schemas and those of the caller's organizations."""
    column = body.sorting_column
    if column is SchemaSortingColumn.UNSPECIFIED:
        column = SchemaSortingColumn.ID
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_schemas(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundSchemasView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[_view(call, schema) for schema in found.items],
        next_page_token=found.next_token,
    )
    return Answer(view)


@operation(
    "POST",
    _PATH + "/check",
    summary="Check a JSON Schema",
    tag=_TAG,
    permission="userschema.read",
    body=CheckBody,
    view=CheckedView,
    example={"schema": _SCHEMA, "data": {"name": ""}},
)
async def check_schema(call: Call, body: CheckBody) -> Answer:
    """Check a JSON Schema, and a document under it, without storing anything."""
    checked = await queries.check_schema(call.wiring, call.caller, body.schema, body.data)
    view = CheckedView(
        valid=not checked.violations,
        violations=violation_views(checked.violations),
        warnings=violation_views(checked.warnings),
    )
    return Answer(view)


ROUTES: list[HTTPRouteHandler] = [
    create_schema,
    get_schema,
    update_schema,
    delete_schema,
    _state_route("deactivate", SchemaState.INACTIVE, "Deactivate a user schema"),
    _state_route("reactivate", SchemaState.ACTIVE, "Reactivate a user schema"),
    search_schemas,
    check_schema,
]
