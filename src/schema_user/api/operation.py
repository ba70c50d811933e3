"""One operation of the REST API: what it is called, takes and answers, and the steps that all of them share.

The steps, in the contract's order: the door has authenticated; the router has found path and method; then what the
client accepts, the size and type of the body, its decoding, and at last the operation's own code.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from schema_user.api.body import decode
from schema_user.api.door import announces_body
from schema_user.api.reply import PRIVATE, Reply, fault_reply, json_reply
from schema_user.domain.repetition import KEY_MAX_CHARACTERS, once
from schema_user.errors import Fault, Malformed, NotAcceptable, TooLarge, Unavailable, Violation, WrongMediaType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from schema_user.api.details import View
    from schema_user.api.door import Headers, Receive, Scope, Send
    from schema_user.api.reply import Header
    from schema_user.domain.caller import Caller
    from schema_user.domain.repetition import Once
    from schema_user.wiring import Wiring

JSON: Final = "application/json"
ORGANIZATION_HEADER: Final = "x-zitadel-orgid"
_ORGANIZATION: Final = ORGANIZATION_HEADER.encode()
_KEY: Final = b"idempotency-key"
_REPLAYED: Final = (b"idempotent-replayed", b"true")
_ETAG: Final = re.compile(r'"(\d{1,19})"')
_LONGEST_LENGTH: Final = 18
_LARGE: Final = 64 * 1024
"""Bytes of a body that takes a millisecond or more to decode."""
_LARGE_BODIES: Final = "/large bodies"
"""Their turn; no id that others take turns by has a slash."""
_TRUTHS: Final = {"true": True, "false": False}
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Media:
    """A body of a media type of its own: any JSON, which the operation reads itself.

    ``component`` is its schema in the documentation, ``example`` a body that works.
    """

    component: str
    example: Any


class EmptyBody(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the documentation and the shared steps know of an operation.

    ``query`` maps the names of query parameters to their descriptions; others are refused by name, for the same
    reason as unknown fields. ``example`` is the body of a request that works. ``media`` names the media types of a
    body that no struct describes; ``answer_type`` is that of the answer, each line of which is a ``view`` in NDJSON.
    ``alone`` names the one field of ``body`` that may also stand for the whole of it, with its type.
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
    keyed: bool
    media: Mapping[str, Media]
    answer_type: str = JSON
    alone: tuple[str, Any] | None = None

    @property
    def takes_body(self) -> bool:
        """Whether a body is read."""
        return self.body is not None or bool(self.media)

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types of a body that is taken."""
        return tuple(self.media) or (JSON,)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation found or did; ``sequence`` becomes the ETag. ``replayed``: it was answered before."""

    view: View
    sequence: int | None = None
    replayed: bool = False


@dataclass(slots=True)
class Call:
    """One request, as far as an operation needs it."""

    wiring: Wiring
    caller: Caller
    request_id: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    once: Once | None = None
    media_type: str = JSON

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
        text = _text(self.headers, b"if-match")
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
    keyed: bool = False,
    media: Mapping[str, Media] | None = None,
    alone: tuple[str, Any] | None = None,
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
        keyed: whether Idempotency-Key is heeded.
        media: the media types that are taken in the place of a struct; ``Call.media_type`` says which it was.
        alone: a field of ``body``, and its type, that may be the whole body, as google.api.http has it.
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
            keyed,
            media or {},
            alone=alone,
        )

        async def perform(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                reply = await _perform(scope, receive, described, handler)
            except Fault as fault:
                more = _accept_patch(described) if isinstance(fault, WrongMediaType) else ()
                reply = fault_reply(fault, scope["state"]["request_id"], *more)
            await reply.send_to(send)

        async def endpoint() -> None:
            """Stand for the operation where Litestar wants a function; ``perform`` is called in its place."""

        endpoint.__name__ = handler.__name__
        endpoint.__doc__ = handler.__doc__
        return HTTPRouteHandler(
            list(paths),
            http_method=[HttpMethod(method) for method in methods.split()],
            opt={"operation": described, "handler": handler},
            status_code=status,
            # A middleware that never goes on to the next: the request, parameter and response objects that Litestar
            # would make cost several times what the steps here do, which need none of them.
            middleware=[lambda app: perform],  # noqa: ARG005 -- the signature of a middleware
        )(endpoint)

    return make


async def _perform(
    scope: Scope, receive: Receive, described: Operation, handler: Callable[..., Awaitable[Answer]]
) -> Reply:
    state, rooms = scope["state"], scope["app"].state
    headers: Headers = state["headers"]
    wiring: Wiring = rooms.wiring
    require_acceptable(_text(headers, b"accept"))
    if described.takes_body:
        _require_body_headers(headers, described, wiring.settings.body_max_bytes)
    call = Call(wiring, state["caller"], state["request_id"], scope["path_params"], query_of(scope, described), headers)
    taken, raw = None, b""
    if described.takes_body:
        raw = await _read(receive, headers, wiring.settings.body_max_bytes)
        state["body_read"] = True
        if described.media:
            call.media_type = _media_type(headers)
        taken = await _body(raw, headers, described, wiring)
    if _ORGANIZATION in headers:
        call.caller = await acting(rooms, call)
    if not described.takes_body:
        return _reply(scope, described, await handler(call))
    if described.keyed and _KEY in headers and not call.validate_only:
        call.once = once_of(scope, call, raw)
    return _reply(scope, described, await handler(call, taken))


async def acting(rooms: Any, call: Call) -> Caller:
    """Give the caller, narrowed to the organization in which the request acts, if it names one."""
    named = _text(call.headers, _ORGANIZATION)
    return call.caller if named is None else await rooms.gatekeeper.acting(call.caller, named)


def once_of(scope: Scope, call: Call, body: bytes) -> Once | None:
    """Tell the request from others under its Idempotency-Key; None if it has none."""
    headers = call.headers
    if _KEY not in headers:
        return None
    key = headers[_KEY].decode("latin-1").strip()
    if not 1 <= len(key) <= KEY_MAX_CHARACTERS:
        words = f"must have 1 to {KEY_MAX_CHARACTERS} characters"
        raise Malformed("HEADER_INVALID", f"Idempotency-Key {words}", [Violation("Idempotency-Key", words, "header")])
    asked = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], headers.get(_ORGANIZATION, b""))
    return once(call.caller.token_id, key, (*asked, body), call.wiring.request_key)


def _reply(scope: Scope, described: Operation, answer: Answer) -> Reply:
    if answer.sequence is None:
        return json_reply(described.status, _ENCODER.encode(answer.view))
    etag = b'"%d"' % answer.sequence
    if scope["method"] == "GET" and _is_known(_text(scope["state"]["headers"], b"if-none-match"), etag.decode()):
        return Reply(304, [*PRIVATE, (b"etag", etag)], b"")
    more = (_REPLAYED,) if answer.replayed else ()
    return json_reply(described.status, _ENCODER.encode(answer.view), (b"etag", etag), *more)


def _text(headers: Headers, name: bytes) -> str | None:
    """Read a header as text; HTTP's bytes are Latin-1."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already; a weak comparison of a list, or ``*`` (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in known or "*" in known


