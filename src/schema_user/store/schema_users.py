"""The users of one schema, page by page: for work that goes through all of them and may have to go on later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from schema_user.store.connection import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from schema_user.store.connection import Database, Document

PAGE_DOCUMENTS: Final = 200
PAGE_BYTES: Final = 2 * 1024 * 1024
_WHOLE_DOCUMENTS: Final = 50
"""Users of a page that has no limit in bytes."""
MOST_COUNTED: Final = 1_000_000
"""Index entries that are counted one by one: half a second of a core."""

_ORDER: Final = [("schema_id", 1), ("organization_id", 1), ("_id", 1)]
_BY_TIME: Final = [("changed_at", 1), ("_id", 1)]
_FIELDS: Final = {"organization_id": 1, "data": 1, "revision": 1}


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """A place in the order of users: by organization, then by id. Neither of a user ever changes."""

    organization_id: str
    user_id: str

    @property
    def text(self) -> str:
        """The place as a text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, text: str) -> Mark | None:
        """Read a place; None: before all users."""
        return msgspec.json.decode(text, type=cls) if text else None


class Moment(NamedTuple):
    """A place in the order of users by when they were changed."""

    changed_at: datetime
    user_id: str


class Stored(NamedTuple):
    """A user as far as such work needs it."""

    mark: Mark
    revision: int
    data: dict[str, Any]


class SchemaUsers:
    """The users of a schema in the collection ``users``."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._users = database.collection("users").durable()

    async def page(
        self,
        schema_id: str,
        organizations: Sequence[str] | None,
        after: Mark | None,
        fields: Mapping[str, int] = _FIELDS,
    ) -> list[bytes]:
        """Give the next users behind a place, encoded for ``stored()``; none: there are no more.

        ``organizations`` None means all. A page has at most ``PAGE_DOCUMENTS`` users, and ends with the one that makes
        it ``PAGE_BYTES`` large. A user that is there from the first page to the last is on one of them; one that comes
        to the schema meanwhile is seen only if its place is ahead.
        """
        wheres = [_scope(schema_id, organizations)] if after is None else _behind(schema_id, organizations, after)
        found: list[bytes] = []
        for where in wheres:
            room = PAGE_BYTES - sum(map(len, found))
            if len(found) < PAGE_DOCUMENTS and room > 0:
                limit = PAGE_DOCUMENTS - len(found)
                found += await self._users.encoded(
                    where | {"deleted": False},
                    fields,
                    size=room,
                    sort=_ORDER,
                    hint=_ORDER,
                    limit=limit,
                    batch_size=limit,
                )
        return found

    async def changed(self, schema_id: str, since: datetime, after: Moment | None) -> list[tuple[Moment, Stored]]:
        """Give the next users of a schema who were written since a time, by when; none: there are no more.

        Who is written again while this is gone through comes once more, at the end.
        """
        where: Document = {"schema_id": schema_id, "deleted": False, "changed_at": {"$gte": since}}
        if after is not None:
            here = {"changed_at": after.changed_at, "_id": {"$gt": after.user_id}}
            where["$or"] = [{"changed_at": {"$gt": after.changed_at}}, here]
            where["changed_at"] = {"$gte": after.changed_at}
        fields = _FIELDS | {"changed_at": 1}
        found = await self._users.find(where, fields, sort=_BY_TIME, hint=_BY_TIME, limit=_WHOLE_DOCUMENTS)
        return [(Moment(each["changed_at"], each["_id"]), _stored(each)) for each in found]

    async def count(self, schema_id: str, organizations: Sequence[str] | None) -> int:
        """Count about how many users there are: deleted ones too, and beyond ``MOST_COUNTED`` all of the database."""
        counted = await self._users.count(_scope(schema_id, organizations), limit=MOST_COUNTED)
        return counted if counted < MOST_COUNTED else max(counted, await self._users.estimate())


def stored(content: bytes) -> Stored:
    """Read a user of a page."""
    return _stored(decoded(content))


def _stored(document: Document) -> Stored:
    return Stored(Mark(document["organization_id"], document["_id"]), document["revision"], document["data"])


def _scope(schema_id: str, organizations: Sequence[str] | None) -> Document:
    scope: Document = {"schema_id": schema_id}
    return scope if organizations is None else scope | {"organization_id": {"$in": list(organizations)}}


def _behind(schema_id: str, organizations: Sequence[str] | None, after: Mark) -> list[Document]:
    """Select the rest of an organization, then the organizations behind it: two ranges of the index."""
    here = {"schema_id": schema_id, "organization_id": after.organization_id, "_id": {"$gt": after.user_id}}
    if organizations is None:
        return [here, {"schema_id": schema_id, "organization_id": {"$gt": after.organization_id}}]
    others = [each for each in organizations if each > after.organization_id]
    return [here, _scope(schema_id, others)] if others else [here]
