"""What may happen a limited number of times in a span: messages to an address, requests of a caller.

A quota is one document, whatever process counts; its span begins with the first use and ends by itself.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.store.connection import DuplicateKey

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from schema_user.store.connection import Database, Document

_TRIES: Final = 5
"""Two that begin one span at once collide once; a span that ends meanwhile, once more."""


class Drawn(NamedTuple):
    """What was got of a quota, and what it has left for everybody."""

    amount: int
    left: int


class QuotaStore:
    """The collection ``quotas``."""

    def __init__(self, database: Database, key: bytes) -> None:
        """Use a database; ``key`` digests the names, which may hold addresses."""
        self._quotas = database.collection("quotas")
        self._key = key

    async def prepare(self) -> None:
        """Make the index that lets spans that are over go."""
        await self._quotas.ensure_index([("ends_at", 1)], expireAfterSeconds=0)

    def _id(self, name: str) -> bytes:
        return hashlib.blake2b(name.encode(), key=self._key, digest_size=24).digest()

    async def take(self, name: str, limit: int, span: timedelta, now: datetime, amount: int = 1) -> datetime | None:
        """Use up ``amount`` of a quota of ``limit`` in each ``span``; all of it or nothing.

        None: it was there, and is used up durably. Else when the present span ends and there is room again.
        """
        quota_id = self._id(name)
        for _ in range(_TRIES):
            room = {"_id": quota_id, "ends_at": {"$gt": now}, "used": {"$lte": limit - amount}}
            if await self._quotas.update(room, {"$inc": {"used": amount}}):
                return None
            found = await self._quotas.find_one({"_id": quota_id})
            if found is not None and found["ends_at"] > now:
                if found["used"] + amount > limit:
                    return _end(found)
                continue
            if amount > limit:
                return now + span
            if await self._begun(quota_id, found, {"used": amount, "ends_at": now + span}):
                return None
        return now + span

    async def _begun(self, quota_id: bytes, before: Document | None, fresh: Document) -> bool:
        """Begin a span in the place of one that is over; False: another request was faster."""
        if before is not None:
            return await self._quotas.update({"_id": quota_id, "ends_at": before["ends_at"]}, {"$set": fresh})
        try:
            await self._quotas.insert({"_id": quota_id, **fresh})
        except DuplicateKey:
            return False
        return True

    async def draw(self, name: str, limit: int, period: int, ends_at: datetime, amount: int) -> Drawn:
        """Use up as much of ``amount`` as a quota has left in a period, in one call.

        For periods that begin and end by the clock instead of by the first use: ``period`` counts them upwards, and who
        is in one that another process has left draws from the later one. ``ends_at`` is when the count may go.
        """
        used = {"$cond": [{"$gte": ["$period", period]}, "$used", 0]}
        # What was used stays used, even beyond a limit that shrank meanwhile or that this process does not know yet.
        more = {"$max": [used, {"$min": [limit, {"$add": [used, amount]}]}]}
        fresh = {"used": more, "period": {"$max": ["$period", period]}, "ends_at": {"$max": ["$ends_at", ends_at]}}
        before = await self._quotas.exchange({"_id": self._id(name)}, [{"$set": fresh}], upsert=True)
        counted = before["used"] if before is not None and before["period"] >= period else 0
        drawn = max(0, min(amount, limit - counted))
        return Drawn(drawn, max(0, limit - counted - drawn))

    async def room(self, name: str, limit: int, now: datetime, amount: int = 1) -> datetime | None:
        """Say what ``take`` would, without using anything up."""
        found = await self._quotas.find_one({"_id": self._id(name)})
        if found is None or found["ends_at"] <= now or found["used"] + amount <= limit:
            return None
        return _end(found)

    async def give_back(self, name: str, amount: int = 1) -> None:
        """Give back what was taken for something that did not happen after all."""
        await self._quotas.update({"_id": self._id(name), "used": {"$gte": amount}}, {"$inc": {"used": -amount}})


def _end(found: dict[str, Any]) -> datetime:
    end: datetime = found["ends_at"]
    return end
