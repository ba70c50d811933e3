"""Rates: so many requests in a span, written ``600/1m``."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schema_user.domain.duration import parse_duration

MAX_REQUESTS: Final = 10**9
MAX_SPAN: Final = timedelta(days=1)
RATE_RULE: Final = "requests in a span of whole seconds, 1s to 1d, such as 600/1m"
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``requests`` in each ``span``."""

    requests: int
    span: timedelta

    @property
    def seconds(self) -> int:
        """The span in seconds."""
        return self.span // _SECOND

    @property
    def per_second(self) -> float:
        """How many requests it lets through in a second, in the long run."""
        return self.requests / self.span.total_seconds()

    def implies(self, other: Rate) -> bool:
        """Whether who keeps to this rate keeps to the other one too, at once and in the long run."""
        return self.requests <= other.requests and self.per_second <= other.per_second

    def __str__(self) -> str:
        return f"{self.requests}/{self.seconds}s"


@dataclass(frozen=True, slots=True)
class OwnRates:
    """What an organization chose for its tokens, each of them and all together; None: as the instance has it."""

    per_token: Rate | None = None
    per_organization: Rate | None = None


def parse_rate(text: str) -> Rate:
    """Read ``600/1m``: 1 to 1,000,000,000 requests in a span of whole seconds, 1s to 1d. ValueError otherwise."""
    match = re.fullmatch(r"([0-9]{1,10})/(.+)", text.strip())
    if match is not None:
        with contextlib.suppress(ValueError):
            rate = Rate(int(match[1]), parse_duration(match[2]))
            if 1 <= rate.requests <= MAX_REQUESTS and _SECOND <= rate.span <= MAX_SPAN and not rate.span % _SECOND:
                return rate
    raise ValueError(RATE_RULE)


def enforced(instance: Rate | None, own: Rate | None) -> tuple[Rate, ...]:
    """Give the rates that hold: the organization's own in the place of the instance's, if it implies that one.

    An own rate is not above the instance's in the long run, but over a longer span it may let more through at once:
    then both hold. The instance's may have shrunk since the organization chose: then only the instance's is left.
    """
    found = tuple(rate for rate in (own, instance) if rate is not None)
    if own is None or instance is None:
        return found
    if own.implies(instance):
        return (own,)
    return (instance,) if instance.implies(own) else found
