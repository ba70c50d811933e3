"""Plain gRPC on a port of its own: HTTP/2 by grpcio, and behind it the same door as for everybody else.

granian cannot send the trailers that end an answer of gRPC. grpcio can, and bounds what a hostile client may do to a
connection; but of a call it takes only the transport. Each one becomes a request of ASGI here, in gRPC's own framing,
so that who may call, the limits, the errors, the log and the metrics are those of every other wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import grpc

from schema_user.api.door import RPC_PATHS
from schema_user.api.reply import GUARDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CODES: Final = {str(code.value[0]): code for code in grpc.StatusCode}
_MAX_CALLS: Final = 1000
"""Calls in one process at once; the next ones are refused with RESOURCE_EXHAUSTED."""

_OPTIONS: Final = (
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.server_handshake_timeout_ms", 30_000),
    ("grpc.max_connection_idle_ms", 300_000),
)
"""Of one connection: calls at once, bytes of metadata; a peer that does not answer a ping is gone, one that says
nothing at all has to go."""

_QUOTING_LOGGER: Final = "grpc._cython.cygrpc"
"""Logs metadata that is not UTF-8 as it came, tokens too. What goes wrong behind the door is logged there."""

_FRAME: Final = 5
"""Bytes before each message of gRPC: whether it is compressed, and its length."""

_KEPT_BACK: Final = frozenset({"content-type", "content-length", "connection", *(name.decode() for name, _ in GUARDS)})
"""Headers that are no metadata: the transport has its own, and what guards browsers is for them."""


async def listening(
    door: Callable[..., Awaitable[None]], address: str, *, shared: bool, body_max_bytes: int, connections: int
) -> grpc.aio.Server:
    """Answer gRPC at ``address`` (``host:port``) until the server that is given is stopped.

    ``shared``: whether other processes listen there too. ``connections`` are held at once, and those beyond are closed:
    each is a file, of which the process needs some for others. A message that is far over the limit is refused by
    grpcio itself; of one that is less the client is told as on every other wire.

    Raises:
        OSError: if nothing can listen there.
    """
    logging.getLogger(_QUOTING_LOGGER).setLevel(logging.CRITICAL)
    options = (
        *_OPTIONS,
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_receive_message_length", 2 * body_max_bytes),
    )
    server = grpc.aio.server(handlers=[_Calls(door)], options=options, maximum_concurrent_rpcs=_MAX_CALLS)
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        message = f"gRPC cannot listen on {address}"
        raise OSError(message) from None
    await server.start()
    return server


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Takes every call, whatever it is named; which ones there are is known behind the door."""

    def __init__(self, door: Callable[..., Awaitable[None]]) -> None:
        self._door = door

    def service(self, handler_call_details: Any) -> Any:
        """Give what answers a call; on the wire, one message and several look alike. None: nothing does."""
        if not handler_call_details.method.startswith(RPC_PATHS):
            return None
        return grpc.stream_stream_rpc_method_handler(functools.partial(self._answer, handler_call_details))

    async def _answer(self, details: Any, _requests: Any, context: Any) -> None:
        call = _Call(context)
        await self._door(_scope(details, context), call.receive, call.send)
        call.end()


class _Call:
    """One call, as ASGI's ``receive`` and ``send``."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._whole = False
        self._status: dict[str, str] = {}

    async def receive(self) -> Any:
        """Give the next message; behind the last one, wait: whoever hangs up ends the task."""
        if self._whole:
            await asyncio.Event().wait()
        message = await self._context.read()
        if message is grpc.aio.EOF:
            self._whole = True
            return {"type": "http.request", "body": b"", "more_body": False}
        framed = b"\x00" + len(message).to_bytes(_FRAME - 1, "big") + message
        return {"type": "http.request", "body": framed, "more_body": True}

    async def send(self, message: Any) -> None:
        """Pass a piece of the answer on; its status waits until the end."""
        if message["type"] == "http.response.body":
            if body := message.get("body"):
                with contextlib.suppress(grpc.aio.InternalError):  # the client is gone
                    await self._context.write(bytes(body[_FRAME:]))
            return
        headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        if message["type"] == "http.response.trailers" or any(name == "grpc-status" for name, _ in headers):
            self._status |= headers
        else:
            with contextlib.suppress(grpc.aio.InternalError):
                await self._context.send_initial_metadata(_metadata(headers))

    def end(self) -> None:
        """Say how it went; no word of it means that nobody could answer."""
        status = self._status
        self._context.set_code(_CODES.get(status.pop("grpc-status", ""), grpc.StatusCode.INTERNAL))
        self._context.set_details(unquote(status.pop("grpc-message", "")))
        self._context.set_trailing_metadata(_metadata(status.items()))


def _metadata(headers: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Give headers as metadata; what is binary travels as it is."""
    return tuple(
        (name, b64decode(value + "===") if name.endswith("-bin") else value)
        for name, value in headers
        if name not in _KEPT_BACK
    )


def _scope(details: Any, context: Any) -> dict[str, Any]:
    metadata = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in details.invocation_metadata
        if name not in {"host", "content-type"}
    ]
    # The peer's name for this machine is not told by grpcio. It matters where a page in a browser could be led to ask
    # this machine itself, and no page can open a connection of plain HTTP/2.
    metadata += [(b"host", b"localhost"), (b"content-type", b"application/grpc+proto")]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "2",
        "method": "POST",
        "scheme": "http",
        "path": details.method,
        "root_path": "",
        "query_string": b"",
        "headers": metadata,
        "client": _peer(context.peer()),
        "extensions": {"http.response.trailers": {}},
    }


def _peer(peer: str) -> tuple[str, int] | None:
    """Read ``ipv4:127.0.0.1:50000`` and ``ipv6:%5B::1%5D:50000``."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    return (host.strip("[]"), int(port)) if kind in {"ipv4", "ipv6"} and port.isdigit() else None
