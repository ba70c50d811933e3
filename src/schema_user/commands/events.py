"""What webhooks are told of a change: found out before the change is written, and written with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_user.domain.webhook import (
    Occurrence,
    deliveries,
    schema_event_types,
    schema_pointers,
    user_event_types,
    user_pointers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.domain.webhook import Delivery
    from schema_user.wiring import Wiring


async def are_heard(wiring: Wiring, organization_id: str) -> bool:
    """Whether any webhook is told of changes in an organization."""
    return bool(await wiring.webhooks.hearing(organization_id))


async def user_deliveries(wiring: Wiring, before: User | None, after: User, request_id: str) -> Sequence[Delivery]:
    """Say which webhooks are told what of a user's change; nothing of one that no client sees."""
    if before is not None and after.sequence == before.sequence:
        return ()
    webhooks = await wiring.webhooks.hearing(after.organization_id)
    if not webhooks:
        return ()
    pointers = user_pointers(before, after)
    occurrence = Occurrence(
        after.changed_at,
        after.sequence,
        organization_id=after.organization_id,
        user_id=after.user_id,
        request_id=request_id,
        changes=pointers,
    )
    types = user_event_types(before, after, pointers)
    return deliveries(webhooks, types, occurrence, wiring.now(), wiring.random_bits)


async def schema_deliveries(
    wiring: Wiring, before: UserSchema | None, after: UserSchema, request_id: str, *, deleted: bool = False
) -> Sequence[Delivery]:
    """Say which webhooks are told what of a schema's change: those of its owner, and of the instance."""
    webhooks = await wiring.webhooks.hearing(after.organization_id)
    if not webhooks:
        return ()
    end = None if deleted else after
    occurrence = Occurrence(
        after.changed_at,
        after.sequence,
        organization_id=after.organization_id,
        schema_id=after.schema_id,
        request_id=request_id,
        changes=schema_pointers(before, end),
    )
    return deliveries(webhooks, schema_event_types(before, end), occurrence, wiring.now(), wiring.random_bits)
