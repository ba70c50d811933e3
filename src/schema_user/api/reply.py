"""What goes out: status, headers and body as bytes, in the words of the server. The door adds the request's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schema_user.api.status import http_status, internal_body, status_body, status_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from schema_user.errors import Fault

Header = tuple[bytes, bytes]

GUARDS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""What keeps browsers from taking an answer for something else: on every one, unless a page sets its own."""

STRICT_TRANSPORT: Final[Header] = (b"strict-transport-security", b"max-age=31536000")
"""Only where clients come by https. Nothing is said of subdomains: they may not be ours."""

PRIVATE: Final[tuple[Header, ...]] = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, x-zitadel-orgid"),
)
_JSON: Final[tuple[Header, ...]] = (*GUARDS, (b"content-type", b"application/json"), *PRIVATE)


@dataclass(slots=True)
class Reply:
    """One whole answer."""

    status: int
    headers: list[Header]
    body: bytes

    async def send_to(self, send: Callable[[Any], Awaitable[None]]) -> None:
        """Send it by an ASGI server's function."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def guarded(headers: Sequence[Header]) -> Sequence[Header]:
    """Add what is missing of ``GUARDS``; what begins with them, as a ``json_reply`` does, has them all."""
    if headers and headers[0] is GUARDS[0]:
        return headers
    named = {name.lower() for name, _ in headers}
    return [*headers, *(guard for guard in GUARDS if guard[0] not in named)]


def json_reply(status: int, body: bytes, *more: Header) -> Reply:
    """Answer with JSON and further headers."""
    return Reply(status, [*_JSON, (b"content-length", b"%d" % len(body)), *more], body)


def fault_reply(fault: Fault, request_id: str, *more: Header) -> Reply:
    """Answer with a fault, as google.rpc.Status."""
    own = [(name.lower().encode(), value.encode()) for name, value in status_headers(fault).items()]
    return json_reply(http_status(fault), status_body(fault, request_id), *own, *more)


def internal_reply(request_id: str) -> Reply:
    """Answer that something unexpected happened, and nothing of what."""
    return json_reply(500, internal_body(request_id))
