"""The users of a schema, as a back-fill reads and writes them: entries of the index, and claims of unique values.

What is written is guarded by the version that was read and changes nothing that a client could see, so it leaves
neither an entry in the history nor a sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.store.connection import decoded, raw
from schema_user.store.schema_users import Mark
from schema_user.store.user_documents import claims_of, marks_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.indexing import Entry
    from schema_user.domain.user import Claimed
    from schema_user.store.connection import Database, Document
    from schema_user.store.schema_users import SchemaUsers

_FIELDS: Final = {"organization_id": 1, "data": 1, "version": 1, "claims": 1, "marking": 1}


class Unfilled(NamedTuple):
    """A user as far as a back-fill needs it."""

    place: Mark
    version: int
    data: dict[str, Any]
    claims: tuple[Claimed, ...]
    marking: str


class Filling(NamedTuple):
    """What a user shall have besides what it has."""

    user: Unfilled
    marking: str
    entries: tuple[Entry, ...]
    claims: tuple[Claimed, ...]


class MarkingStore:
    """The marks of users in the collection ``users``."""

    def __init__(self, database: Database, users: SchemaUsers) -> None:
        """Use a database, and pages of ``users``."""
        self._users = database.collection("users")
        self._pages = users

    async def page(self, schema_id: str, after: Mark | None) -> list[bytes]:
        """Give the next users of a schema behind a place, encoded for ``unfilled()``; as ``SchemaUsers.page()``."""
        return await self._pages.page(schema_id, None, after, _FIELDS)

    async def any_other(self, schema_id: str, marking: str) -> bool:
        """Whether any user of a schema is marked by another plan than that of a fingerprint ("": none)."""
        other: Document = {"$exists": True} if not marking else {"$ne": marking}
        where = {"schema_id": schema_id, "deleted": False, "marking": other}
        return await self._users.durable().find_one(where, {"_id": 1}) is not None

    async def fill(self, fillings: Sequence[Filling]) -> int:
        """Write marks, each to a user that is still as it was read; how many were."""
        statements = [
            raw(
                {
                    "q": {"_id": each.user.place.user_id, "version": each.user.version},
                    "u": marks_document(each.marking, each.entries, each.claims) | {"$inc": {"version": 1}},
                }
            )
            for each in fillings
        ]
        written = await self._users.write_all("update", statements)
        written.require_stored()
        return written.applied


def unfilled(content: bytes) -> Unfilled:
    """Read a user of a page."""
    found = decoded(content)
    place = Mark(found["organization_id"], found["_id"])
    return Unfilled(place, found["version"], found["data"], claims_of(found.get("claims")), found.get("marking", ""))
