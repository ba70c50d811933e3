"""How many requests a token, and an organization, may send in a span: counted in memory, shared by all processes.

A process draws a share of a limit from ``quotas`` in advance and counts it down without asking the database, so all
processes together never let through more than the limit. What it does not use is lost at the end of the span, so a
client whose requests go to several processes may be refused a little before the limit.

What a request counts for is told by its token alone, never by a header. It counts for the token, and for the token's
organization: that of its user, else each in which it has a role, so that a role elsewhere is no way out. A token with a
role of the instance counts for no organization: nobody's tenants shall pay for what the operator does.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from schema_user.domain.rate import OwnRates, enforced
from schema_user.errors import Exhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schema_user.domain.caller import Caller
    from schema_user.domain.rate import Rate
    from schema_user.store.quotas import QuotaStore
    from schema_user.wiring import Wiring

KNOWN_TTL: Final = 2.0
"""Seconds for which the limits of a token are believed; with the organizations' own, a change holds within five."""

_KEPT: Final = 20_000
"""Tokens whose limits are kept; of one that is forgotten, the share that was left is lost."""

_LEAST_PART, _MOST_PART = 64, 16
"""The smallest and the largest share of a limit that is drawn at once, as its 64th and 16th part: a process asks the
database 64 times in a span at most, and not much is lost with a share that nobody uses."""

_HURRY: Final = 32
"""A share that did not last for this part of the span was too small; one that did was too large."""

_CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""For how long after its end a count is kept, as the database removes it by a clock of its own."""


class Meter:
    """One limit of one token or organization, as far as this process knows of it.

    Spans begin by the clock, those of different names at different times, so that not everybody comes back in the same
    second. Times are seconds since 1970.
    """

    __slots__ = ("__weakref__", "_begins", "_drawing", "_drawn_at", "_ends", "_left", "_name", "_offset", "_part",
                 "_period", "_quotas", "_seconds", "_unassigned", "rate")  # fmt: skip

    def __init__(self, quotas: QuotaStore, subject: str, rate: Rate) -> None:
        """Limit a ``subject``, a token or an organization; processes meet under its name and the span's length."""
        self._quotas = quotas
        self.rate, self._seconds = rate, rate.seconds
        self._name = f"requests of {subject} in {rate.seconds}s"
        self._offset = zlib.crc32(self._name.encode()) % rate.seconds
        self._begins = self._ends = self._drawn_at = 0.0
        self._period = self._left = self._unassigned = 0
        self._part = max(1, rate.requests // _LEAST_PART)
        self._drawing: asyncio.Task[None] | None = None

    def has(self, now: float) -> bool:
        """Whether a request can be counted without asking the database."""
        self._enter(now)
        return self._left > 0

    def spend(self) -> None:
        """Count a request; ``has`` said that it can be."""
        self._left -= 1

    def left(self, now: float) -> int:
        """How many more requests of this span may be let through: what is left here, and what nobody has drawn yet."""
        self._enter(now)
        return self._left + self._unassigned

    def wait(self, now: float) -> int:
        """Give the seconds after which the span is certainly over; 1 at least."""
        self._enter(now)
        return max(1, math.ceil(self._ends - now))

    async def draw(self, now: float) -> None:
        """Draw another share; those who need one at the same moment share one call.

        Raises:
            Unavailable: if the database is away.
        """
        if self._drawing is None:
            # A task of its own: the request that was first may be cancelled while others wait with it.
            self._drawing = asyncio.get_running_loop().create_task(self._draw(now))
            self._drawing.add_done_callback(self._drawn)
        await asyncio.shield(self._drawing)

    def _enter(self, now: float) -> None:
        """Move on to the span of now; what was left of another one is lost."""
        if self._begins <= now < self._ends:
            return
        self._period = int((now + self._offset) // self._seconds)
        self._begins = float(self._period * self._seconds - self._offset)
        self._ends = self._begins + self._seconds
        self._left, self._unassigned = 0, self.rate.requests

    async def _draw(self, now: float) -> None:
        self._enter(now)
        limit, period = self.rate.requests, self._period
        hurried = now - self._drawn_at < self._seconds / _HURRY
        wanted = self._part * 2 if hurried else self._part // 2
        self._part = min(max(wanted, limit // _LEAST_PART, 1), max(limit // _MOST_PART, 1))
        self._drawn_at = now
        ends_at = datetime.fromtimestamp(self._ends, UTC) + _CLOCKS_DIFFER
        drawn = await self._quotas.draw(self._name, limit, period, ends_at, self._part)
        if self._period == period:
            self._left += drawn.amount
            self._unassigned = drawn.left

    def _drawn(self, task: asyncio.Task[None]) -> None:
        self._drawing = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may wait any more


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of one token; ``until`` is a monotonic time.

    ``policies`` are the names by which clients know them, and ``described`` is what the header RateLimit-Policy says of
    all of them (draft-ietf-httpapi-ratelimit-headers-11, 3): written once, as it is on every answer.
    """

    policies: tuple[str, ...]
    meters: tuple[Meter, ...]
    until: float
    described: bytes

    def left(self, now: float) -> bytes:
        """Write what the header RateLimit says: what is left, and for how many seconds (same draft, 4)."""
        pairs = zip(self.policies, self.meters, strict=True)
        return ", ".join([f'"{policy}";r={meter.left(now)};t={meter.wait(now)}' for policy, meter in pairs]).encode()


class RateLimits:
    """Knows the limits of each token that was seen lately, and counts its requests."""

    def __init__(
        self, wiring: Wiring, clock: Callable[[], float] = time.time, passed: Callable[[], float] = time.monotonic
    ) -> None:
        """Count by the wiring's quotas; ``clock`` gives seconds since 1970, ``passed`` monotonic ones."""
        self._wiring = wiring
        self._clock = clock
        self._passed = passed
        self._believed: OrderedDict[str, Allowance] = OrderedDict()
        self._meters: WeakValueDictionary[tuple[str, Rate], Meter] = WeakValueDictionary()

    async def of(self, caller: Caller) -> Allowance:
        """Give the limits that hold for a caller; it has no meters unless some are set."""
        believed = self._believed.get(caller.token_id)
        if believed is None or self._passed() >= believed.until:
            believed = await self._learn(caller)
        return believed

    async def count(self, allowance: Allowance) -> None:
        """Count a request for each limit of a token, or for none of them.

        Raises:
            Exhausted: ``RATE_LIMITED``, if one of them is used up.
            Unavailable: if a share must be drawn and the database is away.
        """
        while True:
            now = self._clock()
            for meter in allowance.meters:
                if not meter.has(now):
                    break
            else:
                break
            if not meter.left(now):
                raise _refused(allowance, now)
            await meter.draw(now)
        for meter in allowance.meters:
            meter.spend()

    def now(self) -> float:
        """Give the time by which requests are counted."""
        return self._clock()

    async def _learn(self, caller: Caller) -> Allowance:
        """Find out which limits hold; the meters of before are used on, with what is left of their shares."""
        own = [(each, await self._own_rates(each)) for each in sorted(_organizations(caller))]
        chosen = [rates.per_token for _, rates in own if rates.per_token is not None]
        strictest = min(chosen, key=lambda rate: rate.per_second, default=None)
        settings = self._wiring.settings
        found = dict(self._make("token", f"token {caller.token_id}", settings.rate_limit_token, strictest))
        instance = settings.rate_limit_organization
        for number, (organization, rates) in enumerate(own, 1):
            policy = "organization" if number == 1 else f"organization-{number}"
            found |= self._make(policy, f"organization {organization}", instance, rates.per_organization)
        described = ", ".join(
            f'"{policy}";q={each.rate.requests};w={each.rate.seconds}' for policy, each in found.items()
        )
        believed = Allowance(tuple(found), tuple(found.values()), self._passed() + KNOWN_TTL, described.encode())
        self._believed[caller.token_id] = believed
        self._believed.move_to_end(caller.token_id)
        if len(self._believed) > _KEPT:
            self._believed.popitem(last=False)
        return believed

    async def _own_rates(self, organization_id: str) -> OwnRates:
        organization = await self._wiring.organizations.known(organization_id)
        rates = organization.settings.rate_limits if organization else None
        return rates or OwnRates()

    def _make(self, policy: str, subject: str, instance: Rate | None, own: Rate | None) -> Iterator[tuple[str, Meter]]:
        """Give the meters of a token or organization by their policies, the same ones for all who ask."""
        for number, rate in enumerate(enforced(instance, own)):
            meter = self._meters.get((subject, rate))
            if meter is None:
                meter = self._meters[subject, rate] = Meter(self._wiring.quotas, subject, rate)
            yield (f"{policy}-of-instance" if number else policy), meter


def _organizations(caller: Caller) -> frozenset[str]:
    """Say for which organizations a caller's requests count."""
    if caller.user_organization_id is not None:
        return frozenset({caller.user_organization_id})
    if any(grant.organization_id is None for grant in caller.grants):
        return frozenset()
    return frozenset(caller.within)


def _refused(allowance: Allowance, now: float) -> Exhausted:
    """Refuse a request until all limits that are used up have room again."""
    pairs = zip(allowance.policies, allowance.meters, strict=True)
    wait, policy, rate = max(
        (meter.wait(now), policy, str(meter.rate)) for policy, meter in pairs if not meter.left(now)
    )
    return Exhausted(
        "RATE_LIMITED",
        f"no more than {rate} requests are taken of one {policy.partition('-')[0]}",
        metadata={"policy": policy, "limit": rate},
        retry_after=wait,
    )
