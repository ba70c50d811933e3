"""Every service that is offered, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.rpc import management, v2_users, v3alpha_user_schemas, v3alpha_users
from schema_user.rpc.health import health
from schema_user.rpc.reflection import reflection

if TYPE_CHECKING:
    from schema_user.rpc.method import Service

_OPERATIONS: Final[tuple[Service, ...]] = (
    v2_users.SERVICE,
    management.SERVICE,
    v3alpha_users.SERVICE,
    v3alpha_user_schemas.SERVICE,
)

_HEALTH: Final = health(_OPERATIONS)

SERVICES: Final[tuple[Service, ...]] = (*_OPERATIONS, _HEALTH, *reflection((*_OPERATIONS, _HEALTH)))
