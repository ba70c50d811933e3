"""The token endpoint, where machine callers get access tokens, and the document by which they find it.

RFC 6749 (section 4.4 client credentials, 5.2 errors), RFC 7523 (assertions), RFC 8414 (discovery). The shapes of its
answers are those of these documents, not google.rpc.Status, as their clients expect.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from litestar import Request, Response, get, post

from schema_user.api.operation import JSON
from schema_user.api.peer import peer_network
from schema_user.commands.access_tokens import Granted, grant_by_assertion, grant_by_secret
from schema_user.domain.access_token import DISCOVERY_PATH, TOKEN_PATH
from schema_user.domain.assertion import AssertionRefused
from schema_user.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.api.door import Headers
    from schema_user.authentication import Gatekeeper
    from schema_user.wiring import Wiring

CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM: Final = "application/x-www-form-urlencoded"
BODY_MAX_BYTES: Final = 16 * 1024

_MOST_FIELDS: Final = 32
_LONGEST_LENGTH: Final = 18
_SPAN: Final = timedelta(minutes=1)
"""In which the refused requests of a peer are counted."""

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="schema-user", charset="UTF-8"'}

HttpRequest = Request[Any, Any, Any]


class TokenAnswer(msgspec.Struct):
    """An access token, in the words of RFC 6749, 5.1; all scopes are taken and none means anything."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 -- the type


@dataclass(eq=False)
class _Refused(Exception):
    """A request that gets no token: an error code of RFC 6749, 5.2, and why, for whoever wrote the client."""

    error: str
    description: str
    status: int = 400
    retry_after: int | None = None


@get(DISCOVERY_PATH)
async def discovery(request: HttpRequest) -> Response[bytes]:
    """Say where machine callers get access tokens, and how they prove who they are."""
    issuer = request.app.state.wiring.settings.public_url
    body = {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN_PATH,
        "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["openid"],
        "response_types_supported": [],
    }
    return Response(msgspec.json.encode(body), media_type=JSON, headers={"Cache-Control": "no-cache"})


@post(TOKEN_PATH, status_code=200)
async def issue_access_token(request: HttpRequest) -> Response[bytes]:
    """Exchange a token's id and secret, or what a key has signed, for an access token of one hour.

    The access token has the rights of the token or key behind it at the time of each request, and ends with it.
    """
    try:
        granted = await _granted(request)
    except _Refused as refused:
        return _refusal(refused)
    except Unavailable as fault:
        return _refusal(_Refused("temporarily_unavailable", fault.message, 503, fault.retry_after))
    body = msgspec.json.encode(TokenAnswer(granted.access_token, granted.expires_in))
    return Response(body, media_type=JSON, headers=_NO_STORE)


def _refusal(refused: _Refused) -> Response[bytes]:
    headers = dict(_NO_STORE)
    if refused.error == "invalid_client":
        headers |= _CHALLENGE
    if refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    body = msgspec.json.encode({"error": refused.error, "error_description": refused.description})
    return Response(body, status_code=refused.status, media_type=JSON, headers=headers)


async def _granted(request: HttpRequest) -> Granted:
    wiring: Wiring = request.app.state.wiring
    headers: Headers = request.scope["state"]["headers"]
    form = await _form(request, headers)
    exchange = _exchange_of(form, headers)
    peer = f"token peer {peer_network(request.scope, headers, wiring.settings.trusted_proxies)}"
    limit, now = wiring.settings.token_failures_per_peer, wiring.now()
    if (until := await wiring.quotas.room(peer, limit, now)) is not None:
        wait = max(1, math.ceil((until - now).total_seconds()))
        raise _Refused("temporarily_unavailable", "too many refused requests of this peer", 429, wait)
    try:
        return await exchange.done(wiring, request.app.state.gatekeeper)
    except _Refused:
        await wiring.quotas.take(peer, limit, _SPAN, now)
        raise


@dataclass(frozen=True, slots=True)
class _BySecret:
    """A request by ``client_credentials``; ``secrets`` are the ways in which the secret can be read."""

    token_id: str
    secrets: tuple[str, ...]

    async def done(self, wiring: Wiring, gatekeeper: Gatekeeper) -> Granted:
        granted = await grant_by_secret(wiring, self.token_id, self.secrets)
        if granted is None or not await _is_let_in(gatekeeper, granted):
            raise _invalid_client("there is no such client, or its secret is another, or it may not be used now")
        return granted


