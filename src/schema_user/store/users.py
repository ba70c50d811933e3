"""Users in MongoDB: one document each, one guarded write for each change."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from schema_user.domain.history import KEY_BYTES, Origin
from schema_user.domain.keyring import Draw, together
from schema_user.domain.message import WEBHOOK
from schema_user.domain.user import Creation, User
from schema_user.domain.webhook import Delivery
from schema_user.errors import Unavailable
from schema_user.slices import Slice
from schema_user.store.batch import Batcher, Bounds, GroupCommit, Write
from schema_user.store.connection import Document, DuplicateKey, decoded, raw
from schema_user.store.data_search import BY_ORGANIZATION, BY_VALUE, MARKED
from schema_user.store.erasure import ERASURE, erasure_record
from schema_user.store.history import entry, first_entry, write_id
from schema_user.store.outbox import message_record
from schema_user.store.relay import FRESH, HISTORY, OUTBOX, Item, Noted, Relay
from schema_user.store.requests import REQUESTS, RequestStore, answer_record, known_of
from schema_user.store.search import SearchStore
from schema_user.store.user_documents import ERASED, difference, from_document, to_document
from schema_user.store.webhooks import delivery_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schema_user.domain.contact import Channel
    from schema_user.domain.keyring import Keyring
    from schema_user.domain.repetition import Answered, Known, Once
    from schema_user.store.connection import Collection, Database, Pipeline

MAX_PENDING: Final = 32
MAX_PENDING_SIZE: Final = 4 * 1024 * 1024
"""Records, and their bytes, that may wait in one user's document; it must stay far from the database's 16 MiB."""

_TOGETHER: Final = 2
"""How often many new users are sent together: once more without those whose ids are there."""

_DRAWN: Final = 48
"""Random bytes for one new user: its key, and what tells its write from all others."""

_NOBODY: Final = Origin()

_INDEXES: Final = (
    [("organization_id", 1), ("_id", 1)],
    [("schema_id", 1), ("organization_id", 1), ("_id", 1)],
    [("schema_id", 1), ("revision", 1)],
    # The value as it was written comes last: what is compared with case is counted by the index alone too.
    [("username_folded", 1), ("organization_id", 1), ("username", 1)],
    [("email.folded", 1), ("organization_id", 1), ("email.value", 1)],
    [("phone.value", 1), ("organization_id", 1)],
    [("changed_at", 1), ("_id", 1)],
    [("created_at", 1), ("_id", 1)],
)

SEARCH_FIELDS: Final = {
    "id": "_id",
    "organization_id": "organization_id",
    "username": "username",
    "email": "email.value",
    "phone": "phone.value",
    "state": "state",
    "schema_id": "schema_id",
    "schema_revision": "revision",
    "creation_date": "created_at",
    "change_date": "changed_at",
    "schema_type": "schema_type",
}
# A type can be renamed at any time, so users do not carry it; sorting by it is worth a look into the schemas.
_JOINS: Final[dict[str, Pipeline]] = {
    "schema_type": [
        {"$lookup": {"from": "schemas", "localField": "schema_id", "foreignField": "_id", "as": "schema_type"}},
        {"$set": {"schema_type": {"$first": "$schema_type.type"}}},
    ]
}
_SORTED_BY: Final = {
    "id": (("_id", 1),),
    "creation_date": (("created_at", 1), ("_id", 1)),
    "change_date": (("changed_at", 1), ("_id", 1)),
}
FOLDED_FIELDS: Final = {"username": "username_folded", "email": "email.folded", "phone": "phone.value"}


class Birth(msgspec.Struct, frozen=True):
    """A user to be stored, what webhooks are told of it, and (``nonce``) by what its write is known if sent again."""

    user: User
    deliveries: Sequence[Delivery] = ()
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Born:
    """How a user that is there, or was, came to be: ``nonce`` is its first write's, None if that is forgotten."""

    user_id: str
    organization_id: str
    created_at: datetime
    version: int
    nonce: str | None


class _First(msgspec.Struct, frozen=True):
    """The first write of a user: its document, and the records that it leaves to be moved."""

    user_id: str
    write_id: str
    document: Document
    items: tuple[Item, ...]

    def write(self) -> Write:
        """Give the write of the document alone, in which the records wait."""
        if not self.items:
            return Write(self.user_id, self.write_id, raw(self.document))
        waiting = {"pending": [item.document for item in self.items], "pending_since": self.document["created_at"]}
        return Write(self.user_id, self.write_id, raw(self.document | waiting))


