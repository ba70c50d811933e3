"""``zitadel.management.v1.ManagementService``: the two operations of the first generation."""

from __future__ import annotations

from typing import Final

from schema_user.api import management_v1
from schema_user.rpc.generated.zitadel import management_pb
from schema_user.rpc.method import Method, Service

SERVICE: Final = Service(
    management_pb.desc(),
    "zitadel.management.v1.ManagementService",
    (
        Method.of("UpdateHumanProfile", management_v1.replace_human_profile),
        Method.of("UpdateHumanEmail", management_v1.replace_human_email),
    ),
)
