"""Users under ``/resources/v3alpha``: what ``/v3alpha/users`` does, in the later generation's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user import queries
from schema_user.api.details import View
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.resources_v3alpha.filters import PART, FilteredBody, UserFilterBody, page_of, query_of, searched
from schema_user.api.resources_v3alpha.scope import SCOPE, scoped
from schema_user.api.resources_v3alpha.views import (
    ListDetailsView,
    ResourceDetailsView,
    ResourceDoneView,
    list_details,
    user_details,
)
from schema_user.api.v3alpha.contact_bodies import (
    Body,
    Code,
    EmailBody,
    PhoneBody,
    ResendBody,
    VerifyBody,
    resend_verification,
    wishes,
)
from schema_user.api.v3alpha.users import (
    ContactView,
    CreateUserBody,
    SchemaOfUserView,
    SortingColumn,
    UpdateUserBody,
    contact_view,
    made_user,
    target,
    updated_user,
)
from schema_user.commands import contacts, users
from schema_user.domain.contact import Channel
from schema_user.domain.user import Transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.handlers import HTTPRouteHandler

    from schema_user.commands.change import Decision
    from schema_user.domain.user import User

_PATH: Final = "/resources/v3alpha/users"
_ONE: Final = _PATH + "/{user_id:str}"
_CHECKS: Final = {"validateOnly": "true: check everything, store and send nothing."}
_DATA: Final = {"name": "Minnie Mouse", "loyalty": {"tier": "gold", "points": 1200}}
_OF_ITSELF: Final = "user.write, or the user itself"


class SearchUserResourcesBody(FilteredBody, kw_only=True):
    """A search over users; several filters must all hold."""

    sorting_column: SortingColumn = SortingColumn.UNSPECIFIED
    filters: list[UserFilterBody] = msgspec.field(default_factory=list)


class ChangedUserResourceView(ResourceDoneView, kw_only=True):
    """What a create or an update answers; a code only when ``returnCode`` asked for it."""

    email_code: str | None = None
    phone_code: str | None = None


class VerificationResourceView(ResourceDoneView, kw_only=True):
    """What setting one address answers; a code only when ``returnCode`` asked for it."""

    verification_code: str | None = None


class UserResourceView(View, kw_only=True):
    """A user."""

    details: ResourceDetailsView
    schema: SchemaOfUserView
    data: dict[str, Any]
    contact: ContactView | None = None
    state: str


class GotUserResourceView(View, kw_only=True):
    """One user."""

    user: UserResourceView


class FoundUserResourcesView(View, kw_only=True):
    """One page of users."""

    details: ListDetailsView
    result: list[UserResourceView]


def _view(user: User, schema_type: str) -> UserResourceView:
    return UserResourceView(
        details=user_details(user),
        schema=SchemaOfUserView(id=user.schema_id, type=schema_type, revision=user.revision),
        data=user.data,
        contact=contact_view(user.contact),
        state=user.state.value,
    )


def _changed(decision: Decision) -> Answer:
    user, codes = decision.user, decision.codes
    view = ChangedUserResourceView(
        details=user_details(user), email_code=codes.get(Channel.EMAIL), phone_code=codes.get(Channel.PHONE)
    )
    return Answer(view, user.sequence, replayed=decision.replayed)


def _done(decision: Decision) -> Answer:
    view = ResourceDoneView(details=user_details(decision.user))
    return Answer(view, decision.user.sequence, replayed=decision.replayed)


@scoped
async def create_user_resource(call: Call, body: CreateUserBody) -> Answer:
    """Create a user under a schema. Its id is that of the `details`; without `data` it is `{}`."""
    return _changed(await made_user(call, body))


@scoped
async def get_user_resource(call: Call) -> Answer:
    """Give a user. `If-None-Match` with the present ETag answers 304."""
    seen = await queries.get_user(call.wiring, call.caller, call.path["user_id"])
    return Answer(GotUserResourceView(user=_view(seen.user, seen.schema_type)), seen.user.sequence)


@scoped
async def patch_user_resource(call: Call, body: UpdateUserBody) -> Answer:
    """Update a user: all of it or nothing. What is absent stays; `data` replaces the whole document."""
    return _changed(await updated_user(call, body))


@scoped
async def delete_user_resource(call: Call) -> Answer:
    """Delete a user: data, contact, username and codes are erased at once; the id is not used again."""
    return _done(await users.delete_user(call.wiring, target(call)))


@scoped
async def search_user_resources(call: Call, body: SearchUserResourcesBody) -> Answer:
    """Search the users of every organization where the caller holds `user.read`; by id, unless it says otherwise.

    An array of filters alone is a body too.
    """
    body = searched(call, body)
    column = body.sorting_column
    if column is SortingColumn.UNSPECIFIED:
        column = SortingColumn.ID
    page = page_of(body.query, column.removeprefix("FIELD_NAME_").lower())
    found, types = await queries.search_users(call.wiring, call.caller, query_of(body.filters), page)
    view = FoundUserResourcesView(
        details=list_details(page, found.total, call.wiring.now()),
        result=[_view(user, types.get(user.schema_id, "")) for user in found.items],
    )
    return Answer(view)


def _transition(transition: Transition, verb: str) -> Callable[..., Awaitable[Answer]]:
    async def move(call: Call, _body: EmptyBody) -> Answer:
        return _done(await users.move_user(call.wiring, target(call), transition))

    move.__name__ = f"{verb}_user_resource"
    move.__doc__ = f"{verb.capitalize()} a user. Codes die with a state other than active; a wrong state is refused."
    return scoped(move)


TRANSITIONS: Final = {
    "deactivate": _transition(Transition.DEACTIVATE, "deactivate"),
    "activate": _transition(Transition.REACTIVATE, "activate"),
    "lock": _transition(Transition.LOCK, "lock"),
    "unlock": _transition(Transition.UNLOCK, "unlock"),
}
"""The operations that move a user from state to state, by their verbs."""


class ContactOperations:
    """The operations of one channel; there is no second copy for the other."""

    def __init__(self, channel: Channel) -> None:
        """Make them, each with a name and words of its own."""
        self.channel = channel
        self.set = self._named(self._set, f"set_contact_{channel}", f"Set the {channel}, as an update would.")
        verify = f"Verify the {channel} by its code, which may be the whole body. A wrong one uses up an attempt."
        self.verify = self._named(self._verify, f"verify_contact_{channel}", verify)
        resend = "Make another code; the one before stays good until it expires."
        self.resend = self._named(self._resend, f"resend_contact_{channel}_code", resend)

    @staticmethod
    def _named(handler: Callable[..., Awaitable[Answer]], name: str, text: str) -> Callable[..., Awaitable[Answer]]:
        async def perform(call: Call, body: Body) -> Answer:
            return await handler(call, body)

        perform.__name__, perform.__doc__ = name, text
        return scoped(perform)

    def _answer(self, decision: Decision) -> Answer:
        user, code = decision.user, decision.codes.get(self.channel)
        view = VerificationResourceView(details=user_details(user), verification_code=code)
        return Answer(view, user.sequence, replayed=decision.replayed)

    async def _set(self, call: Call, body: EmailBody | PhoneBody) -> Answer:
        command = users.UpdateUser(wishes=wishes([("", body)]))
        return self._answer(await users.update_user(call.wiring, target(call), command))

    async def _verify(self, call: Call, body: VerifyBody) -> Answer:
        command = contacts.VerifyContact(self.channel, body.verification_code)
        return _done(await contacts.verify_contact(call.wiring, target(call), command))

    async def _resend(self, call: Call, body: ResendBody) -> Answer:
        command = contacts.ResendCode(self.channel, resend_verification(body))
        return self._answer(await contacts.resend_code(call.wiring, target(call), command))


EMAIL: Final = ContactOperations(Channel.EMAIL)
PHONE: Final = ContactOperations(Channel.PHONE)

_TAG: Final[dict[str, Any]] = {"tag": "Users (resources v3alpha)"}
_CHANGES: Final[dict[str, Any]] = {**_TAG, "conditional": True, "faults": (404, 409, 412)}
_LIMITED: Final[dict[str, Any]] = {**_CHANGES, "keyed": True, "faults": (404, 409, 412, 429)}


def _contact_routes(contact: ContactOperations, body: type[Body], example: Any) -> list[HTTPRouteHandler]:
    at, common = f"{_ONE}/{contact.channel}", {**_LIMITED, "permission": _OF_ITSELF}
    return [
        operation(
            "PUT",
            at,
            summary=f"Set a user's {contact.channel}",
            body=body,
            example=example,
            view=VerificationResourceView,
            query={**_CHECKS, **SCOPE},
            **common,
        )(contact.set),
        operation(
            "POST",
            at + "/_verify",
            summary=f"Verify a user's {contact.channel}",
            body=VerifyBody,
            alone=("verification_code", Code),
            example={"verificationCode": "H4KQ9T"},
            view=ResourceDoneView,
            query=SCOPE,
            **common,
        )(contact.verify),
        operation(
            "POST",
            at + "/_resend",
            summary=f"Resend a user's {contact.channel} code",
            body=ResendBody,
            optional_body=True,
            example={"returnCode": {}},
            view=VerificationResourceView,
            query=SCOPE,
            **common,
        )(contact.resend),
    ]


ROUTES: list[HTTPRouteHandler] = [
    operation(
        "POST",
        _PATH,
        summary="Create a user",
        permission="user.write",
        body=CreateUserBody,
        view=ChangedUserResourceView,
        status=201,
        query={**_CHECKS, **SCOPE},
        faults=(404, 409, 429),
        keyed=True,
        example={
            "schemaId": "283746501928374650",
            "data": _DATA,
            "contact": {"email": {"address": "minnie@example.com", "returnCode": {}}},
        },
        **_TAG,
    )(create_user_resource),
    operation(
        "GET",
        _ONE,
        summary="Get a user",
        permission="user.read, or the user itself",
        view=GotUserResourceView,
        query=SCOPE,
        faults=(404,),
        conditional=True,
        **_TAG,
    )(get_user_resource),
    operation(
        "PATCH",
        _ONE,
        summary="Update a user",
        permission=_OF_ITSELF,
        body=UpdateUserBody,
        view=ChangedUserResourceView,
        query={**_CHECKS, **SCOPE},
        example={"contact": {"email": {"address": "minnie@example.org", "returnCode": {}}}, "data": _DATA},
        **_LIMITED,
    )(patch_user_resource),
    operation(
        "DELETE",
        _ONE,
        summary="Delete a user",
        permission="user.delete",
        view=ResourceDoneView,
        query=SCOPE,
        **_CHANGES,
    )(delete_user_resource),
    operation(
        "POST",
        _PATH + "/_search",
        summary="Search users",
        permission="user.read",
        body=SearchUserResourcesBody,
        alone=("filters", list[UserFilterBody]),
        view=FoundUserResourcesView,
        query={**PART, **SCOPE},
        optional_body=True,
        example={
            "query": {"limit": 10, "desc": True},
            "sortingColumn": "FIELD_NAME_CREATION_DATE",
            "filters": [{"emailFilter": {"address": "minnie", "method": "TEXT_FILTER_METHOD_STARTS_WITH"}}],
        },
        **_TAG,
    )(search_user_resources),
    *(
        operation(
            "POST",
            f"{_ONE}/_{verb}",
            summary=f"{verb.capitalize()} a user",
            permission="user.write",
            body=EmptyBody,
            view=ResourceDoneView,
            query=SCOPE,
            keyed=True,
            optional_body=True,
            **_CHANGES,
        )(move)
        for verb, move in TRANSITIONS.items()
    ),
    *_contact_routes(EMAIL, EmailBody, {"address": "minnie@example.org", "returnCode": {}}),
    *_contact_routes(PHONE, PhoneBody, {"number": "+41791234567", "returnCode": {}}),
]
