"""Long work in the event loop: done in slices, between which others have a turn."""

from __future__ import annotations

import asyncio
import time
from typing import Final

_SECONDS: Final = 0.001
"""How long a slice is: others, such as requests, wait no longer for it."""


class Slice:
    """The slice that is being worked on."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        """Begin the first one."""
        self._ends = time.perf_counter() + _SECONDS

    @property
    def over(self) -> bool:
        """Whether it is time to rest; to ask costs less than to rest."""
        return time.perf_counter() >= self._ends

    async def rest(self) -> None:
        """Give way if it is time."""
        if self.over:
            await asyncio.sleep(0)
            self._ends = time.perf_counter() + _SECONDS
