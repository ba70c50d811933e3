"""Users on the wire of v3alpha."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from schema_user import queries
from schema_user.api.body import refused
from schema_user.api.details import DetailsView, View, details
from schema_user.api.glossary import JSON_PATCH, MERGE_PATCH
from schema_user.api.operation import Answer, Call, EmptyBody, Media, operation
from schema_user.api.v3alpha.contact_bodies import (
    Body,
    ContactBody,
    EmailBody,
    PhoneBody,
    ResendBody,
    VerifyBody,
    contact_wishes,
    resend_verification,
    wishes,
)
from schema_user.api.v3alpha.search_bodies import (
    SearchBody,
    SearchDetails,
    UserQueryBody,
    page_of,
    query_of,
    search_details,
)
from schema_user.commands import contacts, patches, users
from schema_user.commands.change import Decision, Target
from schema_user.domain.contact import Channel
from schema_user.domain.patch import read_json_patch, read_merge_patch
from schema_user.domain.user import Transition
from schema_user.errors import Violation

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.caller import Caller
    from schema_user.domain.contact import Address, Contact
    from schema_user.domain.user import User

_PATH = "/v3alpha/users"
_ONE = _PATH + "/{user_id:str}"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH_TYPE: Final = "application/json-patch+json"
_TAG = "Users"
_CHECKS = {"validateOnly": "true: check everything, store and send nothing."}
_DATA = {"name": "Minnie Mouse", "loyalty": {"tier": "gold", "points": 1200}}
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Username = Annotated[str, msgspec.Meta(max_length=200)]


class OrganizationBody(Body, kw_only=True):
    """The organization that a new resource belongs to."""

    org_id: _Short


class CreateUserBody(Body, kw_only=True):
    """A new user of a schema."""

    user_id: _Short | None = None
    organization: OrganizationBody | None = None
    schema_id: _Short
    data: dict[str, Any] | None = None
    contact: ContactBody | None = None
    username: _Short | None = None


class UpdateUserBody(Body, kw_only=True):
    """What shall change; what is absent stays as it is, ``data`` replaces the whole document."""

    contact: ContactBody | None = None
    schema_id: _Short | None = None
    data: dict[str, Any] | None = None
    username: _Username | None = None


class ValidateBody(Body, kw_only=True):
    """Another schema to validate by; absent: the user's own."""

    schema_id: _Short | None = None


class SortingColumn(enum.StrEnum):
    """What users can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"
    CHANGE_DATE = "FIELD_NAME_CHANGE_DATE"
    EMAIL = "FIELD_NAME_EMAIL"
    PHONE = "FIELD_NAME_PHONE"
    STATE = "FIELD_NAME_STATE"
    SCHEMA_ID = "FIELD_NAME_SCHEMA_ID"
    SCHEMA_TYPE = "FIELD_NAME_SCHEMA_TYPE"


class SearchUsersBody(SearchBody, kw_only=True):
    """A search over users; several queries must all hold."""

    sorting_column: SortingColumn = SortingColumn.UNSPECIFIED
    queries: list[UserQueryBody] = []


class DoneView(View, kw_only=True):
    """What a change of state, or a deletion, answers."""

    details: DetailsView


class ChangedView(DoneView, kw_only=True):
    """What an update answers; a code only when ``returnCode`` asked for it."""

    email_code: str | None = None
    phone_code: str | None = None


class CreatedUserView(ChangedView, kw_only=True):
    """A user that was made."""

    user_id: str


class VerificationView(View, kw_only=True):
    """What setting one address answers; a code only when ``returnCode`` asked for it."""

    details: DetailsView
    verification_code: str | None = None


class EmailView(View, kw_only=True):
    """An email address."""

    address: str
    is_verified: bool


class PhoneView(View, kw_only=True):
    """A phone number, as E.164."""

    number: str
    is_verified: bool


class ContactView(View, kw_only=True):
    """Where the user can be reached."""

    email: EmailView | None = None
    phone: PhoneView | None = None


class SchemaOfUserView(View, kw_only=True):
    """The schema of a user, and the revision that its data passed."""

    id: str
    type: str
    revision: int


class UserView(View, kw_only=True):
    """A user."""

    user_id: str
    details: DetailsView
    contact: ContactView | None = None
    state: str
    schema: SchemaOfUserView
    data: dict[str, Any]
    username: str | None = None


class GotUserView(View, kw_only=True):
    """One user."""

    user: UserView


class FoundUsersView(View, kw_only=True):
    """One page of users."""

    details: SearchDetails
    sorting_column: SortingColumn
    result: list[UserView]
    next_page_token: str | None = None


class ViolationView(View, kw_only=True):
    """One thing wrong at one place."""

    field: str
    description: str
    reason: str


class ValidatedView(View, kw_only=True):
    """Whether the stored data matches."""

    valid: bool
    violations: list[ViolationView]


class UserSchemaView(View, kw_only=True):
    """A user's schema as the caller may see it."""

    schema: Any


