"""What the services of the later generation of v3alpha share: which operation a method is, and where it acts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from schema_user.api.resources_v3alpha.scope import (
    INSTANCE_DOMAIN,
    INSTANCE_ID,
    ORGANIZATION_DOMAIN,
    ORGANIZATION_ID,
)
from schema_user.rpc.documents import carried
from schema_user.rpc.method import Method

if TYPE_CHECKING:
    from schema_user.rpc.method import Members

_WHERE: Final = {
    ("instance", "id"): INSTANCE_ID,
    ("instance", "domain"): INSTANCE_DOMAIN,
    ("organization", "orgId"): ORGANIZATION_ID,
    ("organization", "orgDomain"): ORGANIZATION_DOMAIN,
}
"""The members that say where a request acts, and the query parameters that say the same by REST."""
_BESIDE: Final = ("id", "instance/", "organization/", "If-Match", "Idempotency-Key")
"""How the names of places begin that are not in the body: of the message itself, or of its headers."""


def resource_method(name: str, route: Any, path: str | None = None, body: str | None = None) -> Method:
    """Make a method of an operation under /resources/v3alpha.

    Args:
        name: its name in the service.
        route: the operation by REST.
        path: the path parameter that the member ``id`` is; None: the message names no resource.
        body: the member that is the body by REST; None: the whole message is.
    """
    return Method.of(
        name,
        route,
        path={} if path is None else {"id": path},
        ask=_where,
        take=_whole if body is None else partial(_member, body),
        give=carried,
        said=str if body is None else partial(_within, body),
    )


def _where(members: Members) -> dict[str, str]:
    """Take the members out that say where a request acts, and give them as query parameters."""
    given = {name: members.pop(name, {}) for name in ("instance", "organization")}
    return {said: given[name][part] for (name, part), said in _WHERE.items() if part in given[name]}


def _whole(members: Members) -> Members:
    return members


def _member(name: str, members: Members) -> Members:
    found: Members = members.get(name, {})
    return found


def _within(name: str, place: str) -> str:
    """Name a place in the message for one in its member that is the body."""
    if place.startswith(_BESIDE):
        return place
    return f"{name}/{place}" if place else name