def query_of(scope: Scope, described: Operation) -> dict[str, str]:
    """Read the query; a parameter that the operation does not know is refused by its name."""
    found: dict[str, str] = {}
    if not scope["query_string"]:
        return found
    for name, value in ASGIConnection[Any, Any, Any, Any](scope).query_params.multi_items():
        if name not in described.query:
            raise _query_fault(name[:100], "is not a parameter of this operation")
        if name in found:
            raise _query_fault(name, "is given twice")
        found[name] = value
    return found


def _require_body_headers(headers: Headers, described: Operation, limit: int) -> None:
    """Judge a body by what its headers say, before any of it is read."""
    length = headers.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) > limit):
        raise too_large(limit)
    if not described.optional_body or announces_body(headers):
        require_readable(headers, described)


def require_readable(headers: Headers, described: Operation) -> None:
    """Raise WrongMediaType unless a body is of a type that is taken, and plain."""
    require_media_type(_text(headers, b"content-type"), described.media_types)
    require_plain(_text(headers, b"content-encoding"))


def _media_type(headers: Headers) -> str:
    return (_text(headers, b"content-type") or JSON).partition(";")[0].strip().lower()


def _accept_patch(described: Operation) -> tuple[Header, ...]:
    """Say which media types a PATCH takes (RFC 5789, 2.2), where it takes others than all operations do."""
    return ((b"accept-patch", ", ".join(described.media).encode()),) if described.media else ()