def violation_views(found: Any) -> list[ViolationView]:
    """Write violations down."""
    return [ViolationView(field=each.field, description=each.description, reason=each.reason) for each in found]


def _email_view(address: Address | None) -> EmailView | None:
    return None if address is None else EmailView(address=address.value, is_verified=address.is_verified)


def _phone_view(address: Address | None) -> PhoneView | None:
    return None if address is None else PhoneView(number=address.value, is_verified=address.is_verified)


def contact_view(contact: Contact) -> ContactView | None:
    """Write down where a user can be reached, if there is anything."""
    email, phone = _email_view(contact.email), _phone_view(contact.phone)
    return None if email is None and phone is None else ContactView(email=email, phone=phone)


def user_view(user: User, schema_type: str) -> UserView:
    """Write a user down."""
    return UserView(
        user_id=user.user_id,
        details=details(user, user.organization_id),
        contact=contact_view(user.contact),
        state=user.state.value,
        schema=SchemaOfUserView(id=user.schema_id, type=schema_type, revision=user.revision),
        data=user.data,
        username=user.username,
    )


def target(call: Call) -> Target:
    """Name the user that a request wants to change.

    Only create and update can be rehearsed: a verification that stores nothing would count no attempt.
    """
    return Target(
        call.caller, call.path["user_id"], call.expected_sequence, call.validate_only, call.request_id, call.once
    )


def changed(decision: Decision) -> Answer:
    """Answer an update."""
    user, codes = decision.user, decision.codes
    view = ChangedView(
        details=details(user, user.organization_id),
        email_code=codes.get(Channel.EMAIL),
        phone_code=codes.get(Channel.PHONE),
    )
    return Answer(view, user.sequence, replayed=decision.replayed)


def done(decision: Decision) -> Answer:
    """Answer a change that gives no codes."""
    user = decision.user
    view = DoneView(details=details(user, user.organization_id))
    return Answer(view, user.sequence, replayed=decision.replayed)


def acting_organization(call: Call, body: OrganizationBody | None) -> str:
    """Find the organization of a new resource.

    Raises:
        Malformed: if header and body name different ones.
    """
    return organization_of(call.caller, body)


def organization_of(caller: Caller, body: OrganizationBody | None) -> str:
    """Find the organization of a new resource, for a caller.

    Raises:
        Malformed: if header and body name different ones.
    """
    if body is None:
        return caller.home
    if caller.acting is not None and caller.acting != body.org_id:
        raise refused([Violation("organization/orgId", "differs from the header x-zitadel-orgid", "organization")])
    return body.org_id


@operation(
    "POST",
    _PATH,
    summary="Create a user",
    tag=_TAG,
    permission="user.write",
    body=CreateUserBody,
    view=CreatedUserView,
    status=201,
    keyed=True,
    query=_CHECKS,
    faults=(404, 409, 429),
    example={
        "schemaId": "283746501928374650",
        "data": _DATA,
        "contact": {"email": {"address": "minnie@example.com", "returnCode": {}}},
        "username": "minnie",
    },
)
async def create_user(call: Call, body: CreateUserBody) -> Answer:
    """Create a user under a schema. Without `userId` the service makes one; without `data` it is `{}`."""
    decision = await made_user(call, body)
    user, codes = decision.user, decision.codes
    view = CreatedUserView(
        user_id=user.user_id,
        details=details(user, user.organization_id),
        email_code=codes.get(Channel.EMAIL),
        phone_code=codes.get(Channel.PHONE),
    )
    return Answer(view, user.sequence, replayed=decision.replayed)


async def made_user(call: Call, body: CreateUserBody) -> Decision:
    """Create a user, for every version that takes this body."""
    command = users.CreateUser(
        schema_id=body.schema_id,
        data={} if body.data is None else body.data,
        organization_id=acting_organization(call, body.organization),
        user_id=body.user_id,
        username=body.username,
        wishes=contact_wishes(body.contact),
    )
    return await users.create_user(
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
    summary="Get a user",
    tag=_TAG,
    permission="user.read, or the user itself",
    view=GotUserView,
    faults=(404,),
    conditional=True,
)
async def get_user(call: Call) -> Answer:
    """Give a user. `If-None-Match` with the present ETag answers 304."""
    seen = await queries.get_user(call.wiring, call.caller, call.path["user_id"])
    return Answer(GotUserView(user=user_view(seen.user, seen.schema_type)), seen.user.sequence)


