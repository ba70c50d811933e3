"""The answers that refuse, as the OpenAPI document describes them: one for each HTTP status, for all operations."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from schema_user.api.glossary import REQUEST_ID, SCHEMA_ID, USER_ID
from schema_user.api.openapi_components import Json, ref
from schema_user.api.operation import JSON, too_large
from schema_user.api.status import internal_body, status_body
from schema_user.domain.access import lacking
from schema_user.domain.permission import Permission
from schema_user.errors import (
    Aborted,
    Conflict,
    Exhausted,
    Fault,
    Malformed,
    Missing,
    NotAcceptable,
    StaleSequence,
    Unauthenticated,
    Unavailable,
    Unmet,
    Unsupported,
    Violation,
    WrongMediaType,
)


class _Refusal(NamedTuple):
    """One HTTP status: the name of its component, what it means, headers of its own, and faults as examples."""

    name: str
    description: str
    headers: dict[str, str]
    faults: tuple[Fault, ...]


_REFUSALS: Final[dict[int, _Refusal]] = {
    400: _Refusal(
        "BadRequest",
        "The request is malformed (code 3), or what is stored forbids it (code 9).",
        {},
        (
            Malformed(
                "FIELD_INVALID",
                "shemaId is not a field of this operation",
                [
                    Violation("shemaId", "is not a field of this operation", "unknownField"),
                    Violation("contact/email/address", "must have at least 1 characters", "minLength"),
                ],
            ),
            Unmet(
                "DATA_INVALID",
                "data does not match schema customer revision 3: name is required",
                [Violation("data/name", "is required", "required")],
                metadata={"schemaId": SCHEMA_ID, "revision": "3"},
            ),
        ),
    ),
    401: _Refusal(
        "Unauthenticated",
        "There is no bearer token, or one that is not valid.",
        {"WWW-Authenticate": "Challenge"},
        (Unauthenticated("TOKEN_INVALID", "a valid bearer token is needed"),),
    ),
    403: _Refusal(
        "PermissionDenied",
        "The caller lacks the permission, or that of a field.",
        {},
        (lacking(Permission.USER_WRITE, [Violation("username", "needs user.write", "permission")]),),
    ),
    404: _Refusal(
        "NotFound",
        "The resource, or the organization in `x-zitadel-orgid`, is not there for this caller.",
        {},
        (Missing("USER_NOT_FOUND", "user not found", metadata={"userId": USER_ID}),),
    ),
    405: _Refusal(
        "MethodNotAllowed",
        "The path does not know the method.",
        {"Allow": "Allow"},
        (Unsupported("METHOD_UNSUPPORTED", "PATCH is not allowed at this path"),),
    ),
    406: _Refusal(
        "NotAcceptable",
        "The `Accept` header leaves no room for JSON.",
        {},
        (NotAcceptable("NOT_ACCEPTABLE", f"only {JSON} is answered"),),
    ),
    409: _Refusal(
        "Conflict",
        "A value is taken (code 6), or the race against another update was lost (code 10).",
        {"Retry-After": "RetryAfter"},
        (
            Conflict(
                "USERNAME_TAKEN",
                "the username is taken in this organization",
                [Violation("username", "is taken", "unique")],
            ),
            Aborted("RACE_LOST", "others changed the user at the same time; try again", retry_after=1),
        ),
    ),
    412: _Refusal(
        "PreconditionFailed",
        "The resource is not at the ETag in `If-Match`.",
        {},
        (
            StaleSequence(
                "SEQUENCE_MISMATCH",
                "the resource is at sequence 22, not at the one in If-Match",
                metadata={"sequence": "22"},
            ),
        ),
    ),
    413: _Refusal("ContentTooLarge", "The body is over the limit.", {}, (too_large(1 << 20),)),
    415: _Refusal(
        "UnsupportedMediaType",
        "The body is not declared as JSON in UTF-8, or is compressed.",
        {"Accept-Patch": "AcceptPatch"},
        (WrongMediaType("MEDIA_TYPE_UNSUPPORTED", f"the body must be {JSON}"),),
    ),
    429: _Refusal(
        "TooManyRequests",
        "Attempts or a rate are used up.",
        {"Retry-After": "RetryAfter", "RateLimit": "RateLimit", "RateLimit-Policy": "RateLimitPolicy"},
        (
            Exhausted("CODE_ATTEMPTS_EXHAUSTED", "too many wrong codes; ask for another one", retry_after=30),
            Exhausted(
                "RATE_LIMITED",
                "no more than 600/60s requests are taken of one token",
                metadata={"policy": "token", "limit": "600/60s"},
                retry_after=42,
            ),
        ),
    ),
    500: _Refusal("Internal", "Something unexpected happened; the request id leads to it in the log.", {}, ()),
    503: _Refusal(
        "Unavailable",
        "The database or a queue cannot take it now.",
        {"Retry-After": "RetryAfter"},
        (Unavailable("DATABASE_UNAVAILABLE", "the database has no primary or does not answer in time", retry_after=2),),
    ),
}


def refusal_name(http: int) -> str:
    """Give the name of the component that describes a refusal's HTTP status."""
    return _REFUSALS[http].name


def responses() -> Json:
    """Describe every refusal, with examples written by the code that writes the real ones."""
    return {each.name: _response(each) for each in _REFUSALS.values()}


def _response(refusal: _Refusal) -> Json:
    bodies = [status_body(fault, REQUEST_ID) for fault in refusal.faults] or [internal_body(REQUEST_ID)]
    examples = {}
    for body in bodies:
        value = msgspec.json.decode(body)
        examples[value["details"][0]["reason"]] = {"summary": value["message"], "value": value}
    headers = {name: ref("headers", component) for name, component in refusal.headers.items()}
    return {
        "description": refusal.description,
        "headers": {"X-Request-Id": ref("headers", "RequestId"), **headers},
        "content": {JSON: {"schema": ref("schemas", "Status"), "examples": examples}},
    }
