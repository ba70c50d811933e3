"""``grpc.health.v1.Health``: readiness for load balancers that speak gRPC, by the rules of ``/health/ready``.

Anybody may ask, as anybody may ask that page. ``Watch`` is not offered: the specification has clients take that for a
service that is well, and a stream for each would outlive every limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schema_user.api.health import hindered
from schema_user.errors import Missing
from schema_user.rpc.generated.grpc.health.v1 import health_pb
from schema_user.rpc.generated.grpc.health.v1.health_pb import HealthCheckRequest, HealthCheckResponse
from schema_user.rpc.method import Access, Service

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Check:
    names: frozenset[str]
    name: str = "Check"

    async def perform(
        self, rooms: Any, _scope: Any, request: HealthCheckRequest, _kind: Any
    ) -> tuple[HealthCheckResponse, None]:
        """Say whether everything can be answered now; the empty name means all services.

        Raises:
            Missing: for a name that is not one of the services.
        """
        if request.service not in self.names:
            raise Missing("RPC_UNKNOWN", "there is no such service here")
        status = HealthCheckResponse.ServingStatus
        return HealthCheckResponse(status=status.NOT_SERVING if await hindered(rooms) else status.SERVING), None


def health(services: Iterable[Service]) -> Service:
    """Tell the health of services, which is one for all of them."""
    names = frozenset({"", *(service.name for service in services)})
    return Service(health_pb.desc(), "grpc.health.v1.Health", (_Check(names),), Access.ANYBODY)
