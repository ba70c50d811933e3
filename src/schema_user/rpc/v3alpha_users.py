"""``zitadel.resources.user.v3alpha.ZITADELUsers``: users, as under ``/resources/v3alpha/users``."""

from __future__ import annotations

from typing import Final

from schema_user.api.resources_v3alpha import users
from schema_user.rpc.generated.zitadel.resources.user.v3alpha import user_service_pb
from schema_user.rpc.method import Service
from schema_user.rpc.resources import resource_method

_ROUTES: Final = {route.opt["operation"].name: route for route in users.ROUTES}
_ONE: Final[dict[str, tuple[str, str | None]]] = {
    "GetUser": ("get_user_resource", None),
    "PatchUser": ("patch_user_resource", "user"),
    "DeleteUser": ("delete_user_resource", None),
    "DeactivateUser": ("deactivate_user_resource", None),
    "ActivateUser": ("activate_user_resource", None),
    "LockUser": ("lock_user_resource", None),
    "UnlockUser": ("unlock_user_resource", None),
    "SetContactEmail": ("set_contact_email", "email"),
    "VerifyContactEmail": ("verify_contact_email", None),
    "ResendContactEmailCode": ("resend_contact_email_code", None),
    "SetContactPhone": ("set_contact_phone", "phone"),
    "VerifyContactPhone": ("verify_contact_phone", None),
    "ResendContactPhoneCode": ("resend_contact_phone_code", None),
}
"""The methods that concern one user, their operations, and the member of the message that is the body by REST."""

SERVICE: Final = Service(
    user_service_pb.desc(),
    "zitadel.resources.user.v3alpha.ZITADELUsers",
    (
        resource_method("CreateUser", _ROUTES["create_user_resource"], body="user"),
        resource_method("SearchUsers", _ROUTES["search_user_resources"]),
        *(resource_method(name, _ROUTES[route], "user_id", body) for name, (route, body) in _ONE.items()),
    ),
)
