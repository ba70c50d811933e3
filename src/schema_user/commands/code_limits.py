"""How many codes may be made and sent: resends of a user, and messages to an address, a block of numbers, by a tenant.

Resends are counted in the user's document, by the guarded write that makes the code. Messages are counted across
users and processes, in quotas: a change pays for them when all else is decided, and is given back what it paid if the
write does not happen.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.commands.contact_rules import own_settings
from schema_user.domain.contact import DAY, Channel, number_prefix, resend_pause, resends_spent
from schema_user.domain.search import fold
from schema_user.errors import Exhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from datetime import datetime, timedelta

    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.contact import Contact
    from schema_user.domain.credential import Reset
    from schema_user.domain.message import Message
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)

_FULL_QUEUE: Final = "QUEUE_FULL"


def refuse_resend(contact: Contact, channel: Channel, rules: ContactRules, now: datetime) -> None:
    """Raise Exhausted if no code may be asked for again just now; of two reasons the one that holds longer."""
    pause = resend_pause(contact, channel, now, rules.resend_after)
    _refuse(pause, resends_spent(contact, channel, now, rules.resends_per_day), rules, channel)


def refuse_reset(reset: Reset, rules: ContactRules, now: datetime) -> None:
    """Raise Exhausted if no code for a new password may be asked for just now; all channels count together."""
    pause = reset.pause(now, rules.resend_after)
    _refuse(pause, reset.spent(now, rules.resends_per_day), rules, "password")


def _refuse(pause: timedelta, spent: timedelta, rules: ContactRules, what: str) -> None:
    if spent and spent >= pause:
        raise Exhausted(
            "RESEND_LIMIT",
            f"no more than {rules.resends_per_day} codes a day are made again for the user's {what}",
            metadata={"limit": str(rules.resends_per_day)},
            retry_after=seconds(spent),
        )
    if pause:
        raise Exhausted(
            "RESEND_TOO_SOON",
            f"the last code for the {what} was made only just now",
            retry_after=seconds(pause),
        )


def next_reset_in(reset: Reset, rules: ContactRules, now: datetime) -> int:
    """Give the seconds after which another code for a new password may be asked for; 1 at least."""
    return seconds(max(reset.pause(now, rules.resend_after), reset.spent(now, rules.resends_per_day)))


def next_code_in(contact: Contact, channel: Channel, rules: ContactRules, now: datetime) -> int:
    """Give the seconds after which another code may be asked for; 1 at least."""
    pause = resend_pause(contact, channel, now, rules.resend_after)
    return seconds(max(pause, resends_spent(contact, channel, now, rules.resends_per_day)))


def seconds(span: timedelta) -> int:
    """Give the whole seconds after which a span is certainly over; 1 at least."""
    return max(1, math.ceil(span.total_seconds()))


@dataclass(frozen=True, slots=True)
class Charge:
    """What a change uses up of a quota: ``amount`` of ``limit`` messages a day; ``cap`` is what the client is told."""

    cap: str
    name: str
    limit: int
    amount: int = 1


_LIMITS: Final = {"address": "codes_per_address", "phonePrefix": "codes_per_phone_prefix"}
"""The fields of the settings, of the instance and of an organization, that hold the limits of a message's caps."""


class Postage:
    """What one request pays for the code messages of its change: once, however often the write is tried.

    Whoever has ``paid`` calls ``settle`` at the end, whatever the end is. A change without code messages pays nothing,
    and shall not notice.
    """

    __slots__ = ("_used", "_wiring", "paid")

    def __init__(self, wiring: Wiring) -> None:
        """Begin with nothing paid."""
        self._wiring = wiring
        self.paid: list[Charge] = []
        self._used = False

    async def pay(self, user: User, *, rehearsed: bool = False) -> None:
        """Pay for the messages that a user is about to be stored with; ``rehearsed``: only see whether one could.

        Raises:
            Exhausted: ``CODE_MESSAGE_LIMIT``, with the cap in the metadata; then nothing is paid.
        """
        due = await _charges(self._wiring, user)
        if due == self.paid:
            return
        await self._give_back()
        quotas, now = self._wiring.quotas, self._wiring.now()
        for charge in due:
            if rehearsed:
                full = await quotas.room(charge.name, charge.limit, now, charge.amount)
            else:
                full = await quotas.take(charge.name, charge.limit, DAY, now, charge.amount)
            if full is not None:
                await self._give_back()
                raise _capped(charge, full - now)
            if not rehearsed:
                self.paid.append(charge)

    def stored(self, write: Awaitable[bool]) -> Awaitable[bool]:
        """Do the write that was paid for; as long as it may have happened, what was paid is used."""
        return self._stored(write) if self.paid else write

    async def _stored(self, write: Awaitable[bool]) -> bool:
        self._used = True
        try:
            self._used = await write
        except Unavailable as fault:
            self._used = fault.reason != _FULL_QUEUE
            raise
        return self._used

    async def settle(self) -> None:
        """Give back what was paid for a write that did not happen."""
        if not self._used:
            await self._give_back()

    async def _give_back(self) -> None:
        paid, self.paid = self.paid, []
        try:
            for charge in paid:
                await self._wiring.quotas.give_back(charge.name, charge.amount)
        except Unavailable as error:
            log.warning("what was counted for code messages that were not sent stays counted: %s", error)


def _capped(charge: Charge, wait: timedelta) -> Exhausted:
    return Exhausted(
        "CODE_MESSAGE_LIMIT",
        f"no more than {charge.limit} messages with a code are sent in a day by this limit: {charge.cap}",
        metadata={"cap": charge.cap, "limit": str(charge.limit)},
        retry_after=seconds(wait),
    )


async def _charges(wiring: Wiring, user: User) -> list[Charge]:
    """List what the code messages of a user's change use up, first what is soonest used up.

    All organizations together count against the instance's limits, so that a person is written to so often at most.
    Only its own messages count against what an organization chose: else it could find out whom others write to.
    """
    messages = [each for each in user.messages if each.code is not None]
    if not messages:
        return []
    settings, own = wiring.settings, await own_settings(wiring, user.organization_id)
    tenant = f"organization {user.organization_id}"
    charges = []
    for cap, counted in (pair for message in messages for pair in _counted(message)):
        charges.append(Charge(cap, f"codes to {counted}", getattr(settings, _LIMITS[cap])))
        chosen = getattr(own, _LIMITS[cap])
        if chosen is not None:
            charges.append(Charge(cap, f"codes of {tenant} to {counted}", chosen))
    most = min(own.codes_per_organization or settings.codes_per_organization, settings.codes_per_organization)
    return [*charges, Charge("organization", f"codes of {tenant}", most, len(messages))]


def _counted(message: Message) -> Iterator[tuple[str, str]]:
    """Give what a message counts for: its address, whatever the case, and the block of numbers that it is in."""
    yield "address", f"{message.channel} {fold(message.recipient)}"
    if message.channel is Channel.PHONE:
        yield "phonePrefix", f"numbers {number_prefix(message.recipient)}"
