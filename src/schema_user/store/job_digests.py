"""Digests of values that a job met, kept until it has compared them: in chunks, as a process may end in between.

A chunk is named by its job, the turn in which a runner wrote it, and its number there. Whoever reads says how many of
each turn count: what a turn wrote and did not note before it ended was written again by the next one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from schema_user.store.connection import Database, Document

_KEPT_TTL: Final = timedelta(days=1)
"""How long chunks stay that no job takes away; one that misses some begins anew."""


class JobDigests:
    """The collection ``job_digests``."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._chunks = database.collection("job_digests")

    async def prepare(self) -> None:
        """Make the index that lets chunks go that were left."""
        await self._chunks.ensure_index([("expires_at", 1)], expireAfterSeconds=0)

    async def add(self, job_id: str, turn: str, number: int, digests: bytes, now: datetime) -> None:
        """Store a chunk, at most 16 MB: the next number of its turn."""
        chunk = {"_id": _id(job_id, turn, number), "digests": digests, "expires_at": now + _KEPT_TTL}
        await self._chunks.insert(chunk)

    def of_turn(self, job_id: str, turn: str, count: int) -> AsyncGenerator[Document, None]:
        """Give the first chunks of a turn, in their order, each with its ``digests``."""
        between = {"$gte": _id(job_id, turn, 0), "$lt": _id(job_id, turn, count)}
        return self._chunks.durable().stream({"_id": between}, sort=[("_id", 1)], batch_size=16)

    async def remove(self, job_id: str) -> None:
        """Remove all chunks of a job."""
        await self._chunks.delete_all({"_id": {"$gte": f"{job_id}|", "$lt": f"{job_id}}}"}})


def _id(job_id: str, turn: str, number: int) -> str:
    return f"{job_id}|{turn}|{number:08}"
