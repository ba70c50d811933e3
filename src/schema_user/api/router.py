"""Every route in one application, and what becomes of an error that no operation expected."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Response
from litestar.enums import HttpMethod, MediaType
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.plugins.core import MsgspecDIPlugin

from schema_user.api import docs, health, management_v1, oauth, ui
from schema_user.api.door import log_unexpected
from schema_user.api.operation import too_large
from schema_user.api.pages import password, preview, verification
from schema_user.api.reply import fault_reply, internal_reply
from schema_user.api.resources_v3alpha import schemas as schema_resources
from schema_user.api.resources_v3alpha import users as user_resources
from schema_user.api.v2 import users as people
from schema_user.api.v3alpha import (
    access,
    dry_runs,
    exports,
    history,
    imports,
    indexing,
    messages,
    migrations,
    organizations,
    passwords,
    revisions,
    schemas,
    tokens,
    users,
    webhooks,
)
from schema_user.errors import Fault, Malformed, Missing, Unsupported

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from litestar.datastructures import State
    from litestar.plugins import PluginProtocol

ROUTES: list[HTTPRouteHandler] = [
    *users.ROUTES,
    *passwords.ROUTES,
    *people.ROUTES,
    *management_v1.ROUTES,
    *history.ROUTES,
    *access.ROUTES,
    *imports.ROUTES,
    *exports.ROUTES,
    *schemas.ROUTES,
    *revisions.ROUTES,
    *migrations.ROUTES,
    *dry_runs.ROUTES,
    *indexing.ROUTES,
    *user_resources.ROUTES,
    *schema_resources.ROUTES,
    *organizations.ROUTES,
    *tokens.ROUTES,
    *messages.ROUTES,
    *webhooks.ROUTES,
    *oauth.ROUTES,
    *health.ROUTES,
    *docs.ROUTES,
    *ui.ROUTES,
    *verification.ROUTES,
    *password.ROUTES,
    *preview.ROUTES,
]


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Turn whatever left a handler, or the router itself, into a google.rpc.Status."""
    request_id = request.scope["state"].get("request_id", "")
    fault = _fault(request, error)
    if fault is None:
        log_unexpected(error, request_id)
        reply = internal_reply(request_id)
    else:
        reply = fault_reply(fault, request_id)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    if isinstance(error, MethodNotAllowedException) and error.headers:
        headers |= error.headers
    return Response(reply.body, status_code=reply.status, headers=headers)


def _fault(request: Request[Any, Any, Any], error: Exception) -> Fault | None:
    if isinstance(error, Fault):
        return error
    if isinstance(error, NotFoundException):
        return Missing("PATH_UNKNOWN", "there is nothing at this path")
    if isinstance(error, MethodNotAllowedException):
        return Unsupported("METHOD_UNSUPPORTED", f"{request.method} is not allowed at this path")
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return too_large(request.app.state.wiring.settings.body_max_bytes)
        if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Malformed("REQUEST_INVALID", "the request is malformed")
    return None


def _options() -> list[HTTPRouteHandler]:
    """Answer OPTIONS with all methods of a path; Litestar's own answer knows those of the path's first route only."""
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        for path in route.paths:
            methods.setdefault(path, {"OPTIONS"}).update(map(str, route.http_methods))

    def at(path: str, allow: str) -> HTTPRouteHandler:
        async def options() -> Response[None]:
            return Response(None, status_code=204, headers={"Allow": allow}, media_type=MediaType.TEXT)

        return HTTPRouteHandler(path, http_method=HttpMethod.OPTIONS, status_code=204)(options)

    return [at(path, ", ".join(sorted(found))) for path, found in methods.items()]


class _Router(Litestar):
    """Litestar without its plugins for models of pydantic and attrs: no route has any, and to read them takes long."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def make_router(state: State, lifespan: Callable[[Litestar], contextlib.AbstractAsyncContextManager[None]]) -> Litestar:
    """Make the application.

    ``state`` holds ``metrics`` and ``openapi``, which makes the reference; ``lifespan`` adds ``wiring``,
    ``gatekeeper``, ``previews`` and ``database`` to it while the application runs.
    """
    return _Router(
        route_handlers=[*_options(), *ROUTES],
        state=state,
        lifespan=[lifespan],
        openapi_config=None,
        exception_handlers={Exception: _answer},
        request_max_body_size=None,
        logging_config=None,
        debug=False,
    )
