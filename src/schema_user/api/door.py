"""The outermost layer: every request gets an id and is let in or turned away before it is routed."""

from __future__ import annotations

import functools
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from schema_user.api.arrival import Arrival, Arrivals
from schema_user.api.cors import Cors
from schema_user.api.reply import STRICT_TRANSPORT, fault_reply, guarded, internal_reply
from schema_user.domain.access_token import DISCOVERY_PATH, TOKEN_PATH
from schema_user.domain.contact import Channel
from schema_user.domain.link import PATH, RESET_PATH
from schema_user.domain.loopback import is_loopback
from schema_user.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar import Litestar

    from schema_user.api.metrics import Metrics
    from schema_user.api.reply import Header, Reply
    from schema_user.rate_limits import Allowance, RateLimits

log = logging.getLogger("schema_user.api")

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_PAGES: Final = frozenset({RESET_PATH, *(PATH + channel for channel in Channel)})
_PUBLIC: Final = (
    frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs", DISCOVERY_PATH, TOKEN_PATH}) | _PAGES
)
_LOOPBACK_ONLY: Final = frozenset({"/ui/mailbox"})
_LOOPBACK_OR_TOKEN: Final = frozenset({"/metrics", "/ui/messages/preview"})
_LAST: Final = ((b"connection", b"close"),)
RPC_PATHS: Final = ("/zitadel.", "/grpc.")
"""How the paths of RPC services begin: by their package."""

Headers = Mapping[bytes, bytes]
"""The headers of a request, by their names in lower case."""

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
"""ASGI's three, whose types differ from one library to the next."""


class Door:
    """An ASGI application around the router: request ids, authentication, the last resort for errors, one log line."""

    def __init__(
        self,
        inner: Litestar,
        metrics: Metrics,
        *,
        body_seconds: float = 30,
        cors_origins: Sequence[str] = (),
        https: bool = False,
        rpc: Any = None,
    ) -> None:
        """Stand before ``inner``, whose state holds the gatekeeper and the rate limits while it runs.

        Args:
            inner: the router.
            metrics: where requests are counted.
            body_seconds: how long the body of a request may take to arrive.
            cors_origins: whose pages may call.
            https: whether clients come by https, through a proxy.
            rpc: what answers RPCs: an ASGI application that is given one more function, which lets the caller in.
        """
        self._inner: Any = inner
        self._rpc: Any = rpc
        self._metrics = metrics
        self._arrivals = Arrivals(body_seconds)
        self._cors = Cors(cors_origins) if cors_origins else None
        self._always: tuple[Header, ...] = (STRICT_TRANSPORT,) if https else ()
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
        exchange = _Exchange(send, scope, self._parting, self._always)
        try:
            if self._cors is not None:
                exchange.always += self._cors.headers(scope, headers)
                if (reply := self._cors.preflight(scope, headers)) is not None:
                    await exchange.answer(reply)
                    return
            if scope["path"].startswith(RPC_PATHS) and self._rpc is not None:
                let_in = functools.partial(self._let_in, state, exchange)
                await self._rpc(scope, Arrival(receive, self._arrivals).receive, exchange.send, let_in)
                return
            if self._needs_token(scope, headers):
                await self._let_in(state, exchange)
            arrival = state["arrival"] = Arrival(receive, self._arrivals)
            await self._inner(scope, arrival.receive, exchange.send)
        except Fault as fault:
            await exchange.answer(fault_reply(fault, request_id))
        except Exception as error:  # noqa: BLE001 -- the last resort: whatever it is, the client learns only that
            log_unexpected(error, request_id)
            await exchange.answer(internal_reply(request_id))
        finally:
            self._record(scope, exchange, request_id, time.perf_counter() - started)

    async def _let_in(self, state: dict[str, Any], exchange: _Exchange) -> None:
        """Find out who calls, then count the request where limits are set."""
        rooms = self._inner.state
        caller = state["caller"] = await rooms.gatekeeper.caller(bearer(state["headers"]))
        limits: RateLimits = rooms.rate_limits
        allowance = await limits.of(caller)
        if allowance.meters:
            exchange.rates = allowance, limits.now
            await limits.count(allowance)

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
        # An RPC's answer may be 200 whatever it says; by REST the same is counted as another status.
        status = scope["state"].get("status", exchange.status)
        self._metrics.observe(name, status, seconds)
        level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(
                level,
                "request",
                extra={
                    "request_id": request_id,
                    "operation": name,
                    "method": scope["method"],
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                },
            )


class _Exchange:
    """Adds to the answer what all have, and knows whether one was begun."""

    def __init__(self, send: Send, scope: Scope, parting: tuple[Header, ...], always: tuple[Header, ...]) -> None:
        self._send = send
        self._state: dict[str, Any] = scope["state"]
        self._parting = parting
        self.always = always
        self._closes = scope["http_version"].startswith("1")
        self.rates: tuple[Allowance, Callable[[], float]] | None = None
        self.status = 0

    async def send(self, message: Any) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self._state["request_id"].encode())
            headers = guarded(message.get("headers", ()))
            message["headers"] = [*headers, own, *self.always, *self._rates(), *self._ending()]
        await self._send(message)

    async def answer(self, reply: Reply) -> None:
        """Answer by itself, unless an answer was begun already."""
        if not self.status:
            await reply.send_to(self.send)

    def _rates(self) -> tuple[Header, ...]:
        """Say how many requests are left, if they are limited."""
        if self.rates is None:
            return ()
        allowance, now = self.rates
        return (b"ratelimit-policy", allowance.described), (b"ratelimit", allowance.left(now()))

    def _ending(self) -> tuple[Header, ...]:
        """Say that the connection ends if it does.

        The server closes it behind an answer to a body that was not read; a client that is not told might send its
        next request on it, and never learn what became of that. HTTP/2 has frames for that, and forbids the header
        (RFC 9113, 8.2.2).
        """
        if not self._closes:
            return ()
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


def bearer(headers: Headers) -> str | None:
    """Give the token of a request, if it brings one."""
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
