"""Compiled validators of the schemas that are in use, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

_PROTECTED: Final = 0.8
"""The part of the bytes that those hold which were used again."""


class Sized(Protocol):
    """Something that knows how many bytes it holds."""

    @property
    def size(self) -> int:
        """The bytes."""


T = TypeVar("T", bound=Sized)


class ValidatorCache(Generic[T]):
    """Keeps values by schema and revision; a revision never changes, so nothing here is ever stale.

    ``limit`` is in bytes, as the values estimate themselves. A value is on trial until it is asked for a second time,
    and those on trial go first, the least recently used before the others: ten thousand schemas that are used once
    don't push out those that are used all the time. What is larger than the limit is not kept.
    """

    def __init__(self, limit: int = 256 * 1024 * 1024) -> None:
        self._limit = limit
        self._trial: OrderedDict[tuple[str, int], T] = OrderedDict()
        self._proved: OrderedDict[tuple[str, int], T] = OrderedDict()
        self._proved_size = 0
        self.size = 0

    def get(self, key: tuple[str, int]) -> T | None:
        """Give what is kept under a key."""
        if (found := self._proved.get(key)) is not None:
            self._proved.move_to_end(key)
            return found
        found = self._trial.pop(key, None)
        if found is not None:
            self._proved[key] = found
            self._proved_size += found.size
            while self._proved_size > self._limit * _PROTECTED:
                again, value = self._proved.popitem(last=False)
                self._proved_size -= value.size
                self._trial[again] = value
        return found

    def put(self, key: tuple[str, int], value: T) -> None:
        """Keep a value in the place of another one, if there was one."""
        if (before := self._trial.pop(key, None)) is not None:
            self.size -= before.size
        elif (before := self._proved.pop(key, None)) is not None:
            self.size -= before.size
            self._proved_size -= before.size
        self._trial[key] = value
        self.size += value.size
        while self.size > self._limit and self._trial:
            self.size -= self._trial.popitem(last=False)[1].size
        while self.size > self._limit and self._proved:
            gone = self._proved.popitem(last=False)[1]
            self.size -= gone.size
            self._proved_size -= gone.size
