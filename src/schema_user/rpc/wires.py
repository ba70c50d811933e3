"""The RPC wires as an ASGI application, beside the router of the REST API and behind the same door.

The library (connectrpc) knows the wires: framing, compression, the forms of errors, deadlines. What happens on each of
them is decided here: who is let in before anything of a message is read, how large a message may be, and what becomes
of an error.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from connectrpc.code import Code
from connectrpc.codec import proto_binary_codec, proto_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from protobuf.wkt import Empty

from schema_user.api.door import is_local, log_unexpected
from schema_user.api.operation import require_media_type, too_large
from schema_user.api.peer import peer_network
from schema_user.api.status import http_status, status_headers
from schema_user.domain.access import require
from schema_user.domain.permission import Permission
from schema_user.errors import Fault, Malformed, Unavailable, Unsupported, Violation
from schema_user.rpc.documents import require_exact
from schema_user.rpc.faults import fault_of, refusal, unexpected
from schema_user.rpc.json_members import require_said_once
from schema_user.rpc.method import Access

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from connectrpc.request import RequestContext
    from protobuf import Message

    from schema_user.api.door import Receive, Scope, Send
    from schema_user.rpc.method import Performer, Service

_GRPC: Final = "application/grpc"
_GRPC_TYPES: Final = (_GRPC, "application/grpc+proto", "application/grpc+json")
_MEDIA_TYPES: Final = (
    "application/json",
    "application/proto",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web+json",
    *_GRPC_TYPES,
)
_DROPPED: Final = frozenset({b"content-type", b"accept-encoding", b"connect-accept-encoding", b"grpc-accept-encoding"})
_FORMS: Final = {
    b"connect-protocol-version": re.compile(rb"1"),
    b"connect-timeout-ms": re.compile(rb"\d{1,10}"),
    b"grpc-timeout": re.compile(rb"\d{1,8}[HMSmun]"),
}
"""What the library would refuse by itself, before it is known who calls."""

_STREAM_TYPES: Final = tuple(each for each in _MEDIA_TYPES if each.startswith(_GRPC))
_TRAILERS: Final = "http.response.trailers"
_LONGEST_LENGTH: Final = 18
_MOST_OF_A_STRANGER: Final = 50
"""Calls at once from one peer of what needs no token: who says nothing in them must not keep everybody else out."""
_LARGE: Final = 64 * 1024
"""Bytes of a body that takes a millisecond or more to read."""

_OK: Final = 200
_TIMED_OUT: Final = 504
_CLOSED: Final = 499


@dataclass(slots=True)
class _Exchange:
    """One request and what is known of it; ``trailing``: what goes with an error goes behind it, not before."""

    scope: Scope
    let_in: Callable[[], Awaitable[None]]
    trailing: bool


@dataclass(frozen=True, slots=True)
class _Counted:
    """What is asked for, in the place where the log and the metrics look for the operation of a route."""

    name: str

    @property
    def opt(self) -> dict[str, _Counted]:
        """Give itself, as the operation."""
        return {"operation": self}


_current: ContextVar[_Exchange] = ContextVar("rpc exchange")
"""The library hands the headers of a request on, but not the request."""


class _Codec:
    """Reads and writes messages by the library, and tells what it cannot read without a word of what is in there."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def name(self) -> str:
        return str(self._codec.name())

    def encode(self, message: Message[Any]) -> bytes:
        return bytes(self._codec.encode(message))

    def decode(self, data: bytes | bytearray, message_class: type[Message[Any]]) -> Message[Any]:
        try:
            if self.name() == "json":
                require_exact(data)
                require_said_once(bytes(data), message_class.desc())
            message: Message[Any] = self._codec.decode(data, message_class)
        except Fault as fault:
            state = _current.get().scope["state"]
            state["status"] = http_status(fault)
            raise refusal(fault, state["request_id"]) from None
        except Exception:  # noqa: BLE001 -- whatever it is, the client sent it
            raise ConnectError(Code.INVALID_ARGUMENT, "the message cannot be read") from None
        return message


class _Endpoints(dict[str, Any]):
    """The endpoints by their paths; for any other path one that refuses."""

    def get(self, path: str, _default: Any = None) -> Any:
        found = super().get(path)
        return _NOT_OFFERED if found is None else found


class _Application(ConnectASGIApplication[None]):
    """All services in one application of the library."""

    @property
    def path(self) -> str:
        return ""


