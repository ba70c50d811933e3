"""Values that may be used for a while without asking the database again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Known(Generic[K, V]):
    """Remembers what ``fetch`` gave for a key; never longer than ``ttl`` seconds after it was asked for.

    Those who need the same value at the same moment share one fetch: at the end of a value's time a hundred requests
    would otherwise ask at once.
    """

    def __init__(
        self,
        fetch: Callable[[K, V | None], Awaitable[V]],
        ttl: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep ``most`` values; ``fetch`` gets the key and the value of before, ``clock`` is monotonic, in seconds."""
        self._fetch = fetch
        self._ttl = ttl
        self._most = most
        self._clock = clock
        self._values: dict[K, tuple[float, V]] = {}
        self._flights: dict[K, tuple[float, asyncio.Task[V]]] = {}

    async def get(self, key: K) -> V:
        """Give the value of a key, as the database had it at most ``ttl`` seconds ago."""
        known = self._values.get(key)
        if known is not None and self._clock() - known[0] < self._ttl:
            return known[1]
        return await asyncio.shield(self._asked(key))

    def peek(self, key: K) -> V | None:
        """Give what is known of a key without waiting; None if that is nothing.

        What has lived half of its time is asked for again meanwhile, so that who comes often enough never waits.
        """
        known = self._values.get(key)
        age = self._clock() - known[0] if known else self._ttl
        if known is None or age >= self._ttl:
            return None
        if age >= self._ttl / 2:
            self._asked(key)
        return known[1]

    def _asked(self, key: K) -> asyncio.Task[V]:
        """Give the fetch that is under way, or begin one."""
        flight = self._flights.get(key)
        if flight is None or self._clock() - flight[0] >= self._ttl:
            known = self._values.get(key)
            # A task of its own: the request that was first may be cancelled while others wait with it.
            task = asyncio.get_running_loop().create_task(self._fetched(key, known[1] if known else None))
            flight = (self._clock(), task)
            self._flights[key] = flight
            task.add_done_callback(lambda task: self._landed(key, task))
        return flight[1]

    async def _fetched(self, key: K, before: V | None) -> V:
        return await self._fetch(key, before)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        """Keep what was fetched, unless it was forgotten meanwhile."""
        failed = task.cancelled() or task.exception() is not None
        flight = self._flights.get(key)
        if flight is None or flight[1] is not task:
            return
        del self._flights[key]
        if not failed:
            if len(self._values) >= self._most:
                self._values.clear()
            self._values[key] = (flight[0], task.result())

    def forget(self, key: K) -> None:
        """Ask again at the next need; a fetch that is under way is not believed by those who come after."""
        self._values.pop(key, None)
        self._flights.pop(key, None)
