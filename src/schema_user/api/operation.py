"""One operation of the REST API: what it is called, takes and answers, and the steps that all of them share.

The steps, in the contract's order: the door has authenticated; the router has found path and method; then what the
client accepts, the size and type of the body, its decoding, and at last the operation's own code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Request, Response
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from schema_user.api.body import decode
from schema_user.api.status import http_status, status_body, status_headers
from schema_user.errors import Fault, Malformed, NotAcceptable, TooLarge, Violation, WrongMediaType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from schema_user.api.details import View
    from schema_user.domain.caller import Caller
    from schema_user.wiring import Wiring

JSON: Final = "application/json"
ORGANIZATION_HEADER: Final = "x-zitadel-orgid"
PRIVATE: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization, x-zitadel-orgid"}
_ETAG: Final = re.compile(r'"(\d{1,19})"')
_LONGEST_LENGTH: Final = 18
_TRUTHS: Final = {"true": True, "false": False}


class EmptyBody(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the documentation and the shared steps know of an operation.

    ``query`` maps the names of query parameters to their descriptions; others are refused by name, for the same
    reason as unknown fields. ``example`` is the body of a request that works.
    """

    name: str
    summary: str
    tag: str
    body: type[msgspec.Struct] | None
    view: type[View]
    status: int
    permission: str
    query: Mapping[str, str]
    faults: tuple[int, ...]
    example: Any
    answer: Any
    conditional: bool
    optional_body: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation found or did; ``sequence`` becomes the ETag."""

    view: View
    sequence: int | None = None


@dataclass(slots=True)
class Call:
    """One request, as far as an operation needs it."""

    wiring: Wiring
    caller: Caller
    request_id: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    _truths: dict[str, bool] = field(default_factory=dict)

    @property
    def validate_only(self) -> bool:
        """Whether everything shall be checked and nothing stored."""
        return self.truth("validateOnly")

    def truth(self, name: str) -> bool:
        """Read a query parameter that is ``true`` or ``false``; absent is false."""
        text = self.query.get(name, "false")
        if text not in _TRUTHS:
            raise _query_fault(name, "must be true or false")
        return _TRUTHS[text]

    def number(self, name: str) -> int | None:
        """Read a query parameter that is a positive integer; None if it is absent."""
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[1-9]\d{0,17}", text):
            raise _query_fault(name, "must be a positive integer")
        return int(text)

    @property
    def expected_sequence(self) -> int | None:
        """The sequence that ``If-Match`` names; None if it is absent or ``*``."""
        text = self.headers.get("if-match")
        if text is None or text.strip() == "*":
            return None
        match = _ETAG.fullmatch(text.strip())
        if match is None:
            message = 'If-Match must be one ETag, such as "3", or *'
            raise Malformed("HEADER_INVALID", message, [Violation("If-Match", "must be one ETag", "header")])
        return int(match[1])


def _query_fault(name: str, description: str) -> Malformed:
    return Malformed("QUERY_INVALID", f"{name} {description}", [Violation(f"?{name}", description, "query")])


Handler = "Callable[..., Awaitable[Answer]]"


def operation(
    methods: str,
    *paths: str,
    summary: str,
    tag: str,
    view: type[View],
    permission: str,
    body: type[msgspec.Struct] | None = None,
    status: int = 200,
    query: Mapping[str, str] | None = None,
    faults: tuple[int, ...] = (),
    example: Any = None,
    answer: Any = None,
    conditional: bool = False,
    optional_body: bool = False,
) -> Callable[[Callable[..., Awaitable[Answer]]], HTTPRouteHandler]:
    """Make a route of an operation's function.

    Args:
        methods: one or more HTTP methods, separated by spaces.
        paths: Litestar paths; their parameters are given in ``Call.path``.
        summary: one line for the documentation.
        tag: the chapter of the documentation.
        view: what is answered.
        permission: what the caller needs, in words.
        body: what is taken; None means that no body is read.
        status: the HTTP status of success.
        query: the query parameters, each with its description.
        faults: HTTP statuses of refusals beyond those that every operation has.
        example: a body that works.
        answer: the answer to it.
        conditional: whether If-Match (for GET: If-None-Match) is heeded.
        optional_body: whether a request without a body counts as ``{}``.
    """

    def make(handler: Callable[..., Awaitable[Answer]]) -> HTTPRouteHandler:
        described = Operation(
            handler.__name__,
            summary,
            tag,
            body,
            view,
            status,
            permission,
            query or {},
            faults,
            example,
            answer,
            conditional,
            optional_body,
        )

        async def endpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
            try:
                return await _perform(request, described, handler)
            except Fault as fault:
                return fault_response(fault, request.scope["state"]["request_id"])

        endpoint.__name__ = handler.__name__
        endpoint.__doc__ = handler.__doc__
        endpoint.__annotations__ = {"request": Request[Any, Any, Any], "return": Response[bytes]}
        verbs = [HttpMethod(method) for method in methods.split()]
        return HTTPRouteHandler(list(paths), http_method=verbs, opt={"operation": described}, status_code=status)(
            endpoint
        )

    return make


async def _perform(
    request: Request[Any, Any, Any], described: Operation, handler: Callable[..., Awaitable[Answer]]
) -> Response[bytes]:
    headers = request.headers
    require_acceptable(headers.get("accept"))
    state = request.scope["state"]
    wiring: Wiring = request.app.state.wiring
    if described.body is not None:
        _require_body_headers(request, described, wiring.settings.body_max_bytes)
    query = _query(request, described)
    call = Call(wiring, state["caller"], state["request_id"], request.path_params, query, headers)
    taken = None if described.body is None else await _body(request, described, described.body, wiring)
    if (acting := headers.get(ORGANIZATION_HEADER)) is not None:
        call.caller = await request.app.state.gatekeeper.acting(call.caller, acting)
    answer = await (handler(call) if described.body is None else handler(call, taken))
    return _respond(request, described, answer)


def _respond(request: Request[Any, Any, Any], described: Operation, answer: Answer) -> Response[bytes]:
    headers = dict(PRIVATE)
    if answer.sequence is not None:
        headers["ETag"] = f'"{answer.sequence}"'
        if request.method == "GET" and _is_known(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(b"", status_code=304, headers=headers)
    return Response(msgspec.json.encode(answer.view), status_code=described.status, headers=headers, media_type=JSON)


def _is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already; a weak comparison of a list, or ``*`` (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in known or "*" in known


def _query(request: Request[Any, Any, Any], described: Operation) -> dict[str, str]:
    if not request.scope["query_string"]:
        return {}
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in described.query:
            raise _query_fault(name[:100], "is not a parameter of this operation")
        if name in found:
            raise _query_fault(name, "is given twice")
        found[name] = value
    return found


def _announces_body(headers: Mapping[str, str]) -> bool:
    return headers.get("content-length") not in {None, "0"} or "transfer-encoding" in headers


def _require_body_headers(request: Request[Any, Any, Any], described: Operation, limit: int) -> None:
    """Judge a body by what its headers say, before any of it is read."""
    length = request.headers.get("content-length")
    if length is not None and (not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) > limit):
        raise too_large(limit)
    if _announces_body(request.headers) or not described.optional_body:
        _require_readable(request)


def _require_readable(request: Request[Any, Any, Any]) -> None:
    require_json(request.headers.get("content-type"))
    require_plain(request.headers.get("content-encoding"))


async def _body(
    request: Request[Any, Any, Any], described: Operation, into: type[msgspec.Struct], wiring: Wiring
) -> msgspec.Struct:
    raw = await _read(request, wiring.settings.body_max_bytes)
    if described.optional_body and not _announces_body(request.headers):
        # HTTP/2 need not announce a body.
        if not raw.strip():
            return decode(b"{}", into, wiring.settings.body_max_depth)
        _require_readable(request)
    return decode(raw, into, wiring.settings.body_max_depth)


async def _read(request: Request[Any, Any, Any], limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            chunks.append(chunk)
    except HTTPException as error:
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise too_large(limit) from error
        # The framework calls a client that hangs up in the middle an internal error; it is nothing of ours.
        raise Malformed("BODY_TRUNCATED", "the body ended before its length") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(limit: int) -> TooLarge:
    """Give the fault of a body over the limit, in bytes."""
    return TooLarge("BODY_TOO_LARGE", f"the body is larger than {limit} bytes", metadata={"limit": str(limit)})


def require_json(media_type: str | None) -> None:
    """Raise WrongMediaType unless the Content-Type is JSON in UTF-8."""
    parts = [part.strip().lower() for part in (media_type or "").split(";")]
    charsets = [part.partition("=")[2].strip('"') for part in parts[1:] if part.startswith("charset=")]
    if parts[0] != JSON or any(charset not in {"utf-8", "utf8"} for charset in charsets):
        raise WrongMediaType("MEDIA_TYPE_UNSUPPORTED", f"the body must be {JSON}")


def require_plain(encoding: str | None) -> None:
    """Raise WrongMediaType for a compressed body: unpacked, it could be a thousand times the limit."""
    if encoding is not None and encoding.strip().lower() != "identity":
        raise WrongMediaType("ENCODING_UNSUPPORTED", "the body must not be compressed")


def require_acceptable(accept: str | None) -> None:
    """Raise NotAcceptable if the Accept header leaves no room for JSON (RFC 9110, 12.5.1; the closest range counts)."""
    if accept is None or accept in {"*/*", "*", JSON}:
        return
    best: tuple[int, float] | None = None
    for item in accept.split(","):
        media_range, *parameters = [part.strip().lower() for part in item.split(";")]
        closeness = {JSON: 3, "application/*": 2, "*/*": 1, "": 0}.get(media_range)
        if closeness is None:
            continue
        weight = _weight(parameters)
        if best is None or closeness > best[0]:
            best = (closeness, weight)
    if best is None or best[1] == 0:
        raise NotAcceptable("NOT_ACCEPTABLE", f"only {JSON} is answered")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def fault_response(fault: Fault, request_id: str) -> Response[bytes]:
    """Answer with a fault."""
    return Response(
        status_body(fault, request_id),
        status_code=http_status(fault),
        headers=PRIVATE | status_headers(fault),
        media_type=JSON,
    )
