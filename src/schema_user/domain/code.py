"""Verification codes: how they are drawn, stored and compared."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALPHABET: Final = "ACDEFGHJKMNPQRTUVWXY34679"
"""25 characters, none of which looks like another (no 0/O, 1/I/L, 2/Z, 5/S, 8/B): 244 million codes of 6."""

RECOGNISED_TTL: Final = timedelta(days=7)
"""How long an expired code is still told from a wrong one."""

_LIVE: Final = 2
_KEPT: Final = 100
"""How many codes an address knows at most: more than are issued in ``RECOGNISED_TTL`` unless other limits are set."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code that was issued: only its keyed digest is known."""

    digest: bytes
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Binding:
    """What a code is good for; it is worth nothing for any other organization, user, channel or address."""

    organization_id: str
    user_id: str
    channel: str
    address: str


def draw(length: int, choose: Callable[[str], str]) -> str:
    """Draw a code; ``choose`` picks one character without bias out of a cryptographic generator."""
    return "".join(choose(ALPHABET) for _ in range(length))


def digest(key: bytes, binding: Binding, code: str) -> bytes:
    """Compute HMAC-SHA-256 over the binding and the upper-cased code, each part preceded by its length."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    parts = (binding.organization_id, binding.user_id, binding.channel, binding.address, code.strip().upper())
    for part in parts:
        encoded = part.encode()
        mac.update(len(encoded).to_bytes(4, "big") + encoded)
    return mac.digest()


def find(codes: Iterable[Code], candidates: Iterable[bytes]) -> Code | None:
    """Find the code that one of the digests belongs to; every pair is compared, each in constant time."""
    found = None
    candidates = tuple(candidates)
    for code in codes:
        for candidate in candidates:
            if hmac.compare_digest(code.digest, candidate):
                found = code
    return found


def recognised(codes: Iterable[Code], now: datetime) -> tuple[Code, ...]:
    """Give the codes that are told from wrong ones: the live ones, and those that expired not long ago."""
    return tuple(code for code in codes if now - code.expires_at < RECOGNISED_TTL)


def add(codes: tuple[Code, ...], new: Code, now: datetime) -> tuple[Code, ...]:
    """Add a code: the one before it stays alive until its own expiry, older live ones die.

    Expired ones stay for a while, so that they can be told from wrong ones.
    """
    live = [code for code in codes if code.expires_at > now][-(_LIVE - 1) :]
    expired = [code for code in codes if now - RECOGNISED_TTL < code.expires_at <= now]
    return (*expired, *live, new)[-_KEPT:]
