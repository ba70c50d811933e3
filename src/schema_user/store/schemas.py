"""User schemas in MongoDB.

The head document carries the text of the current revision; the one before is archived before the head moves on. So a
new revision is one guarded write, no crash leaves a revision without a head, and an archived one never changes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.schema import (
    Announced,
    Authenticator,
    Compatibility,
    IndexedPath,
    Marking,
    SchemaState,
    UserSchema,
)
from schema_user.domain.search import fold
from schema_user.store.batch import Batcher, Bounds
from schema_user.store.connection import DuplicateKey, raw
from schema_user.store.known import Known
from schema_user.store.relay import OUTBOX, Item, Noted, Relay
from schema_user.store.requests import RequestStore, found_in, kept_in
from schema_user.store.search import SearchStore
from schema_user.store.webhooks import delivery_record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from schema_user.domain.keyring import Keyring
    from schema_user.domain.repetition import Answered, Once
    from schema_user.domain.repetition import Known as KnownRequest
    from schema_user.domain.search import Query
    from schema_user.domain.webhook import Delivery
    from schema_user.store.connection import Database, Document

HEAD_TTL: Final = 0.5
"""Seconds for which a head may be used without asking: a change holds elsewhere within one second."""

_HEADS_KEPT: Final = 20_000


def _to_document(schema: UserSchema) -> Document:
    document: Document = {
        "_id": schema.schema_id,
        "organization_id": schema.organization_id,
        "type": schema.type,
        "type_folded": fold(schema.type),
        "type_claim": schema.type_claim,
        "revision": schema.revision,
        "text": schema.text,
        "dialect": schema.dialect,
        "state": schema.state.value,
        "authenticators": [each.value for each in schema.authenticators],
        "created_at": schema.created_at,
        "changed_at": schema.changed_at,
        "sequence": schema.sequence,
        "version": schema.version,
        "marking": _marking_document(schema.marking),
        "compatibility": schema.compatibility.value,
        "announced": _announced_document(schema.announced),
        "deleted": False,
    }
    return document


def _marking_document(marking: Marking) -> Document:
    return {
        "paths": [{"path": each.path, "ready": each.ready, "own": each.own} for each in marking.paths],
        "stale": list(marking.stale),
        "pending": marking.pending,
    }


def _marking(document: Document) -> Marking:
    paths = tuple(IndexedPath(each["path"], each["ready"], each["own"]) for each in document.get("paths", ()))
    return Marking(paths, tuple(document.get("stale", ())), document.get("pending", False))


def _from_document(document: Document) -> UserSchema:
    return UserSchema(
        schema_id=document["_id"],
        organization_id=document["organization_id"],
        type=document["type"],
        revision=document["revision"],
        text=document["text"],
        dialect=document["dialect"],
        state=SchemaState(document["state"]),
        authenticators=tuple(map(Authenticator, document["authenticators"])),
        created_at=document["created_at"],
        changed_at=document["changed_at"],
        sequence=document["sequence"],
        version=document["version"],
        type_claim=document["type_claim"],
        marking=_marking(document.get("marking", {})),
        compatibility=Compatibility(document.get("compatibility", Compatibility.ALLOW)),
        announced=_announced(document.get("announced")),
    )


def _announced_document(announced: Announced | None) -> Document | None:
    if announced is None:
        return None
    return {
        "text": announced.text,
        "dialect": announced.dialect,
        "nonce": announced.nonce,
        "until": announced.until,
    }


def _announced(document: Document | None) -> Announced | None:
    return None if document is None else Announced(**document)


class SchemaStore(SearchStore[UserSchema]):
    """The collections ``schemas`` (heads) and ``schema_revisions`` (what was current before)."""

    fields = {  # noqa: RUF012 -- declared a ClassVar by the base
        "id": "_id",
        "type": "type",
        "state": "state",
        "revision": "revision",
        "change_date": "changed_at",
        "creation_date": "created_at",
    }
    folded = {"type": "type_folded"}  # noqa: RUF012 -- as above

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clock: Callable[[], float] = time.monotonic,
        relay: Relay | None = None,
    ) -> None:
        """Use a database; heads are kept for ``HEAD_TTL`` by the given monotonic clock (seconds).

        ``relay`` hears what a write left in the head to be moved: what webhooks are told of it.
        """
        self._relay = relay or Relay(database, "schemas")
        self._patience = database.timeout
        self._heads = database.collection("schemas")
        self._requests = RequestStore(database)
        self._revisions = database.collection("schema_revisions")
        self._versions: Batcher[str, int | None] = Batcher(self._versions_of, Bounds())
        self._known: Known[str, UserSchema | None] = Known(self._refreshed, HEAD_TTL, _HEADS_KEPT, clock)
        super().__init__(self._heads.durable(), keyring, _from_document)

    async def prepare(self) -> None:
        """Make the indexes."""
        await self._heads.ensure_index([("organization_id", 1), ("type", 1)])
        await self._heads.ensure_index([("type_folded", 1)])
        await self._heads.ensure_index([("marking.paths.path", 1)])
        await self._heads.ensure_index([("marking.stale", 1)])
        await self._heads.ensure_index([("marking.pending", 1)], partialFilterExpression={"marking.pending": True})
        await self._heads.ensure_index(
            [("pending_since", 1)], partialFilterExpression={"pending_since": {"$exists": True}}
        )

    async def head(self, schema_id: str) -> UserSchema | None:
        """Find a schema at its current revision, at most ``HEAD_TTL`` seconds old; what updates and reads use."""
        return await self._known.get(schema_id)

    async def _refreshed(self, schema_id: str, known: UserSchema | None) -> UserSchema | None:
        """Ask for the version first: the text of a schema that did not change is not fetched again."""
        if known is not None:
            version = await self._versions.do(schema_id)
            if version is None or version == known.version:
                return None if version is None else known
        return await self.find(schema_id)

    async def _versions_of(self, ids: list[str]) -> list[int | None]:
        """Ask for many at once: among thousands of schemas hardly an update finds its own still known."""
        found = await self._heads.find({"_id": {"$in": ids}, "deleted": False}, {"version": 1})
        versions = {each["_id"]: each["version"] for each in found}
        return [versions.get(schema_id) for schema_id in ids]

    async def find(self, schema_id: str) -> UserSchema | None:
        """Find a schema as the primary has it, for a change."""
        document = await self._heads.find_one({"_id": schema_id, "deleted": False})
        return None if document is None else _from_document(document)

    async def made(self, schema_id: str) -> UserSchema | None:
        """Find a schema, also what is left of a deleted one; for the answer to its creation."""
        document = await self._heads.find_one({"_id": schema_id})
        if document is not None and document["deleted"]:
            document |= {"state": SchemaState.INACTIVE.value, "text": "", "type_claim": b""}
        return None if document is None else _from_document(document)

    async def settled(self, schema: UserSchema) -> None:
        """Wait until a majority holds what was read for a change; then an answer may speak of it.

        Raises:
            Unavailable: if none does in time.
        """
        await self._heads.settled(schema.schema_id, schema.version, self._patience)

    async def answer(self, schema: UserSchema, once: Once) -> KnownRequest | None:
        """Find the answer to a request inside the document that it changed, once a majority holds it.

        Raises:
            Unavailable: if none does in time.
        """
        return await found_in(self._heads, schema.schema_id, once, self._patience)

    async def revision(self, head: UserSchema, number: int) -> UserSchema | None:
        """Find a schema as it was at a revision; None if it never had that one."""
        if number == head.revision:
            return head
        old = await self._revisions.durable().find_one({"_id": _revision_id(head.schema_id, number)})
        if old is None:
            return None
        return replace(head, revision=number, text=old["text"], dialect=old["dialect"], changed_at=old["created_at"])

    async def revisions(self, head: UserSchema) -> list[tuple[int, Any]]:
        """List every revision and when it became current, the newest first."""
        old = await self._revisions.durable().find(
            {"schema_id": head.schema_id}, {"revision": 1, "created_at": 1}, sort=[("revision", -1)]
        )
        current = await self._heads.durable().find_one({"_id": head.schema_id}, {"revised_at": 1})
        newest = (head.revision, current["revised_at"] if current else head.changed_at)
        return [newest, *((each["revision"], each["created_at"]) for each in old if each["revision"] < head.revision)]

    async def insert(
        self, schema: UserSchema, answered: Answered | None = None, deliveries: Sequence[Delivery] = ()
    ) -> bool:
        """Store a new schema, and with it the answer and what webhooks are told; False if the id was used before."""
        document = _to_document(schema) | {"revised_at": schema.created_at}
        items = _items(deliveries)
        if items:
            document["pending"] = [item.document for item in items]
            document["pending_since"] = deliveries[0].created_at
        if answered is not None:
            document["requests"] = [kept_in(answered, schema.created_at)]
        try:
            await self._heads.insert(document)
        except DuplicateKey:
            return False
        self._known.forget(schema.schema_id)
        self._note(schema.schema_id, schema.version, items)
        return True

    async def replace(
        self,
        before: UserSchema,
        after: UserSchema,
        answered: Answered | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> bool:
        """Store a change, and with it the answer and what webhooks are told.

        False if the schema moved on since it was read.
        """
        change = _to_document(after)
        change.pop("_id")
        if after.revision != before.revision:
            await self._archive(before)
            change["revised_at"] = after.changed_at
        if answered is not None:
            await self._requests.take_in(self._heads, before.schema_id, self._patience)
            change["requests"] = [kept_in(answered, after.changed_at)]
        return await self._change(before, after.version, {"$set": change}, deliveries)

    async def _change(self, before: UserSchema, version: int, update: Document, deliveries: Sequence[Delivery]) -> bool:
        """Do a guarded write, and let what webhooks are told of it wait in the head until it is relayed."""
        items = _items(deliveries)
        if items:
            # What waits there already goes first, so that a head never grows: nothing of it comes without a version.
            await self._relay.relieve(before.schema_id)
            update["$push"] = {"pending": {"$each": [item.document for item in items]}}
            update["$min"] = {"pending_since": deliveries[0].created_at}
        won = await self._heads.update({"_id": before.schema_id, "version": before.version}, update)
        self._known.forget(before.schema_id)
        if won:
            self._note(before.schema_id, version, items)
        return won

    def _note(self, schema_id: str, version: int, items: tuple[Item, ...]) -> None:
        if items:
            self._relay.note(Noted(schema_id, version, items))

    async def _archive(self, schema: UserSchema) -> None:
        head = await self._heads.find_one({"_id": schema.schema_id}, {"revised_at": 1})
        archived = {
            "_id": _revision_id(schema.schema_id, schema.revision),
            "schema_id": schema.schema_id,
            "revision": schema.revision,
            "text": schema.text,
            "dialect": schema.dialect,
            "created_at": head["revised_at"] if head else schema.changed_at,
        }
        try:
            await self._revisions.insert(archived)
        except DuplicateKey:
            return

    async def erase(self, before: UserSchema, version: int, deliveries: Sequence[Delivery] = ()) -> bool:
        """Leave only a mark of a deleted schema, so that its id is not used again; False if it moved on."""
        update: Document = {
            "$set": {"deleted": True, "state": "deleted", "version": version},
            "$unset": {"text": "", "type_claim": "", "announced": ""},
        }
        return await self._change(before, version, update, deliveries)

    async def ids_of(self, query: Query) -> list[str]:
        """List the ids of the schemas that a query finds, for searches of their users."""
        found = await self._heads.durable().find({"$and": [{"deleted": False}, self.filter(query)]}, {"_id": 1})
        return [each["_id"] for each in found]

    async def marking(self, path: str, organizations: Collection[str] | None) -> dict[str, Marking]:
        """Give what the schemas have indexed that know a path, by their ids: the instance's and those of organizations.

        None: of all organizations.
        """
        where: Document = {"$or": [{"marking.paths.path": path}, {"marking.stale": path}], "deleted": False}
        if organizations is not None:
            where["organization_id"] = {"$in": [None, *sorted(organizations)]}
        found = await self._heads.durable().find(where, {"marking": 1})
        return {each["_id"]: _marking(each["marking"]) for each in found}

    async def unfilled(self, limit: int = 100) -> list[UserSchema]:
        """List schemas whose users a back-fill has yet to reach."""
        where = {"marking.pending": True, "deleted": False}
        return [_from_document(each) for each in await self._heads.find(where, limit=limit)]

    async def count_of_organization(self, organization_id: str) -> int:
        """Count the schemas that an organization owns."""
        return await self._heads.count({"organization_id": organization_id, "deleted": False})


def _items(deliveries: Sequence[Delivery]) -> tuple[Item, ...]:
    return tuple(Item(OUTBOX, each.message_id, raw(delivery_record(each))) for each in deliveries)


def _revision_id(schema_id: str, revision: int) -> str:
    return f"{schema_id}:{revision}"
