"""The outermost layer: every request gets an id and is let in or turned away before it is routed."""

from __future__ import annotations

import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from schema_user.api.reply import fault_reply, internal_reply
from schema_user.domain.message import is_loopback
from schema_user.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar import Litestar

    from schema_user.api.metrics import Metrics
    from schema_user.api.reply import Header, Reply

log = logging.getLogger("schema_user.api")

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_PUBLIC: Final = frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs"})
_LOOPBACK_ONLY: Final = frozenset({"/ui/mailbox"})
_LOOPBACK_OR_TOKEN: Final = frozenset({"/metrics"})
_LAST: Final = ((b"connection", b"close"),)

Headers = Mapping[bytes, bytes]
"""The headers of a request, by their names in lower case."""

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
"""ASGI's three, whose types differ from one library to the next."""


class Door:
    """An ASGI application around the router: request ids, authentication, the last resort for errors, one log line."""

    def __init__(self, inner: Litestar, metrics: Metrics) -> None:
        """Stand before ``inner``, whose state holds the gatekeeper while it runs."""
        self._inner: Any = inner
        self._metrics = metrics
        self._parting: tuple[Header, ...] = ()

    def close_soon(self) -> None:
        """Answer from now on as one who stops: not ready, and each answer is the last one of its connection."""
        self._inner.state.stopping = True
        self._parting = _LAST

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI protocol."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        headers = _headers(scope["headers"])
        request_id = self._request_id(headers.get(b"x-request-id"))
        state = scope["state"] = {**scope.get("state", {}), "request_id": request_id, "headers": headers}
        exchange = _Exchange(send, state, self._parting)
        try:
            if self._needs_token(scope, headers):
                state["caller"] = await self._inner.state.gatekeeper.caller(_bearer(headers))
            await self._inner(scope, receive, exchange.send)
        except Fault as fault:
            await exchange.answer(fault_reply(fault, request_id))
        except Exception as error:  # noqa: BLE001 -- the last resort: whatever it is, the client learns only that
            log_unexpected(error, request_id)
            await exchange.answer(internal_reply(request_id))
        finally:
            self._record(scope, exchange, request_id, time.perf_counter() - started)

    @staticmethod
    def _request_id(given: bytes | None) -> str:
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return secrets.token_hex(8)

    @staticmethod
    def _needs_token(scope: Scope, headers: Headers) -> bool:
        path = scope["path"]
        if path in _PUBLIC:
            return False
        if path in _LOOPBACK_ONLY or path in _LOOPBACK_OR_TOKEN:
            return not is_local(scope, headers)
        return True

    def _record(self, scope: Scope, exchange: _Exchange, request_id: str, seconds: float) -> None:
        handler = scope.get("route_handler")
        described = None if handler is None else handler.opt.get("operation")
        name = "none" if described is None else described.name
        self._metrics.observe(name, exchange.status, seconds)
        level = logging.WARNING if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(
                level,
                "request",
                extra={
                    "request_id": request_id,
                    "operation": name,
                    "method": scope["method"],
                    "status": exchange.status,
                    "ms": round(seconds * 1000, 2),
                },
            )


class _Exchange:
    """Adds to the answer what all have, and knows whether one was begun."""

    def __init__(self, send: Send, state: dict[str, Any], parting: tuple[Header, ...]) -> None:
        self._send = send
        self._state = state
        self._parting = parting
        self.status = 0

    async def send(self, message: Any) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self._state["request_id"].encode())
            message["headers"] = [*message.get("headers", ()), own, *self._ending()]
        await self._send(message)

    async def answer(self, reply: Reply) -> None:
        """Answer by itself, unless an answer was begun already."""
        if not self.status:
            await reply.send_to(self.send)

    def _ending(self) -> tuple[Header, ...]:
        """Say that the connection ends if it does.

        The server closes it behind an answer to a body that was not read; a client that is not told might send its
        next request on it, and never learn what became of that.
        """
        unread = "body_read" not in self._state and announces_body(self._state["headers"])
        return _LAST if unread else self._parting


def _headers(pairs: Sequence[Header]) -> Headers:
    """Put headers into a dictionary; those of one name are one, as a list (RFC 9110, 5.3)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for name in found:
            found[name] = b", ".join(value for each, value in pairs if each == name)
    return found


def announces_body(headers: Headers) -> bool:
    """Whether a request says that it has a body."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _bearer(headers: Headers) -> str | None:
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    return secret.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def is_local(scope: Scope, headers: Headers) -> bool:
    """Whether the peer is this machine itself, not a proxy on it and not a page that resolved a name to it."""
    client = scope.get("client")
    host = headers.get(b"host", b"").decode("latin-1")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    forwarded = any(key == b"forwarded" or key.startswith(b"x-forwarded-") for key in headers)
    return client is not None and is_loopback(client[0]) and is_loopback(name) and not forwarded


def log_unexpected(error: BaseException, request_id: str) -> None:
    """Log an unexpected error by its type and place only: its text might hold a user's values."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected %s\n%s", type(error).__name__, frames, extra={"request_id": request_id})
