"""What the operations of the OpenAPI document share: schemas, parameters, headers and the answers that refuse."""

from __future__ import annotations

import typing
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from schema_user.api.glossary import (
    DATA,
    FIELDS,
    ID_PATTERN,
    JSON_SCHEMA,
    KEY_PATTERN,
    LIMITS,
    ORGANIZATION_ID,
    REQUEST_ID,
    USER_ID,
    field_of,
)
from schema_user.api.operation import JSON, ORGANIZATION_HEADER, too_large
from schema_user.api.reasons import REASONS
from schema_user.api.status import DOMAIN, http_status, internal_body, status_body
from schema_user.api.v3alpha.contact_bodies import EmailBody, PhoneBody, ResendBody
from schema_user.api.v3alpha.search_bodies import AnyQueryBody
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

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

SCHEMAS: Final = "#/components/schemas/"
_GOOGLE: Final = "type.googleapis.com/google.rpc."
_NULL: Final = {"type": "null"}
_QUERIES: Final = frozenset(each.__name__ for each in typing.get_args(AnyQueryBody))
_ALTERNATIVES: Final = {
    EmailBody.__name__: ("sendCode", "returnCode", "isVerified"),
    PhoneBody.__name__: ("sendCode", "returnCode", "isVerified"),
    ResendBody.__name__: ("sendCode", "returnCode"),
}


def ref(kind: str, name: str) -> Json:
    """Point to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schemas(types: Sequence[type[msgspec.Struct]]) -> Json:
    """Describe the structs of bodies and views, and whatever they hold, as JSON Schemas by name."""
    _, found = msgspec.json.schema_components(types, ref_template=SCHEMAS + "{name}")
    described = {name: _component(name, schema) for name, schema in found.items()}
    return dict(sorted((described | _FIXED).items()))


def _component(name: str, schema: Json) -> Json:
    schema.pop("title", None)
    if "enum" in schema:
        return {"type": "string", **schema}
    body = schema.get("additionalProperties") is False
    schema["properties"] = {
        field: _property(name, field, prop, body=body) for field, prop in schema["properties"].items()
    }
    if not schema["required"]:
        del schema["required"]
    if name in _QUERIES:
        schema |= {"minProperties": 1, "maxProperties": 1}
    if name in _ALTERNATIVES:
        schema["not"] = {"anyOf": [_both(*pair) for pair in combinations(_ALTERNATIVES[name], 2)]}
    return schema


def _both(*names: str) -> Json:
    """Match an object that gives both; null is as good as absent."""
    return {"required": list(names), "properties": {name: {"not": _NULL} for name in names}}


def _property(struct: str, name: str, prop: Json, *, body: bool) -> Json:
    """Describe one field. Null is absent in a body; views leave absent fields out and never say null."""
    options = prop.get("anyOf", [prop])
    optional = _NULL in options or prop.get("default", ...) is None
    nullable = optional and body and struct not in _QUERIES
    found = {key: value for option in options if option != _NULL for key, value in option.items() if key != "default"}
    if prop.get("default") is not None:
        found["default"] = prop["default"]
    text, example = field_of(FIELDS, struct, name) or ("", None)
    description = found.pop("description", text)
    found = _known(name, found) | (field_of(LIMITS, struct, name) or {})
    if nullable:
        found = {"anyOf": [found, _NULL]} if "$ref" in found else {**found, "type": [found["type"], "null"]}
    if description:
        found["description"] = description
    if example is not None and "$ref" not in found and "anyOf" not in found:
        found["examples"] = [example]
    return found


def _known(name: str, found: Json) -> Json:
    """Replace a document or a JSON Schema, about which Python's types say little, by what we know of them."""
    if name == "data" and found.get("type") == "object":
        return {"$ref": SCHEMAS + "Data"}
    if name == "schema" and not found.keys() & {"type", "$ref"}:
        return {"$ref": SCHEMAS + "JsonSchema"}
    return found


def _detail(name: str, properties: Json, required: Sequence[str] = ()) -> Json:
    type_ = {"type": "string", "const": _GOOGLE + name}
    return {
        "type": "object",
        "properties": {"@type": type_, **properties},
        "required": ["@type", *(required or properties)],
    }


