"""Messages that could not be sent yet: try them again, or drop them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from schema_user.commands.change import require_active_organization
from schema_user.domain.access import reached_message, require
from schema_user.domain.message import WAITING, WEBHOOK
from schema_user.domain.permission import Permission
from schema_user.errors import Aborted, Unmet

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.domain.caller import Caller
    from schema_user.domain.message import SeenMessage
    from schema_user.wiring import Wiring

_TRIES: Final = 10


async def retry_message(wiring: Wiring, caller: Caller, message_id: str) -> SeenMessage:
    """Let a message that waits or was parked be sent now; its tries are counted anew.

    What a webhook was told already is told again, as long as it is kept. A message that nobody could use any more, such
    as that of a code that expired, is dropped by the worker instead.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``message.write`` in its organization.
        Unmet: if it was sent or dropped, or its organization is not active.
        Aborted: while a worker sends it.
    """
    for _ in range(_TRIES):
        seen = await _waiting(wiring, caller, message_id, Permission.MESSAGE_WRITE, again=True)
        now = wiring.now()
        if await wiring.outbox.retry(seen, now):
            wiring.relay.wake()
            return replace(seen, state="pending", tries=0, next_at=now, leased=False, done_at=None)
    raise _race_lost()


async def drop_message(wiring: Wiring, caller: Caller, message_id: str) -> SeenMessage:
    """Give up a message that waits or was parked: it is not sent, and what was sealed in it is erased.

    Raises:
        Missing, Unmet, Aborted: as for a retry.
        Denied: without ``message.delete`` in its organization.
    """
    for _ in range(_TRIES):
        seen = await _waiting(wiring, caller, message_id, Permission.MESSAGE_DELETE)
        # Of a deleted user nothing may stay behind, not even a masked address. Asked after the message was read: who
        # deletes the user from now on finds the message, and erases that too.
        masked = seen.recipient if await _known(wiring, seen) else None
        now = wiring.now()
        if await wiring.outbox.drop(seen, now, masked):
            return replace(seen, state="dropped", recipient=masked, leased=False, done_at=now)
    raise _race_lost()


async def _known(wiring: Wiring, seen: SeenMessage) -> bool:
    """Whether it may still be told whom a message was for: its user is there, or it was a webhook."""
    return seen.kind == WEBHOOK or (seen.user_id is not None and await wiring.users.find(seen.user_id) is not None)


async def _waiting(
    wiring: Wiring, caller: Caller, message_id: str, permission: Permission, *, again: bool = False
) -> SeenMessage:
    """Give a message that the caller may change, and that is neither done nor in a worker's hands.

    ``again``: one that a webhook was told is as good as one that waits.
    """
    seen = reached_message(caller, await wiring.outbox.find(message_id), message_id)
    require(caller, permission, seen.organization_id)
    if seen.organization_id is not None:
        await require_active_organization(wiring, seen.organization_id)
    if seen.state not in WAITING and not (again and seen.kind == WEBHOOK and seen.state == "sent"):
        raise Unmet("MESSAGE_DONE", f"the message was {seen.state} already", metadata={"messageId": message_id})
    if seen.leased and (left := _seconds(wiring.now(), seen.next_at)) > 0:
        raise Aborted("MESSAGE_LEASED", "a worker sends the message just now; look again", retry_after=left)
    return seen


def _seconds(now: datetime, until: datetime) -> int:
    return math.ceil((until - now).total_seconds())


def _race_lost() -> Aborted:
    return Aborted("RACE_LOST", "the message changed again and again at the same time; try again", retry_after=1)
