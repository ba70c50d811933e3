"""Requests under an ``Idempotency-Key``: how one is told from another, and what is kept of its answer."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

KEPT: Final = timedelta(hours=24)
"""How long a key is remembered."""

KEY_MAX_CHARACTERS: Final = 200
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Once:
    """A request that shall have its effect once, however often it is sent.

    ``record_id`` stands for the caller and its key, ``digest`` for everything that the request asks.
    """

    record_id: str
    digest: bytes

    def nonce(self, version: int) -> bytes:
        """What the request claims a value with, to use it at a version: at each repetition the same.

        So twins meet their own claim, and once the version is written it is known who uses it.
        """
        return hashlib.sha256(f"claim|{self.record_id}|{version}".encode()).digest()[:_NONCE_BYTES]


def once(token_id: str, key: str, asked: Iterable[bytes], secret: bytes) -> Once:
    """Make it of the caller's token, its key, and the parts of the request: method, path, query, organization, body.

    ``secret`` keys the digest: a body may hold a password, which could be guessed by one that anybody can compute.
    """
    return Once(_digest((token_id.encode(), key.encode()), hashlib.sha256()).hex(), _digest(asked, _keyed(secret)))


def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod=hashlib.sha256)


def _digest(parts: Iterable[bytes], whole: hmac.HMAC | hashlib._Hash) -> bytes:
    """Compute a digest over the parts, each preceded by its length."""
    for part in parts:
        whole.update(len(part).to_bytes(4, "big") + part)
    return whole.digest()


@dataclass(frozen=True, slots=True)
class Answered:
    """What is kept of the answer to a request, together with the change that it caused.

    ``sequence`` and ``changed_at`` are the resource's after the change; ``revision`` is a schema's; ``codes`` are
    those that went back to the caller, by channel.
    """

    once: Once
    sequence: int
    changed_at: datetime
    revision: int = 0
    codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a request that came before under the same key.

    ``resource_id`` is that of the resource which it makes; ``answered`` is None as long as nobody knows of an answer.
    """

    digest: bytes
    resource_id: str | None = None
    answered: Answered | None = None