@operation(
    "PUT PATCH",
    _ONE,
    summary="Update a user",
    tag=_TAG,
    permission="user.write, or the user itself",
    body=UpdateUserBody,
    view=ChangedView,
    query=_CHECKS,
    faults=(404, 409, 412, 429),
    conditional=True,
    keyed=True,
    example={
        "contact": {"email": {"address": "minnie@example.org", "returnCode": {}}},
        "data": _DATA,
    },
)
async def update_user(call: Call, body: UpdateUserBody) -> Answer:
    """Update a user: all of it or nothing. What is absent stays; `data` replaces the whole document."""
    return changed(await updated_user(call, body))


async def updated_user(call: Call, body: UpdateUserBody) -> Decision:
    """Update the user in the path, for every version that takes this body."""
    command = users.UpdateUser(
        schema_id=body.schema_id, data=body.data, username=body.username, wishes=contact_wishes(body.contact)
    )
    return await users.update_user(call.wiring, target(call), command)


@operation(
    "PATCH",
    _ONE + "/data",
    summary="Patch a user's data",
    tag=_TAG,
    permission="user.write, or the user itself",
    media={MERGE: Media("MergePatch", MERGE_PATCH), JSON_PATCH_TYPE: Media("JsonPatch", JSON_PATCH)},
    view=DoneView,
    query=_CHECKS,
    faults=(404, 409, 412),
    conditional=True,
    keyed=True,
)
async def patch_data(call: Call, body: Any) -> Answer:
    """Change parts of the data by a JSON Merge Patch (RFC 7396) or a JSON Patch (RFC 6902), as the body is declared.

    It is applied to the latest data as the caller sees it, and the result is judged as a whole, as an update's `data`
    is. A JSON Patch has at most 1,000 operations, such as
    `[{"op": "add", "path": "/tags/-", "value": "vip"}]`, and no limit of size or depth may be passed in between.
    """
    patch = read_merge_patch(body) if call.media_type == MERGE else read_json_patch(body)
    return done(await patches.patch_data(call.wiring, target(call), patch))


@operation(
    "DELETE",
    _ONE,
    summary="Delete a user",
    tag=_TAG,
    permission="user.delete",
    view=DoneView,
    faults=(404, 409, 412),
    conditional=True,
)
async def delete_user(call: Call) -> Answer:
    """Delete a user: data, contact, username and codes are erased at once; the id is not used again."""
    return done(await users.delete_user(call.wiring, target(call)))


@operation(
    "POST",
    _PATH + "/search",
    _PATH + "/_search",
    summary="Search users",
    tag=_TAG,
    permission="user.read",
    body=SearchUsersBody,
    view=FoundUsersView,
    optional_body=True,
    example={
        "query": {"limit": 10, "asc": True},
        "sortingColumn": "FIELD_NAME_CREATION_DATE",
        "queries": [{"emailQuery": {"address": "@example.com", "method": "TEXT_QUERY_METHOD_ENDS_WITH_IGNORE_CASE"}}],
    },
)
async def search_users(call: Call, body: SearchUsersBody) -> Answer:
    """Search the users of every organization where the caller holds `user.read`."""
    column = body.sorting_column
    if column is SortingColumn.UNSPECIFIED:
        column = SortingColumn.ID
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found, types = await queries.search_users(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundUsersView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[user_view(user, types.get(user.schema_id, "")) for user in found.items],
        next_page_token=found.next_token,
    )
    return Answer(view)


def _transition(transition: Transition, also: str, summary: str) -> HTTPRouteHandler:
    async def move_user(call: Call, _body: EmptyBody) -> Answer:
        return done(await users.move_user(call.wiring, target(call), transition))

    move_user.__name__ = f"{transition}_user"
    move_user.__doc__ = f"{summary}. Codes die with a state other than active; a wrong state is refused."
    return operation(
        "POST",
        f"{_ONE}/{transition}",
        f"{_ONE}/{also}",
        summary=summary,
        tag=_TAG,
        permission="user.write",
        body=EmptyBody,
        view=DoneView,
        faults=(404, 409, 412),
        conditional=True,
        keyed=True,
        optional_body=True,
    )(move_user)


@operation(
    "POST",
    _ONE + "/validate",
    summary="Validate a user's stored data",
    tag=_TAG,
    permission="user.read; another schema: user.write",
    body=ValidateBody,
    view=ValidatedView,
    faults=(404,),
    optional_body=True,
    example={},
)
async def validate_user(call: Call, body: ValidateBody) -> Answer:
    """Validate the stored data against the current revision of its schema, or of another one."""
    checked = await queries.validate_user(call.wiring, call.caller, call.path["user_id"], body.schema_id)
    return Answer(ValidatedView(valid=not checked.violations, violations=violation_views(checked.violations)))


