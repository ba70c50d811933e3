"""``zitadel.user.v2.UserService``: people, as in ``api/v2``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schema_user import human
from schema_user.api.body import refused
from schema_user.api.v2 import users as people
from schema_user.api.v2.bodies import CreateHumanBody, HumanProfileBody, Short, UpdateHumanBody, updated_human
from schema_user.api.v3alpha.users import changed, target
from schema_user.errors import Violation
from schema_user.rpc.generated.zitadel.user.v2 import user_service_pb
from schema_user.rpc.method import Members, Method, Service

if TYPE_CHECKING:
    from schema_user.api.operation import Answer, Call

_HUMAN: Final = "human"
_BESIDE_HUMAN: Final = frozenset({"", "userId", "username", "machine", "If-Match", "Idempotency-Key"})
"""How the names of places begin that are not in it: of the message itself, or of its headers."""


class ChangeProfileBody(HumanProfileBody, kw_only=True):
    """What shall change of a profile: here even the names may be absent."""

    given_name: Short | None = None  # type: ignore[assignment]
    family_name: Short | None = None  # type: ignore[assignment]


class ChangeHumanBody(UpdateHumanBody, kw_only=True):
    """What shall change of a person; what is absent stays as it is."""

    profile: ChangeProfileBody | None = None


async def change_human(call: Call, body: ChangeHumanBody) -> Answer:
    """Update a person: all of it or nothing. What is absent stays, within the profile too."""
    return changed(await human.update_human(call.wiring, target(call), updated_human(body)))


def _of_human(members: Members) -> Members:
    """Take the members of a person out of the object that says that it is one.

    Raises:
        Malformed: for another kind of user.
    """
    if "machine" in members:
        raise refused([Violation("machine", "is not offered: users are people", "unsupported")])
    person = members.pop(_HUMAN, {})
    return {**members, **person}


def _created(members: Members) -> Members:
    """Read a ``CreateUserRequest``."""
    found = _of_human(members)
    if "organizationId" in found:
        found["organization"] = {"orgId": found.pop("organizationId")}
    return found


def _said_of_human(pointer: str) -> str:
    """Name a place in a request for a user of any kind."""
    if pointer == "organization/orgId":
        return "organizationId"
    first = pointer.partition("/")[0]
    return pointer if first in _BESIDE_HUMAN else f"{_HUMAN}/{pointer}"


def _made(members: Members) -> Members:
    return members | {"id": members["userId"], "creationDate": members["details"]["creationDate"]}


def _moved(members: Members) -> Members:
    return members | {"changeDate": members["details"]["changeDate"]}


class _Created(msgspec.Struct):
    """Where a person stands in a ``CreateUserRequest``."""

    human: CreateHumanBody | None = None


class _Changed(msgspec.Struct):
    """Where a person stands in an ``UpdateUserRequest``."""

    human: ChangeHumanBody | None = None


_ROUTES: Final = {route.opt["operation"].name: route for route in people.ROUTES}
_SAME: Final = {
    "AddHumanUser": "create_human",
    "UpdateHumanUser": "update_human",
    "GetUserByID": "get_human",
    "ListUsers": "list_humans",
    "DeleteUser": "delete_human",
    "DeactivateUser": "deactivate_human",
    "ReactivateUser": "reactivate_human",
    "LockUser": "lock_human",
    "UnlockUser": "unlock_human",
    "SetEmail": "set_human_email",
    "VerifyEmail": "verify_human_email",
    "ResendEmailCode": "resend_human_email_code",
    "SendEmailCode": "resend_human_email_code",
    "SetPhone": "set_human_phone",
    "VerifyPhone": "verify_human_phone",
    "ResendPhoneCode": "resend_human_phone_code",
    "RemovePhone": "remove_human_phone",
    "SetPassword": "set_human_password",
    "PasswordReset": "reset_human_password",
}
"""Methods, and the operations of the REST API that take and answer the same."""

_NO_PATH: Final[frozenset[str]] = frozenset({"AddHumanUser", "ListUsers"})


def _same(name: str, operation: str) -> Method:
    return Method.of(name, _ROUTES[operation], path={}) if name in _NO_PATH else Method.of(name, _ROUTES[operation])


SERVICE: Final = Service(
    user_service_pb.desc(),
    "zitadel.user.v2.UserService",
    (
        *(_same(name, operation) for name, operation in _SAME.items()),
        Method.of(
            "CreateUser",
            _ROUTES["create_human"],
            path={},
            shape=_Created,
            take=_created,
            give=_made,
            said=_said_of_human,
        ),
        Method(
            "UpdateUser",
            change_human,
            ChangeHumanBody,
            keyed=True,
            shape=_Changed,
            take=_of_human,
            give=_moved,
            said=_said_of_human,
        ),
    ),
)
