"""Which of very many values are there more than once: found by digests of eight bytes, eight bytes of memory for each.

That two different values have the same digest comes about in one of 40 million cases among a million values.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIGEST_BYTES: Final = 8

MOST_AT_ONCE: Final = 4_000_000
"""Digests that are compared in one go; of more, each go takes a part."""

MOST_SHARED: Final = 4_000_000
"""Different digests that are known to be there more than once; further ones are left out."""

_BUCKETS: Final = 256


def unpacked(content: bytes) -> tuple[int, ...]:
    """Read digests that stand one behind the other, as numbers."""
    return struct.unpack(f">{len(content) // DIGEST_BYTES}Q", content)


class Shared:
    """The digests that are there more than once: found go by go, then asked for."""

    def __init__(self) -> None:
        """Begin without any."""
        self._buckets = [array("Q") for _ in range(_BUCKETS)]
        self._room = MOST_SHARED

    def __contains__(self, digest: int) -> bool:
        """Whether a digest is there more than once."""
        bucket = self._buckets[digest % _BUCKETS]
        at = bisect_left(bucket, digest)
        return at < len(bucket) and bucket[at] == digest

    def find(self, met: Met) -> Iterator[None]:
        """Note those that were met more than once: some milliseconds for each step, 256 of them."""
        for known, bucket in zip(self._buckets, met.buckets, strict=True):
            ordered = sorted(bucket)
            twice = {one for one, other in pairwise(ordered) if one == other}
            merged = sorted({*known, *list(twice)[: self._room]})
            self._room -= len(merged) - len(known)
            known[:] = array("Q", merged)
            yield


class Met:
    """The digests of one go, in buckets: to sort them all at once would hold up everybody else."""

    def __init__(self) -> None:
        """Begin without any."""
        self.buckets = [array("Q") for _ in range(_BUCKETS)]

    def add(self, digests: Iterable[int]) -> None:
        """Add some, as often as they were met."""
        for each in digests:
            self.buckets[each % _BUCKETS].append(each)