@dataclass(frozen=True, slots=True)
class _ByAssertion:
    """A request by ``urn:ietf:params:oauth:grant-type:jwt-bearer``."""

    assertion: str

    async def done(self, wiring: Wiring, gatekeeper: Gatekeeper) -> Granted:
        try:
            granted = await grant_by_assertion(wiring, self.assertion)
        except AssertionRefused as error:
            raise _Refused("invalid_grant", str(error)) from error
        if not await _is_let_in(gatekeeper, granted):
            raise _Refused("invalid_grant", "the key may not be used now: its user or organization is not active")
        return granted


async def _is_let_in(gatekeeper: Gatekeeper, granted: Granted) -> bool:
    """Whether the access token is good for anything: its user and organization may have been deactivated."""
    try:
        await gatekeeper.caller(granted.access_token)
    except Unauthenticated:
        return False
    return True


def _exchange_of(form: dict[str, str], headers: Headers) -> _BySecret | _ByAssertion:
    """Find out what is offered in exchange for an access token.

    Raises:
        _Refused: if the request is not one of those that are taken.
    """
    authorization = headers.get(b"authorization")
    grant_type = form.get("grant_type")
    if grant_type == CLIENT_CREDENTIALS:
        return _credentials(form, authorization)
    if grant_type == JWT_BEARER:
        if authorization is not None or "client_secret" in form:
            raise _invalid_request("the assertion is all that is taken of a client that signs")
        if "assertion" not in form:
            raise _invalid_request("assertion is missing")
        return _ByAssertion(form["assertion"])
    if grant_type is None:
        raise _invalid_request("grant_type is missing")
    raise _Refused("unsupported_grant_type", f"grant_type must be {CLIENT_CREDENTIALS} or {JWT_BEARER}")


def _credentials(form: dict[str, str], authorization: bytes | None) -> _BySecret:
    """Read client id and secret from the one place where they are."""
    if authorization is None:
        if not {"client_id", "client_secret"} <= form.keys():
            raise _invalid_client("client_id and client_secret are missing")
        return _BySecret(form["client_id"], (form["client_secret"],))
    if "client_secret" in form:
        raise _invalid_request("the client authenticates in the header and in the body: one is enough")
    scheme, _, encoded = authorization.partition(b" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
        client_id = secret = ""
    if scheme.lower() != b"basic" or not colon:
        raise _invalid_client("the Authorization header must be Basic, with the client's id and secret")
    if form.get("client_id", client_id) != client_id:
        raise _invalid_request("client_id is not the one in the Authorization header")
    # RFC 6749, 2.3.1 wants both form-urlencoded in the header; many clients send them as they are.
    return _BySecret(unquote_plus(client_id), (secret, unquote_plus(secret)))


async def _form(request: HttpRequest, headers: Headers) -> dict[str, str]:
    """Read the parameters of the body; empty ones count as left out, and those of other grants are ignored."""
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type != FORM or b"content-encoding" in headers:
        raise _invalid_request(f"the body must be {FORM}")
    if request.scope["query_string"]:
        raise _invalid_request("parameters belong into the body: addresses are written into logs")
    raw = await _body(request, headers)
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise _invalid_request("the body is not form-urlencoded, or has too many parameters") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise _invalid_request("a parameter is given twice")
    return {name: value for name, value in form.items() if value}


async def _body(request: HttpRequest, headers: Headers) -> bytes:
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) > BODY_MAX_BYTES:
        raise _invalid_request(f"the body is over {BODY_MAX_BYTES} bytes", 413)
    raw, more = b"", True
    while more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise _invalid_request("the body ended before its length")
        raw += message.get("body", b"")
        more = message.get("more_body", False)
        if len(raw) > BODY_MAX_BYTES:
            raise _invalid_request(f"the body is over {BODY_MAX_BYTES} bytes", 413)
    request.scope["state"]["body_read"] = True
    return raw


def _invalid_request(description: str, status: int = 400) -> _Refused:
    return _Refused("invalid_request", description, status)


def _invalid_client(description: str) -> _Refused:
    return _Refused("invalid_client", description, 401)


ROUTES: list[HTTPRouteHandler] = [discovery, issue_access_token]
