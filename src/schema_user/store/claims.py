"""Values that may be held once: usernames within an organization, schema types within their owner.

A claim is a document whose id is a keyed digest of the value, inserted before the write that uses it; a unique index
cannot hold across shards. The holder's own document keeps the claim's nonce, so a claim left behind by a crash is
told from one in use, and releasing an old claim cannot take away a newer one of the same holder.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from schema_user.store.connection import Document, DuplicateKey

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.store.connection import Database

ORPHAN_AGE: Final = timedelta(minutes=10)
"""An unconfirmed claim older than this belongs to nobody: every write that could confirm it timed out long before."""

OWN_ORPHAN_AGE: Final = timedelta(minutes=3)
"""The same for a claim of the one who asks again: longer than a write can be under way with the longest time limit."""


@dataclass(frozen=True, slots=True)
class Place:
    """What can be held once: a ``username`` in an organization, a ``type`` in its owner ("" for the instance)."""

    kind: str
    scope: str
    value: str


class ClaimStore:
    """The collection ``claims``."""

    def __init__(self, database: Database, key: bytes) -> None:
        """Use a database; ``key`` digests the values and never changes in the life of the instance."""
        self._claims = database.collection("claims")
        self._holders = {"username": database.collection("users"), "type": database.collection("schemas")}
        self._key = key

    def _id(self, place: Place) -> bytes:
        mac = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (place.kind, place.scope, place.value):
            encoded = part.encode()
            mac.update(len(encoded).to_bytes(4, "big") + encoded)
        return mac.digest()

    async def take(self, place: Place, holder: str, nonce: bytes, now: datetime) -> bool:
        """Claim a value for a holder; False if another one has it, or another request of the same one.

        A request that comes again with its own nonce keeps what it has.
        """
        claim_id = self._id(place)
        claim = {"holder": holder, "nonce": nonce, "claimed_at": now}
        try:
            await self._claims.insert({"_id": claim_id, **claim})
        except DuplicateKey:
            taken = await self._claims.find_one({"_id": claim_id})
            if taken is not None and taken["holder"] == holder and taken["nonce"] == nonce:
                return True
            if taken is None or not await self._is_free(place.kind, taken, holder, now):
                return False
            # Guarded by the old nonce: of several that find the orphan, one gets it.
            return await self._claims.update({"_id": claim_id, "nonce": taken["nonce"]}, {"$set": claim})
        return True

    async def _is_free(self, kind: str, claim: Document, holder: str, now: datetime) -> bool:
        age = OWN_ORPHAN_AGE if claim["holder"] == holder else ORPHAN_AGE
        return now - claim["claimed_at"] > age and not await self._is_used(kind, claim["holder"], claim["nonce"])

    async def holder(self, place: Place) -> str | None:
        """Say who has claimed a value."""
        claim = await self._claims.find_one({"_id": self._id(place)}, {"holder": 1})
        return None if claim is None else str(claim["holder"])

    async def release(self, place: Place, holder: str, nonce: bytes) -> None:
        """Give a value free, if it is still held under this nonce and the holder's document does not use it."""
        if not await self._is_used(place.kind, holder, nonce):
            await self._claims.delete({"_id": self._id(place), "nonce": nonce})

    async def _is_used(self, kind: str, holder: str, nonce: bytes) -> bool:
        return await self._holders[kind].find_one({"_id": holder, f"{kind}_claim": nonce}, {"_id": 1}) is not None
