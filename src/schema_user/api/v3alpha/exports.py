"""The export of users on the wire of v3alpha: lines that an import takes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user import exporting
from schema_user.api.details import View
from schema_user.api.stream import stream_operation
from schema_user.domain.user import UserState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from litestar.handlers import HTTPRouteHandler

    from schema_user.api.stream import StreamCall
    from schema_user.domain.contact import Address
    from schema_user.domain.user import User

_QUERY: Final = {
    "schemaId": "Only users of this schema.",
    "pageToken": "The `nextPageToken` of an export by the same token with the same query: go on behind it.",
}
_ENCODER: Final = msgspec.json.Encoder()


class ExportedOrganizationView(View, kw_only=True):
    """The organization of a user."""

    org_id: str


class ExportedEmailView(View, kw_only=True):
    """An email address; `isVerified` only if it is."""

    address: str
    is_verified: bool = False


class ExportedPhoneView(View, kw_only=True):
    """A phone number, as E.164; `isVerified` only if it is."""

    number: str
    is_verified: bool = False


class ExportedContactView(View, kw_only=True):
    """Where the user can be reached."""

    email: ExportedEmailView | None = None
    phone: ExportedPhoneView | None = None


class ExportedHashView(View, kw_only=True):
    """The hash of a password; only where an operator asks for it on the command line."""

    hash: str
    change_required: bool = False


class ExportedView(View, kw_only=True):
    """One user, as an import takes it; or a line that holds only the token to go on with if the export breaks off."""

    user_id: str | None = None
    organization: ExportedOrganizationView | None = None
    schema_id: str | None = None
    data: dict[str, Any] | None = None
    contact: ExportedContactView | None = None
    username: str | None = None
    state: str | None = None
    hashed_password: ExportedHashView | None = None
    next_page_token: str | None = None


def exported_view(user: User, *, with_hash: bool = False) -> ExportedView:
    """Write a user down as a line of an import; ``with_hash``: with that of its password, which HTTP never gives."""
    email, phone = user.contact.email, user.contact.phone
    return ExportedView(
        user_id=user.user_id,
        organization=ExportedOrganizationView(org_id=user.organization_id),
        schema_id=user.schema_id,
        data=user.data,
        contact=ExportedContactView(email=_email(email), phone=_phone(phone)) if email or phone else None,
        username=user.username,
        state=None if user.state is UserState.ACTIVE else user.state.value,
        hashed_password=_hash(user) if with_hash else None,
    )


def _hash(user: User) -> ExportedHashView | None:
    credential = user.credential
    if credential is None or credential.encoded is None:
        return None
    return ExportedHashView(hash=credential.encoded, change_required=credential.change_required)


def _email(address: Address | None) -> ExportedEmailView | None:
    return None if address is None else ExportedEmailView(address=address.value, is_verified=address.is_verified)


def _phone(address: Address | None) -> ExportedPhoneView | None:
    return None if address is None else ExportedPhoneView(number=address.value, is_verified=address.is_verified)


@stream_operation(
    "GET",
    "/v3alpha/users/export",
    summary="Export users",
    tag="Users",
    permission="user.read",
    view=ExportedView,
    query=_QUERY,
)
async def export_users(stream: StreamCall) -> AsyncGenerator[bytes, None]:
    """Give the users of every organization where the caller holds `user.read`, in the order of their ids.

    Each line is one that an import takes. Data that the caller may not read is left out, and so are passwords. Now and
    then comes a line with a `nextPageToken`: an export that broke off goes on behind the last of them, and so does one
    that ends with it, as when the server stops.
    """
    call = stream.call
    export = exporting.export_users(call.wiring, call.caller, call.query.get("schemaId"), call.query.get("pageToken"))
    async with contextlib.aclosing(export) as pages:
        async for page in pages:
            await stream.caller()
            views = [exported_view(user) for user in page.users]
            if page.next_token is not None:
                views.append(ExportedView(next_page_token=page.next_token))
            yield _ENCODER.encode_lines(views)
            if stream.stopping:
                return


ROUTES: list[HTTPRouteHandler] = [export_users]
