"""Patching a user's data: a part is changed, the whole is judged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.fields import permit_document, seen_data
from schema_user.commands.users import with_document
from schema_user.domain.access import require_user
from schema_user.domain.patch import Limits
from schema_user.domain.permission import Permission
from schema_user.errors import Fault, Malformed, Unmet

if TYPE_CHECKING:
    from schema_user.commands.fields import PermittedDocument
    from schema_user.domain.patch import Patch
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

_LONGEST_STRETCH: Final = 0.005
"""Seconds that operations of a patch may take before others have the event loop."""


async def patch_data(wiring: Wiring, target: Target, patch: Patch) -> Decision:
    """Change a user's data by a patch, applied to the latest data as the caller sees it.

    Raises:
        Missing: if the user is not there for the caller.
        Denied: without ``user.write``, unless the caller is the user, or for fields that it may not write.
        StaleSequence: if the user is not at the expected sequence.
        Malformed: if an operation leads nowhere, or the data would go over a limit.
        Unmet: if a test of the patch fails, the schema is inactive, or the result does not match it.
        Aborted: if the race against other writers was lost.
    """

    def permit(user: User) -> None:
        require_user(target.caller, Permission.USER_WRITE, user)

    outcome: PermittedDocument | Fault | None = None

    async def permit_values(user: User) -> None:
        nonlocal outcome
        seen = await seen_data(wiring, target.caller, user)
        try:
            data = await patched(wiring, patch, seen)
        except (Malformed, Unmet) as fault:
            # Not yet: whoever made the patch for an earlier sequence, and said so, shall learn that it moved on.
            outcome = fault
        else:
            outcome = await permit_document(wiring, target.caller, user, None, data)

    async def decide(user: User) -> Decision:
        if isinstance(outcome, Fault):
            raise outcome
        return Decision(user if outcome is None else await with_document(wiring, user, outcome))

    return await change_user(wiring, target, permit, decide, permit_values)


async def patched(wiring: Wiring, patch: Patch, data: dict[str, Any]) -> dict[str, Any]:
    """Give what a patch makes of data; others have the event loop in between."""
    # In an update, data stands one level deep in the body: what is stored can be sent back as it is.
    limits = Limits(wiring.settings.body_max_bytes, wiring.settings.body_max_depth - 1)
    loop = asyncio.get_running_loop()
    since = loop.time()
    for stage in patch.stages(data, limits):
        data = stage
        if loop.time() - since > _LONGEST_STRETCH:
            await asyncio.sleep(0)
            since = loop.time()
    return data
