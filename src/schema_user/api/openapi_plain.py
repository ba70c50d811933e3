"""What the OpenAPI document says of the routes that are no operations of the API: health, this reference, pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.api.glossary import ID_PATTERN, USER_ID
from schema_user.api.oauth import CLIENT_CREDENTIALS, JWT_BEARER
from schema_user.api.operation import JSON
from schema_user.domain.access_token import DISCOVERY_PATH, TOKEN_PATH
from schema_user.domain.contact import Channel
from schema_user.domain.link import PATH, RESET_PATH
from schema_user.domain.password import MAX_LENGTH
from schema_user.domain.wording import Language, Occasion

if TYPE_CHECKING:
    import enum
    from collections.abc import Mapping

    from schema_user.api.openapi_components import Json


class Plain(NamedTuple):
    """What a route without an Operation answers; ``answers`` are refusals that do not follow from anything else.

    ``pages`` are those that are told as pages, ``form`` the schema of what is posted.
    """

    tag: str
    summary: str
    media_type: str
    example: Any = None
    answers: tuple[int, ...] = ()
    security: tuple[dict[str, list[str]], ...] = ()
    not_ready: Any = None
    query: Json = {}  # noqa: RUF012 -- never changed
    pages: Mapping[int, str] = {}
    form: Json = {"type": "object"}  # noqa: RUF012 -- likewise


def _one_of(text: str, options: type[enum.StrEnum]) -> Json:
    """Describe a parameter of a page; the first option is the one when it is absent."""
    values = [each.value for each in options]
    schema = {"type": "string", "enum": values, "default": values[0]}
    return {"description": text, "schema": schema, "example": values[0]}


def _link_part(text: str, longest: int, example: str) -> Json:
    return {"description": text, "schema": {"type": "string", "maxLength": longest}, "example": example}


_LINK: Final = {
    "userID": _link_part("The user.", 200, USER_ID),
    "code": _link_part("The code that the form is filled in with.", 20, "KQMDWN"),
    "orgID": _link_part("The user's organization.", 200, "default"),
    "sig": _link_part("The signature; without a valid one all are answered alike.", 200, "IeptCl5e1Y4nRmPX"),
}
_PAGES: Final = {
    404: "The link is not genuine, or what it was made for is gone.",
    429: "Too many requests of this peer or for this user.",
    503: "The database cannot take it now.",
}
_POSTED: Final = {
    400: "The code is wrong, missing or expired; the page says what can be done.",
    **_PAGES,
    429: "Too many requests, wrong codes or resends.",
}
_FORM: Final = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "description": "The code that was sent."},
        "action": {"const": "resend", "description": "Ask for another code, in the place of giving one."},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_OPEN_LINK: Final = Plain("Pages", "Open a signed link", "text/html", query=_LINK, pages=_PAGES)
_POST_CODE: Final = Plain("Pages", "Give back a code", "text/html", query=_LINK, pages=_POSTED, form=_FORM)
_NEW_PASSWORD: Final = {"type": "string", "format": "password", "minLength": 1, "maxLength": MAX_LENGTH}
_POST_PASSWORD: Final = Plain(
    "Pages",
    "Set a new password",
    "text/html",
    query=_LINK,
    pages={
        **_PAGES,
        400: "The password is missing or will not do, the two differ, or the link has expired; the page says which.",
    },
    form={
        "type": "object",
        "properties": {
            "password": {**_NEW_PASSWORD, "description": "The new password."},
            "again": {**_NEW_PASSWORD, "description": "The same once more."},
        },
        "required": ["password", "again"],
        "additionalProperties": False,
    },
)
_TOKEN_FORM: Final = {
    "type": "object",
    "properties": {
        "grant_type": {"enum": [CLIENT_CREDENTIALS, JWT_BEARER], "description": "By what the client proves itself."},
        "client_id": {
            "type": "string",
            "description": "For client_credentials: the id of a token. Id and secret may stand in HTTP Basic instead.",
        },
        "client_secret": {"type": "string", "description": "For client_credentials: the token itself."},
        "assertion": {
            "type": "string",
            "description": (
                "For the other: a JSON Web Token, RS256, signed by a key of `POST /v3alpha/tokens`. `kid` is its keyId,"
                " `iss` and `sub` its userId, `aud` the public URL; from `iat` to `exp` at most an hour."
            ),
        },
        "scope": {"type": "string", "description": "Any scope is taken, and none means anything."},
    },
    "required": ["grant_type"],
}
_TOKEN_REFUSALS: Final = {
    400: "The request is malformed, or the assertion is not good: an `error` of RFC 6749, 5.2.",
    401: "There is no such client, or its secret is another: `invalid_client`.",
    413: "The body is over 16 KiB.",
    429: "Too many refused requests of this peer.",
    503: "The database cannot take it now.",
}

PLAIN: Final[dict[str, Plain]] = {
    **{PATH + channel: _OPEN_LINK for channel in Channel},
    **{f"POST {PATH}{channel}": _POST_CODE for channel in Channel},
    RESET_PATH: _OPEN_LINK,
    f"POST {RESET_PATH}": _POST_PASSWORD,
    "/health/live": Plain("Service", "Liveness", JSON, {"status": "live"}),
    "/health/ready": Plain(
        "Service",
        "Readiness",
        JSON,
        {"status": "ready"},
        not_ready={"status": "unavailable", "reason": "DATABASE_UNAVAILABLE"},
    ),
    "/metrics": Plain(
        "Service",
        "Metrics",
        "text/plain",
        'schema_user_requests_total{operation="update_user",status="200"} 1024.0\n',
        (401, 403, 503),
        ({"bearerAuth": []}, {}),
    ),
    DISCOVERY_PATH: Plain(
        "Tokens",
        "Where machine callers get access tokens",
        JSON,
        {
            "issuer": "https://users.example.com",
            "token_endpoint": "https://users.example.com" + TOKEN_PATH,
            "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": ["openid"],
            "response_types_supported": [],
        },
    ),
    TOKEN_PATH: Plain(
        "Tokens",
        "Get an access token",
        JSON,
        {"access_token": "<an access token>", "expires_in": 3600, "token_type": "Bearer"},
        pages=_TOKEN_REFUSALS,
        form=_TOKEN_FORM,
    ),
    "/openapi.json": Plain("Reference", "OpenAPI document", JSON, {"openapi": "3.1.0"}),
    "/docs": Plain("Reference", "Reference page", "text/html"),
    "/ui/mailbox": Plain("Pages", "Local mailbox", "text/html", None, (401, 404, 503), ({}, {"bearerAuth": []})),
    "/ui/messages/preview": Plain(
        "Pages",
        "Preview of messages",
        "text/html",
        None,
        (400, 401, 403, 404, 503),
        ({"bearerAuth": []}, {}),
        query={
            "kind": _one_of("What the message is about.", Occasion),
            "channel": _one_of("How it goes out.", Channel),
            "language": _one_of("In which language it is.", Language),
            "organizationId": {
                "description": "In its sender's name and with its texts; absent: the service's own.",
                "schema": {"type": "string", "pattern": ID_PATTERN},
                "example": "default",
            },
        },
    ),
}
