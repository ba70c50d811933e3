"""Who made workers stop again and again gets one of them at a time, so that the others are left for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

STRIKES: Final = 3
WINDOW: Final = 60.0
"""So many strikes within so many seconds make the breaker trip; it closes when the last of them is so long ago."""

MAX_WAITING: Final = 16
"""How many calls of one that is tripped may wait for their turn."""

PATIENCE: Final = 5.0
"""Seconds that a call waits for its turn, and then for a worker, at most."""

_SWEEP_AT: Final = 1_000


class Crowded(Exception):
    """Too many calls wait already, this one has waited too long, or the machine had no time for it."""


@dataclass(slots=True)
class _Record:
    strikes: deque[float] = field(default_factory=lambda: deque(maxlen=STRIKES))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    inside: int = 0


class Breaker:
    """Counts strikes by payer: a name for a schema, an organization or a token."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def strike(self, payers: Sequence[str]) -> None:
        """Note a call that was stopped, or almost."""
        if len(self._records) > _SWEEP_AT:
            self._sweep()
        for payer in payers:
            self._records.setdefault(payer, _Record()).strikes.append(self._clock())

    def tripped(self, payers: Sequence[str]) -> list[str]:
        """Name those that have to take turns."""
        return [payer for payer in payers if payer in self._records and self._is_tripped(self._records[payer])]

    @contextlib.asynccontextmanager
    async def turn(self, payers: Sequence[str]) -> AsyncIterator[None]:
        """Have the turn of each of these payers for as long as the block lasts.

        Raises:
            Crowded: if too many wait already, or this one has waited too long.
        """
        records = [self._records.setdefault(payer, _Record()) for payer in sorted(payers)]
        if any(record.inside > MAX_WAITING for record in records):
            raise Crowded
        for record in records:
            record.inside += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(PATIENCE):
                        for record in records:
                            await stack.enter_async_context(record.turn)
                except TimeoutError:
                    raise Crowded from None
                yield
        finally:
            for record in records:
                record.inside -= 1

    def _is_tripped(self, record: _Record) -> bool:
        strikes = record.strikes
        if len(strikes) < STRIKES or strikes[-1] - strikes[0] > WINDOW:
            return False
        return self._clock() - strikes[-1] < WINDOW

    def _sweep(self) -> None:
        oldest = self._clock() - WINDOW
        for payer, record in list(self._records.items()):
            if not record.inside and (not record.strikes or record.strikes[-1] < oldest):
                del self._records[payer]