class Wires:
    """Every service on every wire that the server below can carry."""

    def __init__(self, services: Sequence[Service], rooms: Any, body_max_bytes: int) -> None:
        """Offer services over ``rooms``, the state of the application, which fills when it starts."""
        self._rooms = rooms
        self._limit = body_max_bytes
        self._large = asyncio.Lock()
        self._strangers: Counter[str] = Counter()
        self._streams = {f"/{service.name}/{name}" for service in services for name in service.streams}
        self._access = {path: service.access for service in services for path in service.paths}
        endpoints = self._endpoints(services)
        self._application: Any = _Application(
            service=None,
            endpoints=lambda _: endpoints,
            interceptors=[self],
            read_max_bytes=body_max_bytes,
            codecs=[_Codec(proto_binary_codec()), _Codec(proto_json_codec())],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send, let_in: Callable[[], Awaitable[None]]) -> None:
        """Answer one request; ``let_in`` finds out who calls.

        Raises:
            Fault: for what is no request of these wires, so that it is answered as one of the REST API.
        """
        media_type = scope["state"]["headers"].get(b"content-type", b"").decode("latin-1")
        plain = media_type.partition(";")[0].strip().lower()
        wires = _STREAM_TYPES if scope["path"] in self._streams else _MEDIA_TYPES
        if scope["method"] != "POST" or plain not in wires:
            await let_in()
            if scope["method"] != "POST":
                raise Unsupported("METHOD_UNSUPPORTED", "an RPC is a POST")
            require_media_type(media_type, wires)
        if plain in _GRPC_TYPES and _TRAILERS not in scope.get("extensions", ()):
            await _send_elsewhere(send)
            return
        if scope["path"] in self._access:
            scope["route_handler"] = _Counted(scope["path"].removeprefix("/"))
        _current.set(_Exchange(scope, let_in, trailing=plain.startswith(_GRPC)))
        inner = {**scope, "root_path": "", "headers": _ascii(scope["headers"], plain)}
        answering = self._application(inner, functools.partial(self._receive, scope, receive, [0]), send)
        if self._access.get(scope["path"]) is not Access.ANYBODY:
            await answering
            return
        peer = peer_network(scope, scope["state"]["headers"], self._rooms.wiring.settings.trusted_proxies)
        self._strangers[peer] += 1
        scope["state"]["beside"] = self._strangers[peer]
        try:
            await answering
        finally:
            self._strangers -= Counter([peer])

    async def _receive(self, scope: Scope, receive: Receive, size: list[int]) -> Any:
        """Give the next piece of the body, and refuse one that is too large as soon as it is."""
        message = await receive()
        if message["type"] == "http.request":
            size[0] += len(message.get("body", b""))
            if size[0] > self._limit:
                raise too_large(self._limit)
            if not message.get("more_body", False):
                scope["state"]["body_read"] = True
                if size[0] > _LARGE:
                    # Reading a message can't be interrupted: whatever else waits goes between two large ones.
                    async with self._large:
                        await asyncio.sleep(0)
        return message

    async def on_start(self, ctx: RequestContext[Any, Any]) -> None:
        """Let a request in, before anything of its message is read.

        Raises:
            ConnectError: for whoever may not come in.
        """
        exchange = _current.get()
        try:
            await self._admit(exchange)
        except Exception as error:  # noqa: BLE001 -- the library takes errors of its own only
            raise self._told(error, exchange, ctx) from None

    async def _admit(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        headers = scope["state"]["headers"]
        access = self._access.get(scope["path"], Access.TOKEN)
        if access is Access.ANYBODY and scope["state"]["beside"] > _MOST_OF_A_STRANGER:
            raise Unavailable("QUEUE_FULL", "too many calls at once without a token", retry_after=1)
        if access is Access.TOKEN or (access is Access.VIEWER and not is_local(scope, headers)):
            await exchange.let_in()
        if access is Access.VIEWER and (caller := scope["state"].get("caller")) is not None:
            require(caller, Permission.ORG_READ, None)
        for name, form in _FORMS.items():
            if name in headers and not form.fullmatch(headers[name]):
                words = "is not of the form that it must have"
                raise Malformed(
                    "HEADER_INVALID", f"{name.decode()} {words}", [Violation(name.decode(), words, "header")]
                )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) > self._limit:
            raise too_large(self._limit)

    async def on_end(self, _token: None, ctx: RequestContext[Any, Any], error: Exception | None) -> None:
        """Turn what went wrong into what the client is told.

        Raises:
            ConnectError: in the place of ``error``.
        """
        if error is not None:
            raise self._told(error, _current.get(), ctx)

    def _told(self, error: Exception, exchange: _Exchange, ctx: RequestContext[Any, Any]) -> ConnectError:
        """Give what the client is told of an error, and note the status by which it is counted."""
        state = exchange.scope["state"]
        request_id: str = state["request_id"]
        if isinstance(error, ConnectError):
            fault = None if error.details else fault_of(error, self._limit)
            if fault is None:
                if not error.details:
                    state["status"] = _TIMED_OUT if error.code is Code.DEADLINE_EXCEEDED else _CLOSED
                return error
        elif isinstance(error, Fault):
            fault = error
        else:
            log_unexpected(error, request_id)
            state["status"] = 500
            return unexpected(request_id)
        state["status"] = http_status(fault)
        more = ctx.response_trailers if exchange.trailing else ctx.response_headers
        for name, value in status_headers(fault).items():
            more[name.lower()] = value
        return refusal(fault, request_id)

    def _endpoints(self, services: Sequence[Service]) -> _Endpoints:
        found = _Endpoints()
        for service in services:
            for method in service.methods:
                info = _info(service, method.name, StreamType.UNARY)
                function = functools.partial(self._answer, method, info.output)
                found[f"/{service.name}/{method.name}"] = Endpoint.unary(info, function)
            for name, stream in service.streams.items():
                info = _info(service, name, StreamType.BIDI_STREAM)
                found[f"/{service.name}/{name}"] = Endpoint.bidi_stream(info, stream)
        return found

    async def _answer(
        self, method: Performer, kind: type[Message[Any]], request: Message[Any], ctx: RequestContext[Any, Any]
    ) -> Message[Any]:
        """Do what is asked, to its end: a client that is gone, or whose deadline is over, must not undo half of it."""
        scope = _current.get().scope
        doing = asyncio.ensure_future(method.perform(self._rooms, scope, request, kind))
        try:
            message, answer = await asyncio.shield(doing)
        except asyncio.CancelledError:
            doing.add_done_callback(functools.partial(_abandoned, scope["state"]["request_id"]))
            raise
        if answer is not None and answer.sequence is not None:
            ctx.response_headers["etag"] = f'"{answer.sequence}"'
        if answer is not None and answer.replayed:
            ctx.response_headers["idempotent-replayed"] = "true"
        return message


