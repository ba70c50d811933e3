"""Tokens on the wire of v3alpha: bearer tokens, and keys of machine callers."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from schema_user import queries
from schema_user.api.body import refused
from schema_user.api.details import View, rfc3339
from schema_user.api.glossary import TOKEN_ID
from schema_user.api.operation import Answer, Call, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.search_bodies import (
    SearchBody,
    SearchDetails,
    TokenQueryBody,
    page_of,
    query_of,
    search_details,
)
from schema_user.commands import tokens
from schema_user.domain.caller import Grant, TokenKind
from schema_user.domain.permission import Role
from schema_user.errors import Violation

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.caller import Token

_PATH = "/v3alpha/tokens"
_ONE = _PATH + "/{token_id:str}"
_TAG = "Tokens"
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class GrantBody(Body, kw_only=True):
    """A role, in one organization or (without one) for the instance."""

    role: Role
    organization_id: _Short | None = None


class CreateTokenBody(Body, kw_only=True):
    """A new token."""

    name: _Short
    kind: TokenKind = TokenKind.BEARER
    roles: Annotated[list[GrantBody], msgspec.Meta(max_length=100)] = []
    user_id: _Short | None = None
    expiration_date: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class TokenSortingColumn(enum.StrEnum):
    """What tokens can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    NAME = "FIELD_NAME_NAME"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"


class SearchTokensBody(SearchBody, kw_only=True):
    """A search over tokens; several queries must all hold."""

    sorting_column: TokenSortingColumn = TokenSortingColumn.UNSPECIFIED
    queries: list[TokenQueryBody] = []


class CreatedTokenView(View, kw_only=True):
    """A new token, shown this once: `token`, or for a key the members of its file, which this answer is already."""

    token_id: str
    token: str | None = None
    type: str | None = None
    key_id: str | None = None
    key: str | None = None
    user_id: str | None = None


class GrantView(View, kw_only=True):
    """A role that a token holds."""

    role: str
    organization_id: str | None = None


class TokenView(View, kw_only=True):
    """What is known of a token; never the token itself."""

    token_id: str
    kind: TokenKind
    name: str
    roles: list[GrantView]
    creation_date: str
    user_id: str | None = None
    expiration_date: str | None = None
    last_used_at: str | None = None


class GotTokenView(View, kw_only=True):
    """One token."""

    token: TokenView


class FoundTokensView(View, kw_only=True):
    """One page of tokens."""

    details: SearchDetails
    sorting_column: TokenSortingColumn
    result: list[TokenView]
    next_page_token: str | None = None


class RevokedTokenView(View, kw_only=True):
    """A token that is no longer good."""

    token_id: str


def token_view(token: Token) -> TokenView:
    """Show a token."""
    return TokenView(
        token_id=token.token_id,
        kind=token.kind,
        name=token.name,
        roles=[GrantView(role=grant.role.value, organization_id=grant.organization_id) for grant in token.grants],
        creation_date=rfc3339(token.created_at),
        user_id=token.user_id,
        expiration_date=None if token.expires_at is None else rfc3339(token.expires_at),
        last_used_at=None if token.last_used_at is None else rfc3339(token.last_used_at),
    )


def _expiry(given: datetime | None) -> datetime | None:
    try:
        return None if given is None else given.astimezone(UTC)
    except OverflowError:
        text = "must lie in the years 1 to 9999 of UTC"
        raise refused([Violation("expirationDate", text, "range")]) from None


@operation(
    "POST",
    _PATH,
    summary="Create a token",
    tag=_TAG,
    permission="token.write, and every permission it grants",
    body=CreateTokenBody,
    view=CreatedTokenView,
    status=201,
    faults=(404,),
    example={"name": "importer", "roles": [{"role": "ORG_USER_MANAGER", "organizationId": "default"}]},
    answer={"tokenId": TOKEN_ID, "token": "<the token, shown this once>"},
)
async def create_token(call: Call, body: CreateTokenBody) -> Answer:
    """Create a token with roles, or one that acts as a user. It is shown this once.

    With `kind: key` it is a key of a machine caller, and the answer the file that the caller reads it from: what it
    signs is taken by `POST /oauth/v2/token`. Only the public half is kept.
    """
    grants = tuple(Grant(each.role, each.organization_id) for each in body.roles)
    command = tokens.CreateToken(body.name, grants, body.user_id, _expiry(body.expiration_date), body.kind)
    made = await tokens.create_token(call.wiring, call.caller, command)
    if body.kind is TokenKind.BEARER:
        return Answer(CreatedTokenView(token_id=made.token.token_id, token=made.secret))
    file = made.key_file
    view = CreatedTokenView(
        token_id=made.token.token_id, type=file["type"], key_id=file["keyId"], key=file["key"], user_id=file["userId"]
    )
    return Answer(view)


@operation(
    "GET",
    _ONE,
    summary="Get a token",
    tag=_TAG,
    permission="token.read",
    view=GotTokenView,
    faults=(404,),
)
async def get_token(call: Call) -> Answer:
    """Give what is known of a token."""
    found = await queries.get_token(call.wiring, call.caller, call.path["token_id"])
    return Answer(GotTokenView(token=token_view(found)))


@operation(
    "POST",
    _PATH + "/search",
    summary="Search tokens",
    tag=_TAG,
    permission="token.read",
    body=SearchTokensBody,
    view=FoundTokensView,
    optional_body=True,
    example={"queries": [{"nameQuery": {"name": "importer"}}]},
)
async def search_tokens(call: Call, body: SearchTokensBody) -> Answer:
    """Search the tokens that reach nothing beyond where the caller holds `token.read`."""
    column = body.sorting_column
    if column is TokenSortingColumn.UNSPECIFIED:
        column = TokenSortingColumn.ID
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_tokens(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundTokensView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[token_view(each) for each in found.items],
        next_page_token=found.next_token,
    )
    return Answer(view)


@operation(
    "DELETE",
    _ONE,
    summary="Revoke a token",
    tag=_TAG,
    permission="token.delete",
    view=RevokedTokenView,
    faults=(404,),
)
async def revoke_token(call: Call) -> Answer:
    """Revoke a token; it is refused everywhere within five seconds."""
    token = await tokens.revoke_token(call.wiring, call.caller, call.path["token_id"])
    return Answer(RevokedTokenView(token_id=token.token_id))


ROUTES: list[HTTPRouteHandler] = [create_token, get_token, search_tokens, revoke_token]
