"""``zitadel.resources.userschema.v3alpha.ZITADELUserSchemas``: as under ``/resources/v3alpha/user_schemas``."""

from __future__ import annotations

from typing import Final

from schema_user.api.resources_v3alpha import schemas
from schema_user.rpc.generated.zitadel.resources.userschema.v3alpha import user_schema_service_pb
from schema_user.rpc.method import Service
from schema_user.rpc.resources import resource_method

_ROUTES: Final = {route.opt["operation"].name: route for route in schemas.ROUTES}

SERVICE: Final = Service(
    user_schema_service_pb.desc(),
    "zitadel.resources.userschema.v3alpha.ZITADELUserSchemas",
    (
        resource_method("SearchUserSchemas", _ROUTES["search_schema_resources"]),
        resource_method("CreateUserSchema", _ROUTES["create_schema_resource"], body="userSchema"),
        resource_method("GetUserSchema", _ROUTES["get_schema_resource"], "schema_id"),
        resource_method("PatchUserSchema", _ROUTES["patch_schema_resource"], "schema_id", "userSchema"),
        resource_method("DeactivateUserSchema", _ROUTES["deactivate_schema_resource"], "schema_id"),
        resource_method("ReactivateUserSchema", _ROUTES["reactivate_schema_resource"], "schema_id"),
        resource_method("DeleteUserSchema", _ROUTES["delete_schema_resource"], "schema_id"),
    ),
)
