"""Entries of the history in MongoDB.

An entry is born inside its user's document, in the one write that it tells of, and is relayed from there. Its id is
the id of that write: as long as the entry is kept, whoever lost an answer can find out whether the write was applied.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.history import changes, link
from schema_user.domain.keyring import seal_with
from schema_user.store.connection import raw

if TYPE_CHECKING:
    from datetime import datetime

    from bson.raw_bson import RawBSONDocument

    from schema_user.domain.history import Origin
    from schema_user.domain.user import User
    from schema_user.store.connection import Database, Document

_TRACE_TTL: Final = timedelta(hours=1)
"""How long the trace of a write that no client can see is kept: until nobody asks any more what became of it."""

_NONCE_BYTES: Final = 9
_ENCODER: Final = msgspec.json.Encoder()


def write_id(user_id: str, version: int) -> str:
    """Make the id of a write: it sorts by user and version, and no other write has it."""
    return f"{user_id}:{version:010}:{secrets.token_urlsafe(_NONCE_BYTES)}"


def entry(
    before: User | None, after: User, origin: Origin, at: datetime, made_id: str
) -> tuple[RawBSONDocument, bytes]:
    """Give the record of a change, its values sealed under the user's own key, and its digest for the chain.

    A write that no client can see leaves a trace only: no values, no link, and it goes by itself.
    """
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as it is read back: the digest covers it
    record: Document = {
        "_id": made_id,
        "user_id": after.user_id,
        "organization_id": after.organization_id,
        "sequence": after.sequence,
        "at": at,
    }
    previous = b"" if before is None else before.chain
    if before is not None and before.sequence == after.sequence:
        record["expires_at"] = at + _TRACE_TTL
        return raw(record), previous
    record |= {"token_id": origin.token_id, "request_id": origin.request_id}
    if origin.user_id is not None:
        record["actor_id"] = origin.user_id
    found = changes(before, after)
    sealed = seal_with(after.key, _ENCODER.encode(found), f"history|{made_id}") if found else b""
    facts = (
        made_id,
        after.user_id,
        after.organization_id,
        after.sequence,
        at.isoformat(),
        origin.token_id,
        origin.user_id or "",
        origin.request_id,
    )
    digest = link(previous, facts, sealed)
    record |= {"previous": previous, "digest": digest, "sealed": sealed}
    return raw(record), digest


class HistoryStore:
    """The collection ``history``."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._history = database.collection("history")

    async def prepare(self) -> None:
        """Make the index that lets traces go; entries are found by their ids, which sort by user and version."""
        await self._history.ensure_index(
            [("expires_at", 1)], expireAfterSeconds=0, partialFilterExpression={"expires_at": {"$exists": True}}
        )
