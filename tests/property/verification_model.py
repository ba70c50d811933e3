"""What the contract promises of verification, as a model that is small enough to be seen through.

It knows addresses, codes as people read them, and a clock; no digests, no documents, no messages.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from schema_user.domain.contact import Channel

START: Final = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
"""In the future: the database's own clock lets go of what is over."""

ATTEMPTS: Final = 3
TTL: Final = {Channel.EMAIL: timedelta(hours=1), Channel.PHONE: timedelta(minutes=10)}
RECOGNISED: Final = timedelta(days=7)
TICK: Final = timedelta(milliseconds=1)
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)
LIVE: Final = 2
"""Codes of an address that are live at once."""


@dataclass
class Issued:
    """A code that somebody holds; ``replaced``: it died before its time."""

    text: str
    address: str
    expires_at: datetime
    replaced: bool = False


@dataclass(frozen=True)
class Caps:
    """How much is allowed: resends of a channel, and code messages in a day by each cap."""

    resend_after: timedelta = timedelta(seconds=30)
    resends: int = 100
    messages: dict[str, int] = field(default_factory=lambda: {"address": 999, "phonePrefix": 999, "organization": 999})


TIGHT: Final = Caps(resends=6, messages={"address": 3, "phonePrefix": 4, "organization": 6})


@dataclass
class Meter:
    """Code messages of one kind; a day begins with the first."""

    used: int = 0
    ends_at: datetime = START

    def full(self, limit: int, now: datetime) -> bool:
        """Whether no other one may be sent."""
        return now < self.ends_at and self.used >= limit

    def count(self, now: datetime) -> None:
        """Count one."""
        if now >= self.ends_at:
            self.used, self.ends_at = 0, now + DAY
        self.used += 1


@dataclass
class Line:
    """What the contract says of one channel; ``resends`` are the times at which codes were asked for again."""

    channel: Channel
    address: str | None = None
    verified: bool = False
    codes: list[Issued] = field(default_factory=list)
    wrong: int = 0
    coded_at: datetime | None = None
    resends: list[datetime] = field(default_factory=list)

    def put(self, address: str | None, *, verified: bool) -> None:
        """Another address, or none: its codes begin anew."""
        self.address, self.verified, self.coded_at = address, verified, None
        self.forget()

    def too_soon(self, caps: Caps, now: datetime) -> bool:
        """Whether the address's last code is too young for another one."""
        return self.coded_at is not None and now < self.coded_at + caps.resend_after

    def too_often(self, caps: Caps, now: datetime) -> bool:
        """Whether the channel had all the resends of a day, whatever addresses they went to."""
        return sum(now < each + DAY for each in self.resends) >= caps.resends

    def forget(self) -> None:
        """Let all codes die."""
        for each in self.codes:
            each.replaced = True
        self.codes, self.wrong = [], 0

    def live(self, now: datetime) -> list[Issued]:
        """Give the codes that are good, from old to new."""
        return [each for each in self.codes if not each.replaced and each.expires_at > now]

    def issue(self, text: str, now: datetime) -> Issued:
        """Make a code: at most one of those before it stays live, and the attempts begin anew."""
        assert self.address is not None
        for each in self.live(now)[: -(LIVE - 1)]:
            each.replaced = True
        made = Issued(text, self.address, now + TTL[self.channel])
        self.codes.append(made)
        self.wrong, self.coded_at = 0, now
        return made

    def answer(self, text: str, now: datetime) -> tuple[str, int | None]:
        """Say what a returned code is answered, and how many attempts are left if it is wrong."""
        if self.address is None:
            return "CODE_NOT_PENDING", None
        if self.verified:
            return "unchanged", None
        known = [each for each in self.codes if now < each.expires_at + RECOGNISED and not each.replaced]
        if not known:
            return "CODE_NOT_PENDING", None
        if self.wrong >= ATTEMPTS:
            return "CODE_ATTEMPTS_EXHAUSTED", None
        found = [each for each in known if each.text == text.strip().upper()]
        if not found:
            return "CODE_INVALID", ATTEMPTS - self.wrong - 1
        return ("verified" if any(each.expires_at > now for each in found) else "CODE_EXPIRED"), None


@dataclass
class Model:
    """What the contract says of a user."""

    now: datetime
    active: bool = True
    locked: bool = False
    sequence: int = 1
    lines: dict[Channel, Line] = field(default_factory=lambda: {each: Line(each) for each in Channel})
    caps: Caps = field(default_factory=Caps)
    meters: dict[str, dict[str, Meter]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Meter)))

    def counted(self, channel: Channel, address: str) -> dict[str, Meter]:
        """Give what a code message to an address counts for; all numbers of an example have one prefix."""
        found = {"address": self.meters["address"][address], "organization": self.meters["organization"][""]}
        return found | ({"phonePrefix": self.meters["phonePrefix"][""]} if channel is Channel.PHONE else {})

    def full(self, channel: Channel, address: str) -> dict[str, Meter]:
        """Give the caps by which no code may be sent to an address."""
        counted = self.counted(channel, address).items()
        return {cap: meter for cap, meter in counted if meter.full(self.caps.messages[cap], self.now)}

    @property
    def usable(self) -> bool:
        """Whether codes are made."""
        return self.active and not self.locked