async def _body(raw: bytes, headers: Headers, described: Operation, wiring: Wiring) -> Any:
    if described.optional_body and not announces_body(headers):
        # HTTP/2 need not announce a body.
        if not raw.strip():
            raw = b"{}"
        else:
            require_readable(headers, described)
    into: Any = Any if described.body is None else described.body
    if described.alone is None:
        return await read_body(raw, into, wiring)
    name, kind = described.alone
    taken = await read_body(raw, into | kind, wiring)
    return taken if isinstance(taken, into) else into(**{name: taken})


async def read_body(raw: bytes, into: Any, wiring: Wiring) -> Any:
    """Decode a body; large ones wait for their turn.

    Raises:
        Malformed: as ``decode()``.
        Unavailable: if too many large bodies wait.
    """
    depth = wiring.settings.body_max_depth
    if len(raw) <= _LARGE:
        return decode(raw, into, depth)
    # Decoding can't be interrupted: large bodies take turns, and whatever else waits goes between two of them.
    patience = wiring.settings.mongodb_timeout.total_seconds()
    try:
        async with wiring.turns.of(_LARGE_BODIES, patience):
            await asyncio.sleep(0)
            return decode(raw, into, depth)
    except TimeoutError:
        raise Unavailable("QUEUE_FULL", "too many large bodies wait to be read", retry_after=1) from None


async def _read(receive: Receive, headers: Headers, limit: int) -> bytes:
    length = None if b"transfer-encoding" in headers else headers.get(b"content-length")
    announced = -1 if length is None else int(length)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("BODY_TRUNCATED", "the body ended before its length")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
        # Granian says only with one message more that nothing follows: another turn through its threads and the event
        # loop for nothing, as a server gives no more than was announced.
        if size == announced or not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(limit: int) -> TooLarge:
    """Give the fault of a body over the limit, in bytes."""
    return TooLarge("BODY_TOO_LARGE", f"the body is larger than {limit} bytes", metadata={"limit": str(limit)})


def require_media_type(media_type: str | None, taken: Sequence[str]) -> None:
    """Raise WrongMediaType unless the Content-Type is one of those that are taken, in UTF-8."""
    if media_type in taken:
        return
    parts = [part.strip().lower() for part in (media_type or "").split(";")]
    charsets = [part.partition("=")[2].strip('"') for part in parts[1:] if part.startswith("charset=")]
    if parts[0] not in taken or any(charset not in {"utf-8", "utf8"} for charset in charsets):
        raise WrongMediaType("MEDIA_TYPE_UNSUPPORTED", f"the body must be {' or '.join(taken)}")


def require_plain(encoding: str | None) -> None:
    """Raise WrongMediaType for a compressed body: unpacked, it could be a thousand times the limit."""
    if encoding is not None and encoding.strip().lower() != "identity":
        raise WrongMediaType("ENCODING_UNSUPPORTED", "the body must not be compressed")


def require_acceptable(accept: str | None, offered: str = JSON) -> None:
    """Raise NotAcceptable if the Accept header leaves no room for what is offered.

    The closest range counts (RFC 9110, 12.5.1).
    """
    if accept is None or accept in {"*/*", "*", offered}:
        return
    best: tuple[int, float] | None = None
    for item in accept.split(","):
        media_range, *parameters = [part.strip().lower() for part in item.split(";")]
        closeness = {offered: 3, "application/*": 2, "*/*": 1, "": 0}.get(media_range)
        if closeness is None:
            continue
        weight = _weight(parameters)
        if best is None or closeness > best[0]:
            best = (closeness, weight)
    if best is None or best[1] == 0:
        raise NotAcceptable("NOT_ACCEPTABLE", f"only {offered} is answered")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
