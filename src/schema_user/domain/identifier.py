"""Ids: those the service makes, and those a client may give."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9~:@+|-][A-Za-z0-9._~:@+|-]{0,199}")
_PATH_WORDS: Final = frozenset({"search", "import", "export", "check", "human", "new"})
_RANDOM_BITS: Final = 21
_EPOCH_MS: Final = 1_577_836_800_000
"""2020-01-01: 42 bits of milliseconds from here last until the year 2159."""

CLIENT_ID_RULE: Final = (
    "must be 1 to 200 of the characters A-Z a-z 0-9 . _ ~ : @ + | -, not begin with . or _, and not be one of "
    + ", ".join(sorted(_PATH_WORDS))
)


def is_client_id(text: str) -> bool:
    """Whether a client may give this id: the pattern of the contract, and no word that is a path."""
    return _CLIENT_ID.fullmatch(text) is not None and text not in _PATH_WORDS


def make_id(now: datetime, random_bits: Callable[[int], int]) -> str:
    """Make a decimal string of a 63-bit number that sorts by time: 42 bits of milliseconds, 21 random ones.

    Processes and machines need no number of their own. Two ids of one millisecond are equal once in two million
    times; the insert finds that out, and the caller makes another.
    """
    milliseconds = int(now.timestamp() * 1000) - _EPOCH_MS
    return str(milliseconds << _RANDOM_BITS | random_bits(_RANDOM_BITS))