class UserStore(SearchStore[User]):
    """The collection ``users``."""

    fields = SEARCH_FIELDS
    folded = FOLDED_FIELDS
    joins = _JOINS
    sorted_by = _SORTED_BY
    unread = ("pending", "indexed")
    erased = frozenset({"username", "email", "phone"})

    def __init__(
        self, database: Database, keyring: Keyring, relay: Relay | None = None, history_ttl: timedelta | None = None
    ) -> None:
        """Use a database; messages are sealed by the keyring, and ``relay`` hears what a write left to be moved.

        Entries of the history are kept for ``history_ttl``, or for ever.
        """
        self._database = database
        self._users = database.collection("users")
        self._requests = RequestStore(database)
        self._patience = database.timeout
        self._history = database.collection("history")
        self._keyring = keyring
        self._relay = relay or Relay(database)
        self._history_ttl = history_ttl
        self._for_change = self._gathered(self._users, {"pending.record": 0, "indexed": 0})
        self._for_answer = self._gathered(self._users.durable(), {"pending": 0, "indexed": 0})
        self._inserts = GroupCommit(self._users, "insert", self._applied, database.timeout)
        self._updates = GroupCommit(self._users, "update", self._applied, database.timeout)
        super().__init__(self._users.durable(), keyring, from_document)

    @staticmethod
    def _gathered(collection: Collection, fields: Document) -> Batcher[str, User | None]:
        async def find(ids: list[str]) -> Sequence[User | None]:
            documents = await collection.find({"_id": {"$in": ids}, "deleted": False}, fields)
            found = {document["_id"]: from_document(document) for document in documents}
            return [found.get(user_id) for user_id in ids]

        return Batcher(find, Bounds())

    async def prepare(self) -> None:
        """Make the indexes."""
        for keys in _INDEXES:
            await self._users.ensure_index(keys)
        for each in (BY_VALUE, BY_ORGANIZATION):
            await self._users.ensure_index(each, partialFilterExpression=MARKED)
        await self._users.ensure_index(
            [("pending_since", 1)], partialFilterExpression={"pending_since": {"$exists": True}}
        )

    async def find(self, user_id: str) -> User | None:
        """Find a user as the primary has it, for a change; None if there is none, erased ones included."""
        return await self._for_change.do(user_id)

    async def read(self, user_id: str) -> User | None:
        """Find a user as a majority has it, for an answer."""
        return await self._for_answer.do(user_id)

    async def exists(self, user_id: str) -> bool:
        """Whether the id was ever used."""
        return await self._users.find_one({"_id": user_id}, {"_id": 1}) is not None

    async def settled(self, user: User) -> None:
        """Wait until a majority holds what was read for a change; then an answer may speak of it.

        Raises:
            Unavailable: if none does in time.
        """
        await self._users.settled(user.user_id, user.version, self._patience)

    async def answer(self, user: User, once: Once) -> Known | None:
        """Find the answer to a request among what waits in the user's document, once a majority holds it.

        Raises:
            Unavailable: if none does in time.
        """
        if all(each.record_id != once.record_id for each in user.pending):
            return None
        await self.settled(user)
        held = self._users.durable()
        found = await held.find_one({"_id": user.user_id, "pending.id": once.record_id}, {"pending.$": 1})
        if found is None:  # relayed meanwhile
            return await self._requests.find(once, user.key)
        return known_of(found["pending"][0]["record"], once.record_id, user.key)

    async def answer_left(self, user_id: str, once: Once) -> Known | None:
        """Find the answer to a request in what a deleted user left, or where it was relayed to meanwhile.

        Raises:
            Unavailable: if no majority holds it in time.
        """
        where = {"_id": user_id, "pending.id": once.record_id}
        found = await self._users.find_one(where, {"pending.$": 1, "version": 1})
        if found is None:
            return await self._requests.find(once)
        await self._users.settled(user_id, found["version"], self._patience)
        return known_of(found["pending"][0]["record"], once.record_id)

    async def insert(
        self,
        user: User,
        origin: Origin = _NOBODY,
        answered: Answered | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> bool:
        """Store a new user, its messages, what webhooks are told of it and the answer.

        False if the id was used before.
        """
        return await self._store(self._first(user, origin, answered, deliveries))

    async def insert_all(self, births: Sequence[Birth], origin: Origin) -> list[bool | Exception]:
        """Store many new users of different ids, each with what ``insert()`` stores with it.

        The outcomes come in their order: False if the id was used before (by a write with this nonce, perhaps), or the
        exception that ``insert()`` would raise. All go in one call; those that it does not store, though their ids are
        not there, go one by one in the end.
        """
        draw, turn = together(len(births) * _DRAWN), Slice()
        left: dict[int, _First] = {}
        for index, each in enumerate(births):
            if turn.over:
                await turn.rest()
            left[index] = self._first(each.user, origin, deliveries=each.deliveries, nonce=each.nonce, draw=draw)
        outcomes: dict[int, bool | Exception] = {}
        for _ in range(_TOGETHER):
            stored = await self._stored_together(left)
            outcomes |= dict.fromkeys(stored, True)
            if len(stored) < len(left):
                outcomes |= await self._found_there({index: left[index] for index in left.keys() - stored}, births)
            left = {index: each for index, each in left.items() if index not in outcomes}
            if not left:
                return [outcomes[index] for index in range(len(births))]
        alone = await asyncio.gather(*(self._outcome(each) for each in left.values()))
        outcomes |= dict(zip(left, alone, strict=True))
        return [outcomes[index] for index in range(len(births))]

    async def _stored_together(self, first: Mapping[int, _First]) -> set[int]:
        """Store new users in one call, and give those that are stored; of the others nothing is known.

        If some leave anything to be moved, that goes where it belongs in the same transaction: then it is all or none.
        """
        with contextlib.suppress(DuplicateKey, Unavailable):
            if any(each.items for each in first.values()):
                await self._database.insert_together(_parts(first.values()))
                self._relay.wake()
                return set(first)
            turn, statements = Slice(), []
            for each in first.values():
                if turn.over:
                    await turn.rest()
                statements.append(raw(each.document))
            written = await self._users.write_all("insert", statements)
            return {index for place, index in enumerate(first) if place not in written.errors}
        return set()

    async def _found_there(self, first: Mapping[int, _First], births: Sequence[Birth]) -> dict[int, bool]:
        """Say of those whose ids are used whether a send whose answer was lost used them.

        One with a nonce may have been stored by whoever sent the same before: its own caller recognises it.
        """
        there = await self._users.find({"_id": {"$in": [each.user_id for each in first.values()]}}, {"_id": 1})
        ids = {each["_id"] for each in there}
        used = {index: each for index, each in first.items() if each.user_id in ids}
        own = [each for index, each in used.items() if births[index].nonce is None]
        stored = await self._stored([each.user_id for each in own], [each.write_id for each in own])
        return {index: each.write_id in stored for index, each in used.items()}

    async def _outcome(self, first: _First) -> bool | Exception:
        try:
            return await self._store(first)
        except Unavailable as error:
            return error

    async def _store(self, first: _First) -> bool:
        if not await self._inserts.do(first.write()):
            return False
        if first.items:
            self._relay.note(Noted(first.user_id, first.document["version"], first.items))
        return True

    def _first(
        self,
        user: User,
        origin: Origin,
        answered: Answered | None = None,
        deliveries: Sequence[Delivery] = (),
        *,
        nonce: str | None = None,
        draw: Draw = secrets.token_bytes,
    ) -> _First:
        """Give the first write of a user, which gets its key, and what it leaves."""
        made_id = write_id(user.user_id, user.version, nonce, draw)
        creation = Creation(made_id, origin.token_id, origin.user_id, origin.request_id)
        user = replace(user, key=draw(KEY_BYTES), creation=creation)
        others = self._others(user, answered, user.created_at, deliveries)
        return _First(user.user_id, made_id, to_document(user), tuple(others))

    async def births(self, ids: Sequence[str]) -> dict[str, Born]:
        """Say of those ids that were ever used by which write, and when; deleted users are among them."""
        fields = {"organization_id": 1, "created_at": 1, "version": 1, "creation.id": 1, "pending.id": 1}
        found = await self._users.find({"_id": {"$in": list(ids)}}, fields)
        first = {each["_id"]: f"{each['_id']}:{1:010}:" for each in found}
        nonces = {
            user["_id"]: waiting["id"].removeprefix(first[user["_id"]])
            for user in found
            for waiting in _written(user)
            if waiting["id"].startswith(first[user["_id"]])
        }
        moved = [user_id for user_id in first if user_id not in nonces]
        if moved:
            ranges = [{"_id": {"$gte": first[each], "$lt": first[each][:-1] + ";"}} for each in moved]
            entries = await self._history.find({"user_id": {"$in": moved}, "$or": ranges}, {"user_id": 1})
            nonces |= {each["user_id"]: each["_id"].removeprefix(first[each["user_id"]]) for each in entries}
        return {
            each["_id"]: Born(
                each["_id"], each["organization_id"], each["created_at"], each["version"], nonces.get(each["_id"])
            )
            for each in found
        }

    async def after(self, scope: Document, last_id: str, limit: int) -> list[User]:
        """Give the users within ``scope`` whose ids come after one, in the order of their ids, as a majority has them.

        What waits in them, such as messages, is left out.
        """
        where = {"$and": [scope, {"_id": {"$gt": last_id}}]}
        documents = await self._searched.find(where, {"pending": 0}, sort=[("_id", 1)], limit=limit)
        return [from_document(each) for each in documents]

    async def replace(
        self,
        before: User,
        after: User,
        origin: Origin = _NOBODY,
        answered: Answered | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> bool:
        """Store a change with all that it leaves, in one write; False if the user moved on since it was read.

        Raises:
            Unavailable: if the database does not answer.
        """
        after = replace(after, key=before.key or secrets.token_bytes(KEY_BYTES))
        at = after.changed_at if after.sequence != before.sequence else datetime.now(UTC)
        made_id = write_id(after.user_id, after.version)
        first, told = self._told(before, after.key)
        record, chain = entry(told, after, origin, at, made_id, kept=self._history_ttl)
        items = (*first, Item(HISTORY, made_id, raw(record)), *self._others(after, answered, at, deliveries))
        left = [each.record_id for each in before.pending]
        if left and await self._none_left(before, left, items):
            left = []
        after = replace(after, chain=chain, creation=None, key=b"" if after.deleted else after.key)
        change = difference(before, after)
        update = _erasing(change, items, at) if after.deleted else _waiting(change, items, at, before, left)
        statement = raw({"q": {"_id": before.user_id, "version": before.version}, "u": update})
        if not await self._updates.do(Write(before.user_id, made_id, statement)):
            return False
        # Never copied to anywhere, what waits to be erased keeps the document for the sweep.
        waiting = (*left, ERASURE) if after.deleted else tuple(left)
        self._relay.note(Noted(before.user_id, after.version, items, waiting))
        return True

    def _told(self, user: User, key: bytes) -> tuple[tuple[Item, ...], User]:
        """Give the first entry of a user that is about to change, if nothing wrote it yet, and the user's chain so."""
        if user.creation is None:
            return (), user
        record, chain = first_entry(replace(user, key=key), user.creation, self._history_ttl)
        return (Item(HISTORY, user.creation.write_id, raw(record)),), replace(user, chain=chain)

    def _others(
        self, user: User, answered: Answered | None, at: datetime, deliveries: Sequence[Delivery]
    ) -> list[Item]:
        """Give what a write leaves to be moved beside its entry: messages, what webhooks are told, its answer."""
        items = []
        if not user.deleted:
            items += [Item(OUTBOX, each.message_id, raw(message_record(each, self._keyring))) for each in user.messages]
        if deliveries:
            items += [Item(OUTBOX, each.message_id, raw(delivery_record(each))) for each in deliveries]
        if answered is not None:
            items.append(Item(REQUESTS, answered.once.record_id, raw(answer_record(answered, at, user.key))))
        return items

    async def _none_left(self, before: User, left: Sequence[str], items: Sequence[Item]) -> bool:
        """Whether what waits in the document was copied, so that the write can take it out.

        If there is no room for more beside it, it is moved now. Nothing else can come to wait there without a change
        of the version, which the write is guarded by.
        """
        if self._relay.copied(before.user_id, left):
            return True
        size = sum(each.size for each in before.pending) + sum(each.size for each in items)
        if len(left) + len(items) <= MAX_PENDING and size <= MAX_PENDING_SIZE:
            return False
        await self._relay.relieve(before.user_id)
        return True

    async def _applied(self, writes: Sequence[Write]) -> set[str]:
        return await self._stored([write.document_id for write in writes], [write.write_id for write in writes])

    async def _stored(self, ids: Sequence[str], write_ids: Sequence[str]) -> set[str]:
        """Find which writes are stored. A relay copies before it takes out, so what is in no place never was."""
        waiting = await self._users.find({"_id": {"$in": ids}}, {"creation.id": 1, "pending.id": 1})
        stored = {each["id"] for user in waiting for each in _written(user)}
        relayed = await self._history.find({"user_id": {"$in": ids}, "_id": {"$in": write_ids}}, {"_id": 1})
        return stored | {each["_id"] for each in relayed}

    async def has_email(self, organization_id: str, folded: str, other_than: str) -> bool:
        """Whether another user of the organization has this address, compared without case."""
        where = {
            "email.folded": folded,
            "organization_id": organization_id,
            "_id": {"$ne": other_than},
            "deleted": False,
        }
        return await self._users.find_one(where, {"_id": 1}) is not None

    async def count_of_schema(self, schema_id: str) -> int:
        """Count the users of a schema, over all organizations."""
        return await self._users.count({"schema_id": schema_id, "deleted": False})

    async def count_of_organization(self, organization_id: str) -> int:
        """Count the users of an organization."""
        return await self._users.count({"organization_id": organization_id, "deleted": False})


def _parts(first: Iterable[_First]) -> dict[str, list[Document]]:
    """Sort new users and what they leave by collections."""
    parts: dict[str, list[Document]] = defaultdict(list)
    for each in first:
        parts["users"].append(each.document)
        for item in each.items:
            # No user's document names it, so nothing keeps it from going once it is done.
            released = {"relayed": True} if item.collection == OUTBOX else {}
            parts[item.collection].append(decoded(bytes(item.record.raw)) | released)
    return parts


def _written(document: Document) -> list[Document]:
    """Give what in a user's document has the id of a write: how it was created, and what waits."""
    return [each for each in (document.get("creation"), *document.get("pending", ())) if each is not None]


def _waiting(change: Document, items: Sequence[Item], at: datetime, before: User, left: Sequence[str]) -> Document:
    """Let records wait in the document, in the place of those that were copied or (``left``) behind the others."""
    documents = [item.document for item in items]
    if left:
        change["$push"] = {"pending": {"$each": documents}}
        change["$min"] = {"pending_since": at}
        return change
    change["$set"]["pending"] = documents
    if before.pending_since is None or not timedelta(0) <= at - before.pending_since < FRESH:
        change["$set"]["pending_since"] = at
    else:
        # Not left out: a relay may have emptied the document meanwhile, and what has no date no sweep would find.
        change["$min"] = {"pending_since": at}
    return change


def _erasing(change: Document, items: Sequence[Item], at: datetime) -> Pipeline:
    """Erase with the same write the messages that wait; entries of the history stay, sealed under a key that goes.

    Of what webhooks are told, the places go: names of properties may come from the user.
    """
    others = {"$or": [{"$ne": ["$$this.to", OUTBOX]}, {"$eq": ["$$this.record.channel", WEBHOOK]}]}
    kept = {"$filter": {"input": {"$ifNull": ["$pending", []]}, "cond": others}}
    added = {"$literal": [*(item.document for item in items), erasure_record()]}
    put = {name: {"$literal": value} for name, value in change["$set"].items()}
    return [
        {"$set": put | {"pending": {"$concatArrays": [kept, added]}, "pending_since": {"$literal": at}}},
        {"$unset": [*ERASED, "pending.record.told.changes"]},
    ]


def live_digests(user: User, channel: Channel) -> frozenset[bytes]:
    """Give the digests of the codes that a user's address still knows, to tell a live message from a dead one."""
    address = user.contact.on(channel)
    return frozenset() if address is None else frozenset(code.digest for code in address.codes)


def live_reset_digests(user: User) -> frozenset[bytes]:
    """Give those of the codes with which a user's password can still be set anew."""
    credential = user.credential
    return frozenset() if credential is None else frozenset(code.digest for code in credential.reset.codes)