def _info(service: Service, name: str, stream: StreamType) -> MethodInfo[Any, Any]:
    declared = service.declared(name)
    return MethodInfo(
        name=name,
        service_name=service.name,
        input=declared.input.type,
        output=declared.output.type,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=stream,
    )


async def _refuse(_request: Empty, _ctx: RequestContext[Any, Any]) -> Empty:
    raise Unsupported("RPC_UNSUPPORTED", "there is no such RPC here")


_NOT_OFFERED: Final = Endpoint.unary(
    MethodInfo(
        name="",
        service_name="",
        input=Empty,
        output=Empty,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    ),
    _refuse,
)


def _ascii(headers: Sequence[tuple[bytes, bytes]], media_type: str) -> list[tuple[bytes, bytes]]:
    """Give headers that the library can decode, which takes them for UTF-8; HTTP's bytes are any.

    It compares the content type as it is written, so it gets it without parameters, and what has not the form that it
    must have is left for ``_admit()``. What a client would take
    compressed it is not told, as an answer is never compressed: that takes long, and tells of secrets by their length.
    """
    found = [
        (name, value if value.isascii() else value.decode("latin-1").encode())
        for name, value in headers
        if name not in _DROPPED and (name not in _FORMS or _FORMS[name].fullmatch(value))
    ]
    return [*found, (b"content-type", media_type.encode())]


def _abandoned(request_id: str, doing: asyncio.Future[Any]) -> None:
    """Log what nobody is there to be told of any more."""
    error = None if doing.cancelled() else doing.exception()
    if error is not None and not isinstance(error, Fault):
        log_unexpected(error, request_id)


async def _send_elsewhere(send: Send) -> None:
    """Tell a gRPC client, by the head of an answer alone, that this port cannot end one as gRPC does, by trailers."""
    headers = [
        (b"content-type", _GRPC.encode()),
        (b"grpc-status", b"12"),
        (b"grpc-message", b"plain gRPC is served on the port of its own (SCHEMA_USER_GRPC_PORT)"),
    ]
    await send({"type": "http.response.start", "status": _OK, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