_TEXT: Final = {"type": "string"}
_FIXED: Final[Json] = {
    "Data": {
        "type": "object",
        "description": (
            "Any JSON object. At every depth a key is not empty, does not begin with `$`, holds no dot and is not"
            " `__proto__`; integers are within 64 bits, and arrays and objects nest at most 64 deep."
        ),
        "propertyNames": {"pattern": KEY_PATTERN},
        "examples": [DATA],
    },
    "JsonSchema": {
        "type": "object",
        "description": (
            "A JSON Schema: draft 4, 6, 7, 2019-09 or 2020-12, as `$schema` says; without it, 2020-12. It comes back"
            " equal, as JSON, to what was uploaded."
        ),
        "examples": [JSON_SCHEMA],
    },
    "Status": {
        "type": "object",
        "description": "Why a request was refused: google.rpc.Status in JSON.",
        "properties": {
            "code": {"type": "integer", "description": "A number of google.rpc.Code.", "minimum": 1, "maximum": 16},
            "message": {**_TEXT, "description": "A sentence for people."},
            "details": {
                "type": "array",
                "items": {"anyOf": [ref("schemas", n) for n in ("ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")]},
                "minItems": 2,
            },
        },
        "required": ["code", "message", "details"],
    },
    "ErrorInfo": _detail(
        "ErrorInfo",
        {
            "reason": {**_TEXT, "description": "A stable id for programs.", "enum": list(REASONS)},
            "domain": {**_TEXT, "const": DOMAIN},
            "metadata": {"type": "object", "additionalProperties": _TEXT},
        },
    ),
    "BadRequest": _detail(
        "BadRequest",
        {"fieldViolations": {"type": "array", "items": ref("schemas", "FieldViolation"), "minItems": 1}},
    ),
    "FieldViolation": {
        "type": "object",
        "description": "One thing wrong at one place of the request.",
        "properties": {
            "field": {**_TEXT, "description": "The JSON Pointer in the body, without its leading slash."},
            "description": {**_TEXT, "description": "What is wrong, for people."},
            "reason": {**_TEXT, "description": "The rule that is broken, for programs."},
        },
        "required": ["field", "description", "reason"],
    },
    "RetryInfo": _detail("RetryInfo", {"retryDelay": {**_TEXT, "pattern": "^[0-9]+s$"}}),
    "RequestInfo": _detail("RequestInfo", {"requestId": _TEXT}),
}

HEADERS: Final[Json] = {
    "RequestId": {
        "description": "The id of this request; it is in every log line about it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "example": REQUEST_ID,
    },
    "ETag": {
        "description": "The sequence of the resource, in quotes.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]{1,19}"$'},
        "example": '"21"',
    },
    "RetryAfter": {
        "description": "After how many seconds the same request may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 2,
    },
    "Challenge": {
        "description": "How to authenticate.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="schema-user"',
    },
    "Allow": {"description": "The methods that the path knows.", "schema": {"type": "string"}, "example": "GET, PUT"},
}

PARAMETERS: Final[Json] = {
    "Organization": {
        "name": ORGANIZATION_HEADER,
        "in": "header",
        "description": (
            "The organization in which the request acts; one in which the caller has no role is answered 404. Absent:"
            " where the resource is, and for something new the caller's only organization, else `default`."
        ),
        "schema": {"type": "string", "pattern": ID_PATTERN},
        "example": ORGANIZATION_ID,
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "An id for this request, `[A-Za-z0-9._-]{1,128}`; absent or of another form: one is made.",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The ETag at which the resource is expected; at another one it is not changed: 412.",
        "schema": {"type": "string", "pattern": r'^("[0-9]{1,19}"|\*)$'},
        "example": '"21"',
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag that is known already; if the resource is still at it: 304, without a body.",
        "schema": {"type": "string"},
        "example": '"20"',
    },
}


class _Refusal(NamedTuple):
    """One HTTP status: the name of its component, what it means, headers of its own, and faults as examples."""

    name: str
    description: str
    headers: dict[str, str]
    faults: tuple[Fault, ...]


_SCHEMA_METADATA: Final = {"schemaId": "283746501928374650", "revision": "3"}
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
                metadata=_SCHEMA_METADATA,
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
        "The body is not declared as JSON in UTF-8.",
        {},
        (WrongMediaType("MEDIA_TYPE_UNSUPPORTED", f"the body must be {JSON}"),),
    ),
    429: _Refusal(
        "TooManyRequests",
        "Attempts or a rate are used up.",
        {"Retry-After": "RetryAfter"},
        (Exhausted("CODE_ATTEMPTS_EXHAUSTED", "too many wrong codes; ask for another one", retry_after=30),),
    ),
    500: _Refusal("Internal", "Something unexpected happened; the request id leads to it in the log.", {}, ()),
    503: _Refusal(
        "Unavailable",
        "The database or a queue cannot take it now.",
        {"Retry-After": "RetryAfter"},
        (
            Unavailable(
                "DATABASE_UNAVAILABLE", "the database has no primary or does not answer in time", retry_after=2
            ),
        ),
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
