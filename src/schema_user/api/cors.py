"""Which pages of other origins may call the API from a browser (the Fetch standard, 3.3: CORS).

A page needs a token for whatever needs one, as every client does; cookies are not used, so credentials are never
allowed. The pages for people and the metrics are left out: this machine itself may see some of them without a token,
and so could a page that its browser shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.api.reply import GUARDS, Reply
from schema_user.domain.access_token import TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.api.door import Headers, Scope
    from schema_user.api.reply import Header

_METHODS: Final = b"GET, POST, PUT, PATCH, DELETE"
_TAKEN: Final = (
    b"authorization, content-type, if-match, if-none-match, idempotency-key, x-request-id, x-zitadel-orgid, accept,"
    b" connect-protocol-version, connect-timeout-ms, grpc-timeout, x-grpc-web, x-user-agent"
)
_SHOWN: Final = (
    b"etag, retry-after, x-request-id, idempotent-replayed, ratelimit, ratelimit-policy, www-authenticate, allow,"
    b" accept-patch, grpc-status, grpc-message, grpc-status-details-bin"
)
_PREFLIGHT_SECONDS: Final = b"7200"
"""How long a browser may remember a preflight; none remembers it for longer than two hours."""

_VARY: Final[tuple[Header, ...]] = ((b"vary", b"Origin"),)
_NOT_CROSSED: Final = "/ui/"
_NEVER_CROSSED: Final = frozenset({"/metrics", TOKEN_PATH})
"""A token's secret is not for a page."""


class Cors:
    """The origins that are let in, each exactly as browsers write it; never ``*``, nor ``null``, which anybody is."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Let in these origins, such as ``https://app.example.com``."""
        self._shown: dict[bytes, tuple[Header, ...]] = {
            origin.encode(): (
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", _SHOWN),
                *_VARY,
            )
            for origin in origins
        }

    def headers(self, scope: Scope, headers: Headers) -> tuple[Header, ...]:
        """Give what is added to an answer; whether the origin is let in or not, a cache must tell the answers apart."""
        if not _crossed(scope["path"]):
            return ()
        return self._shown.get(headers.get(b"origin", b""), _VARY)

    def preflight(self, scope: Scope, headers: Headers) -> Reply | None:
        """Answer a browser that asks whether a page may send a request; None: it is no such question, or no."""
        if (
            scope["method"] != "OPTIONS"
            or headers.get(b"origin") not in self._shown
            or b"access-control-request-method" not in headers
            or not _crossed(scope["path"])
        ):
            return None
        allowed = (
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _TAKEN),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        )
        return Reply(204, [*GUARDS, *allowed], b"")


def _crossed(path: str) -> bool:
    return not path.startswith(_NOT_CROSSED) and path not in _NEVER_CROSSED