@operation(
    "GET",
    _ONE + "/schema",
    summary="Get a user's schema",
    tag=_TAG,
    permission="user.read, or the user itself",
    view=UserSchemaView,
    faults=(404,),
)
async def get_user_schema(call: Call) -> Answer:
    """Give the user's JSON Schema at its current revision, for forms."""
    schema = await queries.get_user_schema(call.wiring, call.caller, call.path["user_id"])
    return Answer(UserSchemaView(schema=msgspec.Raw(schema.text.encode())))


_COUNTRIES = {
    Channel.EMAIL: "",
    Channel.PHONE: (
        " A number of a country to which no codes are sent is refused where a code would be sent to it; with"
        " `returnCode` or `isVerified` it is taken."
    ),
}


def _contact_routes(
    channel: Channel, body_type: type[EmailBody | PhoneBody], example: dict[str, Any]
) -> list[HTTPRouteHandler]:
    """Make the routes of one channel; there is no second copy for the other."""
    at = f"{_ONE}/{channel}"

    def answer(decision: Decision) -> Answer:
        user = decision.user
        view = VerificationView(
            details=details(user, user.organization_id), verification_code=decision.codes.get(channel)
        )
        return Answer(view, user.sequence, replayed=decision.replayed)

    async def set_address(call: Call, body: EmailBody | PhoneBody) -> Answer:
        command = users.UpdateUser(wishes=wishes([("", body)]))
        return answer(await users.update_user(call.wiring, target(call), command))

    async def remove_address(call: Call) -> Answer:
        command = users.UpdateUser(remove=frozenset({channel}))
        return answer(await users.update_user(call.wiring, target(call), command))

    async def verify_address(call: Call, body: VerifyBody) -> Answer:
        command = contacts.VerifyContact(channel, body.verification_code)
        return answer(await contacts.verify_contact(call.wiring, target(call), command))

    async def resend_code(call: Call, body: ResendBody) -> Answer:
        command = contacts.ResendCode(channel, resend_verification(body))
        return answer(await contacts.resend_code(call.wiring, target(call), command))

    set_address.__name__ = f"set_{channel}"
    set_address.__doc__ = f"Set the {channel}, as an update would.{_COUNTRIES[channel]}"
    remove_address.__name__ = f"remove_{channel}"
    remove_address.__doc__ = f"Remove the {channel}; a verified one is told."
    verify_address.__name__ = f"verify_{channel}"
    verify_address.__doc__ = f"Verify the {channel} by its code. A wrong code uses up an attempt."
    resend_code.__name__ = f"resend_{channel}_code"
    resend_code.__doc__ = f"Make another code; the one before stays good until it expires.{_COUNTRIES[channel]}"
    common: dict[str, Any] = {
        "tag": "Contact",
        "permission": "user.write, or the user itself",
        "view": VerificationView,
        "faults": (404, 409, 412),
        "conditional": True,
    }
    limited = {**common, "faults": (*common["faults"], 429)}
    return [
        operation(
            "PUT",
            at,
            summary=f"Set the {channel}",
            body=body_type,
            example=example,
            query=_CHECKS,
            keyed=True,
            **limited,
        )(set_address),
        operation("DELETE", at, summary=f"Remove the {channel}", **common)(remove_address),
        operation(
            "POST",
            at + "/verify",
            summary=f"Verify the {channel}",
            body=VerifyBody,
            example={"verificationCode": "H4KQ9T"},
            keyed=True,
            **limited,
        )(verify_address),
        operation(
            "POST",
            at + "/resend",
            summary=f"Resend the {channel} code",
            body=ResendBody,
            optional_body=True,
            keyed=True,
            example={"returnCode": {}},
            **limited,
        )(resend_code),
    ]


ROUTES: list[HTTPRouteHandler] = [
    create_user,
    get_user,
    update_user,
    patch_data,
    delete_user,
    search_users,
    _transition(Transition.DEACTIVATE, "_deactivate", "Deactivate a user"),
    _transition(Transition.REACTIVATE, "_activate", "Reactivate a user"),
    _transition(Transition.LOCK, "_lock", "Lock a user"),
    _transition(Transition.UNLOCK, "_unlock", "Unlock a user"),
    validate_user,
    get_user_schema,
    *_contact_routes(Channel.EMAIL, EmailBody, {"address": "minnie@example.org", "returnCode": {}}),
    *_contact_routes(Channel.PHONE, PhoneBody, {"number": "+41791234567", "returnCode": {}}),
]
