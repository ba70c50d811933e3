"""The OpenAPI 3.1 document, made from the routes themselves: what is not served is not in it, and the reverse."""

from __future__ import annotations

import inspect
import re
import typing
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.api.details import DetailsView
from schema_user.api.glossary import (
    FIELDS,
    ID_PATTERN,
    MESSAGE_ID,
    MESSAGE_ID_PATTERN,
    SCHEMA_ID,
    TOKEN_ID,
    USER_ID,
    field_of,
)
from schema_user.api.openapi_components import HEADERS, PARAMETERS, SCHEMAS, Json, ref, schemas
from schema_user.api.openapi_plain import PLAIN, Plain
from schema_user.api.operation import JSON, Operation
from schema_user.api.refusals import refusal_name, responses
from schema_user.api.resources_v3alpha.views import ResourceDetailsView
from schema_user.domain.search import DEFAULT_LIMIT, MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litestar.handlers import HTTPRouteHandler

_DESCRIPTION: Final = """\
Users whose `data`, contacts and permissions follow JSON Schemas.

**Requests and answers** are JSON in UTF-8 with names in lowerCamelCase. A field that an operation does not know is \
refused by its name; `null` is as good as absent, except inside `data`, where it is a value. 64-bit integers travel \
as strings, times are RFC 3339 in UTC. Absent fields are left out of answers.

**Who calls** is said by a bearer token. What its roles do not reach is answered 404, what they reach but do not \
permit 403. The header `x-zitadel-orgid` names the organization in which a request acts.

**Changes** raise the resource's `sequence` by one; it is also the `ETag`. `If-Match` makes a change conditional, \
`?validateOnly=true` checks everything and stores nothing. A request with an `Idempotency-Key` has its effect once \
within 24 hours, however often it is sent: its first success is answered again, with `Idempotent-Replayed: true`.

**Refusals** are a google.rpc.Status with a stable `reason`, and name every field that is wrong by its JSON Pointer.
"""

_TAGS: Final = {
    "Users": "Users of an organization: their data, as a user schema describes it, and their state.",
    "Contact": "The email address and the phone number of a user, and their verification by a code.",
    "Passwords": "The password of a user: set, compared with, and set anew by a code that is sent.",
    "People (v2)": "Users of the built-in schema `human`, by the operations of v2: a profile, field by field.",
    "People (management v1)": "The same people, by two operations of the management API of v1.",
    "User schemas": "JSON Schemas by name and revision; every user has one, and its data follows it.",
    "Users (resources v3alpha)": "The same users, in the shapes of the later generation of v3alpha.",
    "User schemas (resources v3alpha)": "The same user schemas, in the shapes of the later generation of v3alpha.",
    "Organizations": "Tenants: they own users and, if they want, user schemas of their own.",
    "Tokens": "Bearer tokens, and the roles that they hold.",
    "Messages": "Messages on their way to people and webhooks: what became of them, another try, or none.",
    "Webhooks": "URLs that are told what happens to users and schemas.",
    "Service": "Whether the service lives, whether it can work, and how it fares.",
    "Reference": "This reference, for people and for programs.",
    "Pages": "Pages for people.",
}

_METHODS: Final = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
_ALWAYS: Final = (400, 401, 403, 404, 405, 406, 429, 500, 503)
_WITH_BODY: Final = (413, 415)
_CREATED: Final = 201
_PARAMETER: Final = re.compile(r"\{(\w+):\w+\}")
_EXAMPLE_IDS: Final = {
    "userId": USER_ID,
    "schemaId": SCHEMA_ID,
    "organizationId": "mouse-co",
    "tokenId": TOKEN_ID,
    "messageId": MESSAGE_ID,
}
_QUERY: Final[dict[str, Json]] = {
    "validateOnly": {"type": "boolean", "default": False},
    "revision": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
}
_VERSIONED: Final = (DetailsView, ResourceDetailsView)
_CODES_ASKED_FOR: Final = frozenset({"emailCode", "verificationCode"})


def build(routes: Iterable[HTTPRouteHandler], version: str, server_url: str) -> Json:
    """Build the document.

    Args:
        routes: everything that is served.
        version: the service's version.
        server_url: where clients reach it, without a slash at the end.
    """
    known = list(routes)
    operations = [each for each in map(operation_of, known) if each is not None]
    types = {part: None for each in operations for part in (each.body, each.view) if part is not None}
    components = schemas(list(types))
    paths: dict[str, Json] = {}
    tags = set()
    for route in known:
        for path, method, described in _entries(route, components):
            paths.setdefault(path, {})[method.lower()] = described
            tags.update(described["tags"])
    return {
        "openapi": "3.1.0",
        "info": _info(version),
        "servers": [{"url": server_url}],
        "security": [{"bearerAuth": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items() if name in tags],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": responses(),
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": {
                "bearerAuth": {"type": "http", "scheme": "bearer", "description": "A token of `POST /v3alpha/tokens`."}
            },
        },
    }


