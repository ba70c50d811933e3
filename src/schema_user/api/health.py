"""Whether the service lives, whether it can work, and how it fares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, Response, get

from schema_user.api.metrics import CONTENT_TYPE
from schema_user.api.operation import JSON
from schema_user.domain.access import require
from schema_user.domain.permission import Permission
from schema_user.errors import Fault

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

_NO_STORE = {"Cache-Control": "no-store"}


@get("/health/live")
async def live() -> Response[bytes]:
    """Say that the process answers."""
    return Response(b'{"status":"live"}', media_type=JSON, headers=_NO_STORE)


@get("/health/ready")
async def ready(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Say whether the database has a primary that answers and the server is not about to stop; 503 if not."""
    hindrance = await hindered(request.app.state)
    if hindrance is not None:
        return _unready(hindrance)
    return Response(b'{"status":"ready"}', media_type=JSON, headers=_NO_STORE)


async def hindered(rooms: Any) -> bytes | None:
    """Give why nothing can be answered now, if so; ``rooms`` is the state of the application."""
    if rooms.stopping:
        return b"SERVER_STOPPING"
    try:
        await rooms.database.ping()
    except Fault:
        return b"DATABASE_UNAVAILABLE"
    return None


def _unready(reason: bytes) -> Response[bytes]:
    body = b'{"status":"unavailable","reason":"%b"}' % reason
    return Response(body, status_code=503, media_type=JSON, headers=_NO_STORE | {"Retry-After": "2"})


@get("/metrics")
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give the metrics to this machine itself, or to a caller that sees the whole instance."""
    caller = request.scope["state"].get("caller")
    if caller is not None:
        require(caller, Permission.ORG_READ, None)
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE, headers=_NO_STORE)


ROUTES: list[HTTPRouteHandler] = [live, ready, metrics]
