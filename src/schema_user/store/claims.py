"""Values that may be held once: usernames, addresses and unique fields in an organization, schema types in their owner.

A claim is a document whose id is a keyed digest of the value, inserted before the write that uses it; a unique index
cannot hold across shards. The holder's own document keeps the claim's nonce, so a claim left behind by a crash is
told from one in use, and releasing an old claim cannot take away a newer one of the same holder. A user may hold many
values of its data, so its document keeps those claims by their ids too.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from schema_user.store.connection import Document, DuplicateKey, raw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from schema_user.domain.user import Claimed
    from schema_user.store.connection import Database

ORPHAN_AGE: Final = timedelta(minutes=10)
"""An unconfirmed claim older than this belongs to nobody: every write that could confirm it timed out long before."""

OWN_ORPHAN_AGE: Final = timedelta(minutes=3)
"""The same for a claim of the one who asks again: longer than a write can be under way with the longest time limit."""


@dataclass(frozen=True, slots=True)
class Place:
    """What can be held once: a ``username`` in an organization, a ``type`` in its owner ("" for the instance).

    And an ``email`` in an organization, and a value of ``data`` at a path among the users of a schema in one.
    """

    kind: str
    scope: str
    value: str


@dataclass(frozen=True, slots=True)
class Wish:
    """The wish of a holder to have a value, and the nonce that its document will confirm it with."""

    place: Place
    holder: str
    nonce: bytes


def _told(place: Place) -> bytes:
    """Write a place so that no other one is written alike."""
    encoded = [part.encode() for part in (place.kind, place.scope, place.value)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class ClaimStore:
    """The collection ``claims``."""

    def __init__(self, database: Database, key: bytes) -> None:
        """Use a database; ``key`` digests the values and never changes in the life of the instance."""
        self._claims = database.collection("claims")
        self._users = database.collection("users")
        self._schemas = database.collection("schemas")
        self._key = key

    def id_of(self, place: Place) -> bytes:
        """Give the id of the claim of a place, which tells nothing of the value."""
        return hmac.digest(self._key, _told(place), "sha256")

    def short_id_of(self, place: Place) -> bytes:
        """Give eight bytes, keyed likewise, and sooner: to compare many values that nobody claims."""
        return hashlib.blake2b(_told(place), digest_size=8, key=self._key).digest()

    async def take(self, place: Place, holder: str, nonce: bytes, now: datetime) -> bool:
        """Claim a value for a holder; False if another one has it, or another request of the same one.

        A request that comes again with its own nonce keeps what it has.
        """
        claim_id = self.id_of(place)
        claim = {"holder": holder, "nonce": nonce, "claimed_at": now}
        try:
            await self._claims.insert({"_id": claim_id, **claim})
        except DuplicateKey:
            taken = await self._claims.find_one({"_id": claim_id})
            if taken is not None and taken["holder"] == holder and taken["nonce"] == nonce:
                return True
            if taken is None or not await self._is_free(place.kind, claim_id, taken, holder, now):
                return False
            # Guarded by the old nonce: of several that find the orphan, one gets it.
            return await self._claims.update({"_id": claim_id, "nonce": taken["nonce"]}, {"$set": claim})
        return True

    async def take_all(self, wishes: Sequence[Wish], now: datetime) -> list[bool]:
        """Claim many values at once; whether each is its holder's now, in their order."""
        claims = [
            raw({"_id": self.id_of(wish.place), "holder": wish.holder, "nonce": wish.nonce, "claimed_at": now})
            for wish in wishes
        ]
        written = await self._claims.write_all("insert", claims)
        written.require_stored()
        return [
            index not in written.errors or await self.take(wish.place, wish.holder, wish.nonce, now)
            for index, wish in enumerate(wishes)
        ]

    async def _is_free(self, kind: str, claim_id: bytes, claim: Document, holder: str, now: datetime) -> bool:
        age = OWN_ORPHAN_AGE if claim["holder"] == holder else ORPHAN_AGE
        if now - claim["claimed_at"] <= age:
            return False
        return not await self._is_used(kind, claim_id, claim["holder"], claim["nonce"])

    async def holder(self, place: Place) -> str | None:
        """Say who has claimed a value."""
        claim = await self._claims.find_one({"_id": self.id_of(place)}, {"holder": 1})
        return None if claim is None else str(claim["holder"])

    async def release(self, place: Place, holder: str, nonce: bytes) -> None:
        """Give a value free, if it is still held under this nonce and the holder's document does not use it."""
        await self._release(place.kind, self.id_of(place), holder, nonce)

    async def let_go(self, claimed: Claimed, holder: str) -> None:
        """Give free what a user held by a claim, unless its document uses it; as ``release()``."""
        await self._release(claimed.kind, claimed.claim_id, holder, claimed.nonce)

    async def _release(self, kind: str, claim_id: bytes, holder: str, nonce: bytes) -> None:
        if not await self._is_used(kind, claim_id, holder, nonce):
            await self._claims.delete({"_id": claim_id, "nonce": nonce})

    async def _is_used(self, kind: str, claim_id: bytes, holder: str, nonce: bytes) -> bool:
        match kind:
            case "type":
                used = await self._schemas.find_one({"_id": holder, "type_claim": nonce}, {"_id": 1})
            case "username":
                used = await self._users.find_one({"_id": holder, "username_claim": nonce}, {"_id": 1})
            case _:
                held = {"$elemMatch": {"id": claim_id, "nonce": nonce}}
                used = await self._users.find_one({"_id": holder, "claims": held}, {"_id": 1})
        return used is not None
