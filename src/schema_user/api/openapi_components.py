"""What the operations of the OpenAPI document share: schemas, parameters and headers."""

from __future__ import annotations

import typing
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.api.glossary import (
    DATA,
    FIELDS,
    ID_PATTERN,
    JSON_PATCH,
    JSON_SCHEMA,
    KEY_PATTERN,
    LIMITS,
    MERGE_PATCH,
    ORGANIZATION_ID,
    REQUEST_ID,
    field_of,
)
from schema_user.api.operation import ORGANIZATION_HEADER
from schema_user.api.reasons import REASONS
from schema_user.api.resources_v3alpha.filters import SchemaFilterBody, UserFilterBody
from schema_user.api.status import DOMAIN
from schema_user.api.v2.bodies import HumanEmailBody, HumanPhoneBody, SetEmailBody, SetPhoneBody
from schema_user.api.v2.search import HumanQueryBody
from schema_user.api.v3alpha.contact_bodies import EmailBody, PhoneBody, ResendBody
from schema_user.api.v3alpha.schemas import CheckBody
from schema_user.api.v3alpha.search_bodies import AnyQueryBody
from schema_user.domain.patch import MAX_OPERATIONS
from schema_user.domain.repetition import KEY_MAX_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

SCHEMAS: Final = "#/components/schemas/"
_GOOGLE: Final = "type.googleapis.com/google.rpc."
_NULL: Final = {"type": "null"}
_QUERIES: Final = frozenset(
    each.__name__ for each in (*typing.get_args(AnyQueryBody), HumanQueryBody, UserFilterBody, SchemaFilterBody)
)
_ALTERNATIVES: Final = {
    EmailBody.__name__: ("sendCode", "returnCode", "isVerified"),
    PhoneBody.__name__: ("sendCode", "returnCode", "isVerified"),
    **dict.fromkeys(
        (each.__name__ for each in (HumanEmailBody, HumanPhoneBody, SetEmailBody, SetPhoneBody)),
        ("sendCode", "returnCode", "isVerified"),
    ),
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
        schema["oneOf"] = [_given(member) for member in schema["properties"]]
    if name in _ALTERNATIVES:
        schema["not"] = {"anyOf": [_given(*pair) for pair in combinations(_ALTERNATIVES[name], 2)]}
    return schema


def _given(*names: str) -> Json:
    """Match an object that gives these members; null is as good as absent."""
    return {"required": list(names), "properties": {name: {"not": _NULL} for name in names}}


def _property(struct: str, name: str, prop: Json, *, body: bool) -> Json:
    """Describe one field. Null is absent in a body; views leave absent fields out and never say null."""
    options = prop.get("anyOf", [prop])
    optional = _NULL in options or prop.get("default", ...) is None
    nullable = optional and body
    found = {key: value for option in options if option != _NULL for key, value in option.items() if key != "default"}
    if prop.get("default") is not None:
        found["default"] = prop["default"]
    text, example = field_of(FIELDS, struct, name) or ("", None)
    description = found.pop("description", text)
    found = _known(struct, name, found) | (field_of(LIMITS, struct, name) or {})
    if nullable:
        found = {"anyOf": [found, _NULL]} if "$ref" in found else {**found, "type": [found["type"], "null"]}
    if description:
        found["description"] = description
    if example is not None and "$ref" not in found and "anyOf" not in found:
        found["examples"] = [example]
    return found


def _known(struct: str, name: str, found: Json) -> Json:
    """Replace a document or a JSON Schema, about which Python's types say little, by what we know of them."""
    if name == "data" and found.get("type") == "object":
        return {"$ref": SCHEMAS + "Data"}
    if name == "schema" and struct != CheckBody.__name__ and not found.keys() & {"type", "$ref"}:
        return {"$ref": SCHEMAS + "JsonSchema"}
    return found


def _detail(name: str, properties: Json) -> Json:
    type_ = {"type": "string", "const": _GOOGLE + name, "description": "Which detail this is."}
    return {"type": "object", "properties": {"@type": type_, **properties}, "required": ["@type", *properties]}


_TEXT: Final = {"type": "string"}
_POINTER: Final = "^(/([^~]|~[01])*)?$"
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
    "MergePatch": {
        "type": "object",
        "description": (
            "A JSON Merge Patch (RFC 7396) of the data: what is null goes, objects are merged, anything else replaces"
            " what is there. An array is replaced as a whole. Keys obey the same rules as those of the data."
        ),
        "propertyNames": {"pattern": KEY_PATTERN},
        "examples": [MERGE_PATCH],
    },
    "JsonPatch": {
        "type": "array",
        "description": "A JSON Patch (RFC 6902) of the data: its operations are done one after the other, all or none.",
        "items": ref("schemas", "JsonPatchOperation"),
        "maxItems": MAX_OPERATIONS,
        "examples": [JSON_PATCH],
    },
    "JsonPatchOperation": {
        "type": "object",
        "description": "One operation of a JSON Patch; members that it does not need are ignored.",
        "properties": {
            "op": {
                **_TEXT,
                "description": "What is done; a `test` that fails refuses the whole patch: code 9.",
                "enum": ["add", "remove", "replace", "move", "copy", "test"],
            },
            "path": {
                **_TEXT,
                "description": "Where: a JSON Pointer (RFC 6901) in the data; `-` is the end of an array.",
                "pattern": _POINTER,
            },
            "from": {**_TEXT, "description": "What is moved or copied: a JSON Pointer.", "pattern": _POINTER},
            "value": {"description": "The value for `add` and `replace`, and what `test` compares with: 1 equals 1.0."},
        },
        "required": ["op", "path"],
    },
    "Status": {
        "type": "object",
        "description": "Why a request was refused: google.rpc.Status in JSON.",
        "properties": {
            "code": {"type": "integer", "description": "A number of google.rpc.Code.", "minimum": 1, "maximum": 16},
            "message": {**_TEXT, "description": "A sentence for people."},
            "details": {
                "type": "array",
                "description": "What programs need: an ErrorInfo first, a RequestInfo last.",
                "items": {
                    "anyOf": [ref("schemas", n) for n in ("ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")]
                },
                "minItems": 2,
            },
        },
        "required": ["code", "message", "details"],
    },
    "ErrorInfo": _detail(
        "ErrorInfo",
        {
            "reason": {**_TEXT, "description": "A stable id for programs.", "enum": list(REASONS)},
            "domain": {**_TEXT, "const": DOMAIN, "description": "Whose reasons these are."},
            "metadata": {
                "type": "object",
                "additionalProperties": _TEXT,
                "description": "Facts by name, for programs.",
            },
        },
    ),
    "BadRequest": _detail(
        "BadRequest",
        {
            "fieldViolations": {
                "type": "array",
                "description": "Every field that is wrong; beyond 100 a last entry counts the others.",
                "items": ref("schemas", "FieldViolation"),
                "minItems": 1,
            }
        },
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
    "RetryInfo": _detail(
        "RetryInfo", {"retryDelay": {**_TEXT, "pattern": "^[0-9]+s$", "description": "As `Retry-After`."}}
    ),
    "RequestInfo": _detail("RequestInfo", {"requestId": {**_TEXT, "description": "As `X-Request-Id`."}}),
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
    "RateLimit": {
        "description": "What is left of each limit, and for how many seconds; on every answer to a token with limits.",
        "schema": {"type": "string"},
        "example": '"token";r=0;t=42',
    },
    "RateLimitPolicy": {
        "description": "The limits, each as requests and seconds; on every answer to a token with limits.",
        "schema": {"type": "string"},
        "example": '"token";q=600;w=60',
    },
    "AcceptPatch": {
        "description": "The media types of a patch; only where one is taken.",
        "schema": {"type": "string"},
        "example": "application/merge-patch+json, application/json-patch+json",
    },
    "Challenge": {
        "description": "How to authenticate.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="schema-user"',
    },
    "IdempotentReplayed": {
        "description": "The answer is that of an earlier request under the same `Idempotency-Key`.",
        "schema": {"type": "string", "const": "true"},
        "example": "true",
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
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "Any text that names this request among those of the token for 24 hours, such as a UUID. Sent again, the"
            " request has no second effect, and the answer of its first success is given again; a code in it only as"
            " long as it is good. Another request under the same key is refused: 409. Ignored with `validateOnly`."
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARACTERS},
        "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag that is known already; if the resource is still at it: 304, without a body.",
        "schema": {"type": "string"},
        "example": '"20"',
    },
}