def _info(version: str) -> Json:
    return {
        "title": "schema-user",
        "version": version,
        "summary": "A user-data service: users whose data, contacts and permissions follow JSON Schemas.",
        "description": _DESCRIPTION,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }


def operation_of(route: HTTPRouteHandler) -> Operation | None:
    """Give the operation of a route; None for a route that is a plain handler."""
    found = route.opt.get("operation")
    return found if isinstance(found, Operation) else None


def _entries(route: HTTPRouteHandler, components: Json) -> Iterable[tuple[str, str, Json]]:
    """Describe a route at each of its paths and methods; the first is the one, the others are its aliases."""
    operation = operation_of(route)
    methods = sorted((str(method) for method in route.http_methods), key=_METHODS.index)
    paths = sorted(map(_template, route.paths), key=lambda path: (path.rpartition("/")[2].startswith("_"), path))
    first = f"{methods[0]} {paths[0]}"
    base = route.fn.__name__ if operation is None else operation.name
    text = inspect.cleandoc(route.fn.__doc__ or "")
    for path in paths:
        for method in methods:
            name = base + ("_alias" if path != paths[0] else "")
            name += f"_{method.lower()}" if method != methods[0] else ""
            parameters = [_path_parameter(each) for each in re.findall(r"\{(\w+)\}", path)]
            head: Json = {"operationId": name, "description": text, "parameters": parameters}
            if f"{method} {path}" != first:
                head["description"] += f"\n\nThe same operation as `{first}`."
                head["x-alias-of"] = base
            described = (
                _plain(path, method, head) if operation is None else _operation(operation, method, head, components)
            )
            yield path, method, described


def _template(path: str) -> str:
    """Turn a path of Litestar's, ``/users/{user_id:str}``, into one of OpenAPI's, ``/users/{userId}``."""
    return _PARAMETER.sub(lambda match: "{" + _camel(match[1]) + "}", path)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _path_parameter(name: str) -> Json:
    text, _ = FIELDS.get(name, ("", None))
    longest, pattern = (225, MESSAGE_ID_PATTERN) if name == "messageId" else (200, ID_PATTERN)
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern},
        "example": _EXAMPLE_IDS.get(name, USER_ID),
    }


def _plain(path: str, method: str, head: Json) -> Json:
    otherwise = Plain("Pages", head["operationId"].replace("_", " ").capitalize(), "text/html")
    about = PLAIN.get(f"{method} {path}") or PLAIN.get(path, otherwise)
    content = {about.media_type: {"schema": {"type": "object" if about.media_type == JSON else "string"}}}
    if about.example is not None:
        content[about.media_type]["example"] = about.example
    answers: Json = {"200": {"description": "The answer.", "headers": _headers(), "content": content}}
    if about.tag == "Reference":
        answers["304"] = {"description": "Nothing changed since the ETag in `If-None-Match`.", "headers": _headers()}
        head["parameters"].append(ref("parameters", "IfNoneMatch"))
    for http in (*about.answers, 405, 500):
        answers[str(http)] = ref("responses", refusal_name(http))
    for http, text in about.pages.items():
        answers[str(http)] = {"description": text, "headers": _headers(), "content": content}
    if about.not_ready is not None:
        answers["503"] = {
            "description": "The database has no primary that answers.",
            "headers": {**_headers(), "Retry-After": ref("headers", "RetryAfter")},
            "content": {JSON: {"schema": {"type": "object"}, "example": about.not_ready}},
        }
    described = {
        **head,
        "summary": about.summary,
        "tags": [about.tag],
        "security": list(about.security),
        "parameters": [
            *head["parameters"],
            *({"name": name, "in": "query", **described} for name, described in about.query.items()),
            ref("parameters", "RequestId"),
        ],
        "responses": dict(sorted(answers.items())),
    }
    if method == "POST":
        form = {"application/x-www-form-urlencoded": {"schema": about.form}}
        described["requestBody"] = {"required": True, "content": form}
    return described


