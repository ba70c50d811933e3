"""Where a request of the later generation acts: its messages name an instance and an organization.

On REST both are query parameters, as what is neither in the path nor in the body is in google.api.http; they say the
same as the header ``x-zitadel-orgid``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from schema_user.api.body import refused
from schema_user.authentication import narrowed
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_user.api.operation import Answer, Call

INSTANCE_ID: Final = "instance.id"
INSTANCE_DOMAIN: Final = "instance.domain"
ORGANIZATION_ID: Final = "organization.orgId"
ORGANIZATION_DOMAIN: Final = "organization.orgDomain"

INSTANCE: Final = {
    INSTANCE_ID: "The id of this instance; another one is refused.",
    INSTANCE_DOMAIN: "Refused: an instance is named by its id.",
}
SCOPE: Final = {
    **INSTANCE,
    ORGANIZATION_ID: "The organization in which the request acts, as `x-zitadel-orgid` says it; never another one.",
    ORGANIZATION_DOMAIN: "Refused: an organization is named by its id.",
}


def scoped(handler: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """Let an operation act in the organization that its request names.

    The operation raises beside its own:
        Malformed: for a domain, for another instance, or if header and request name different organizations.
        Missing: for an organization in which the caller has no role.
    """

    @functools.wraps(handler)
    async def within(call: Call, *body: object) -> Answer:
        if call.query:
            await _narrow(call)
        return await handler(call, *body)

    return within


async def _narrow(call: Call) -> None:
    found = [
        Violation(name.replace(".", "/"), "is not offered; give the id", "unsupported")
        for name in (INSTANCE_DOMAIN, ORGANIZATION_DOMAIN)
        if name in call.query
    ]
    if call.query.get(INSTANCE_ID, call.wiring.instance_id) != call.wiring.instance_id:
        found.append(Violation("instance/id", "is not the id of this instance", "instance"))
    organization = call.query.get(ORGANIZATION_ID)
    if organization is not None and call.caller.acting not in {None, organization}:
        found.append(Violation("organization/orgId", "differs from the header x-zitadel-orgid", "organization"))
    if found:
        raise refused(found)
    if organization is not None:
        call.caller = await narrowed(call.wiring, call.caller, organization)