def _headers(*, etag: bool = False, replayed: bool = False) -> Json:
    found = {"X-Request-Id": ref("headers", "RequestId")}
    if etag:
        found["ETag"] = ref("headers", "ETag")
    if replayed:
        found["Idempotent-Replayed"] = ref("headers", "IdempotentReplayed")
    return found


def _operation(operation: Operation, method: str, head: Json, components: Json) -> Json:
    described = {
        **head,
        "summary": operation.summary,
        "description": f"{head['description']}\n\n**Permission:** {operation.permission}.",
        "tags": [operation.tag],
        "parameters": [*head["parameters"], *_parameters(operation, method)],
        "responses": _responses(operation, method, components),
        "x-permission": operation.permission,
    }
    if operation.takes_body:
        described["requestBody"] = {"required": not operation.optional_body, "content": _content(operation)}
    return described


def _content(operation: Operation) -> Json:
    """Describe a body by each media type in which it is taken."""
    if operation.media:
        return {
            media_type: {"schema": {"$ref": SCHEMAS + media.component}, "example": media.example}
            for media_type, media in operation.media.items()
        }
    if operation.body is None:
        return {}
    content: Json = {"schema": {"$ref": SCHEMAS + operation.body.__name__}}
    if (example := body_example(operation)) is not None:
        content["example"] = example
    return {JSON: content}


def body_example(operation: Operation) -> Any:
    """Give a body that works; an operation that works without one takes an empty one."""
    return {} if operation.example is None and operation.optional_body else operation.example


def _parameters(operation: Operation, method: str) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "query", "description": text, "schema": _QUERY.get(name, {"type": "string"})}
        for name, text in operation.query.items()
    ]
    if operation.conditional:
        found.append(ref("parameters", "IfNoneMatch" if method == "GET" else "IfMatch"))
    if operation.keyed:
        found.append(ref("parameters", "IdempotencyKey"))
    return [*found, ref("parameters", "Organization"), ref("parameters", "RequestId")]


def _responses(operation: Operation, method: str, components: Json) -> Json:
    etag = operation.conditional or typing.get_type_hints(operation.view).get("details") in _VERSIONED
    view = operation.view.__name__
    success = {
        "description": inspect.cleandoc(operation.view.__doc__ or ""),
        "headers": _headers(etag=etag, replayed=operation.keyed),
        "content": {
            operation.answer_type: {"schema": {"$ref": SCHEMAS + view}, "example": _answer(operation, components)}
        },
    }
    answers: Json = {str(operation.status): success}
    if operation.conditional and method == "GET":
        answers["304"] = {
            "description": "The resource is still at the ETag in `If-None-Match`.",
            "headers": _headers(etag=True),
        }
    refusals = {*_ALWAYS, *operation.faults, *(_WITH_BODY if operation.takes_body else ())}
    answers |= {str(http): ref("responses", refusal_name(http)) for http in refusals}
    return dict(sorted(answers.items()))


def _answer(operation: Operation, components: Json) -> Any:
    """Give the example of an answer: the route's own, else one made of the examples of its fields."""
    if operation.answer is not None:
        return operation.answer
    asked = b"returnCode" in msgspec.json.encode(operation.example)
    made = _sample(operation.view.__name__, components, _CODES_ASKED_FOR if asked else frozenset())
    if operation.status == _CREATED and "changed" in made.get("details", ()):
        made["details"] |= {"changed": made["details"]["created"]}
    elif operation.status == _CREATED and "details" in made:
        made["details"] |= {"sequence": "1", "changeDate": made["details"]["creationDate"]}
        made |= {"revision": 1} if "revision" in made else {}
    return made


def _sample(struct: str, components: Json, codes: frozenset[str]) -> Json:
    """Make an answer of the examples of its fields; without the codes that were not asked for."""
    required: Sequence[str] = components[struct].get("required", ())
    made: Json = {}
    for name, prop in components[struct]["properties"].items():
        _, example = field_of(FIELDS, struct, name) or ("", None)
        if name not in required and (example == [] or (name.lower().endswith("code") and name not in codes)):
            continue
        if example is not None:
            made[name] = example
        elif "$ref" in prop:
            made[name] = _sample(prop["$ref"].removeprefix(SCHEMAS), components, codes)
        elif "$ref" in prop.get("items", {}):
            made[name] = [_sample(prop["items"]["$ref"].removeprefix(SCHEMAS), components, codes)]
    if {"organizationId", "details"} <= made.keys():
        made["details"]["resourceOwner"] = made["organizationId"]  # an organization owns itself
    return made
