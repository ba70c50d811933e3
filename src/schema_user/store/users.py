"""Users in MongoDB: one document each, one guarded write for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.search import fold
from schema_user.domain.user import User
from schema_user.errors import Unavailable
from schema_user.store.connection import DuplicateKey
from schema_user.store.outbox import message_document
from schema_user.store.search import SearchStore

if TYPE_CHECKING:
    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Database, Document, Pipeline

MAX_PENDING: Final = 32
"""Messages that may wait in one user's document; more would let it grow towards the database's 16 MiB."""

_INDEXES: Final = (
    [("organization_id", 1), ("_id", 1)],
    [("schema_id", 1), ("organization_id", 1)],
    [("username_folded", 1)],
    [("email.folded", 1)],
    [("phone.value", 1)],
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
FOLDED_FIELDS: Final = {"username": "username_folded", "email": "email.folded", "phone": "phone.value"}


def _address_document(address: Address | None) -> Document | None:
    if address is None:
        return None
    return {
        "value": address.value,
        "folded": fold(address.value),
        "verified": address.is_verified,
        "failed": address.failed,
        "codes": [
            {"digest": code.digest, "created_at": code.created_at, "expires_at": code.expires_at}
            for code in address.codes
        ],
    }


def _address(document: Document | None) -> Address | None:
    if document is None:
        return None
    return Address(
        document["value"],
        is_verified=document["verified"],
        codes=tuple(Code(code["digest"], code["created_at"], code["expires_at"]) for code in document["codes"]),
        failed=document["failed"],
    )


def to_document(user: User) -> Document:
    """Write a user down as a document; fields without a value are absent."""
    document: Document = {
        "_id": user.user_id,
        "organization_id": user.organization_id,
        "schema_id": user.schema_id,
        "revision": user.revision,
        "data": user.data,
        "created_at": user.created_at,
        "changed_at": user.changed_at,
        "sequence": user.sequence,
        "version": user.version,
        "active": user.active,
        "locked": user.locked,
        "deleted": user.deleted,
        "state": user.state.value,
        "email": _address_document(user.contact.email),
        "phone": _address_document(user.contact.phone),
        "username": user.username,
        "username_folded": None if user.username is None else fold(user.username),
        "username_claim": user.username_claim,
    }
    return {name: value for name, value in document.items() if value is not None}


def from_document(document: Document) -> User:
    """Read a user back out of its document."""
    return User(
        user_id=document["_id"],
        organization_id=document["organization_id"],
        schema_id=document["schema_id"],
        revision=document["revision"],
        data=document["data"],
        created_at=document["created_at"],
        changed_at=document["changed_at"],
        sequence=document["sequence"],
        version=document["version"],
        active=document["active"],
        locked=document["locked"],
        deleted=document["deleted"],
        contact=Contact(_address(document.get("email")), _address(document.get("phone"))),
        username=document.get("username"),
        username_claim=document.get("username_claim"),
        pending=len(document.get("pending", ())),
    )


def _difference(before: User, after: User) -> Document:
    """Give the update that turns one document into the other, and touches nothing that stays the same."""
    old, new = to_document(before), to_document(after)
    if after.data is before.data:
        old.pop("data"), new.pop("data")
    put = {name: value for name, value in new.items() if name not in old or old[name] != value or name == "data"}
    gone = dict.fromkeys(old.keys() - new.keys(), "")
    return {"$set": put} | ({"$unset": gone} if gone else {})


class UserStore(SearchStore[User]):
    """The collection ``users``."""

    fields = SEARCH_FIELDS
    folded = FOLDED_FIELDS
    joins = _JOINS

    def __init__(self, database: Database, keyring: Keyring) -> None:
        """Use a database; messages are sealed by the keyring before they are stored."""
        self._users = database.collection("users")
        self._keyring = keyring
        super().__init__(self._users.durable(), keyring, from_document)

    async def prepare(self) -> None:
        """Make the indexes."""
        for keys in _INDEXES:
            await self._users.ensure_index(keys)
        await self._users.ensure_index(
            [("pending_since", 1)], partialFilterExpression={"pending_since": {"$exists": True}}
        )

    async def find(self, user_id: str) -> User | None:
        """Find a user as the primary has it, for a change; None if there is none, erased ones included."""
        document = await self._users.find_one({"_id": user_id, "deleted": False}, {"pending.sealed": 0})
        return None if document is None else from_document(document)

    async def read(self, user_id: str) -> User | None:
        """Find a user as a majority has it, for an answer."""
        document = await self._users.durable().find_one({"_id": user_id, "deleted": False}, {"pending": 0})
        return None if document is None else from_document(document)

    async def exists(self, user_id: str) -> bool:
        """Whether the id was ever used."""
        return await self._users.find_one({"_id": user_id}, {"_id": 1}) is not None

    async def insert(self, user: User) -> bool:
        """Store a new user and its messages; False if the id was used before."""
        document = to_document(user)
        if user.messages:
            document["pending"] = self._pending(user)
            document["pending_since"] = user.created_at
        try:
            await self._users.insert(document)
        except DuplicateKey:
            return False
        return True

    async def replace(self, before: User, after: User) -> bool:
        """Store a change and its messages in one write; False if the user moved on since it was read.

        Raises:
            Unavailable: if too many messages of this user wait already.
        """
        change: dict[str, Any] = _difference(before, after)
        if after.messages:
            if before.pending + len(after.messages) > MAX_PENDING:
                raise Unavailable("QUEUE_FULL", "too many messages of this user wait to be sent", retry_after=1)
            change["$push"] = {"pending": {"$each": self._pending(after)}}
            change["$min"] = {"pending_since": after.messages[0].created_at}
        if after.deleted:
            change.pop("$push", None)
            change.setdefault("$unset", {}).update({"pending": "", "pending_since": ""})
        return await self._users.update({"_id": before.user_id, "version": before.version}, change)

    async def count_of_schema(self, schema_id: str) -> int:
        """Count the users of a schema, over all organizations."""
        return await self._users.count({"schema_id": schema_id, "deleted": False})

    async def count_of_organization(self, organization_id: str) -> int:
        """Count the users of an organization."""
        return await self._users.count({"organization_id": organization_id, "deleted": False})

    def _pending(self, user: User) -> list[Document]:
        return [message_document(message, self._keyring) for message in user.messages]


def live_digests(user: User, channel: Channel) -> frozenset[bytes]:
    """Give the digests of the codes that a user's address still knows, to tell a live message from a dead one."""
    address = user.contact.on(channel)
    return frozenset() if address is None else frozenset(code.digest for code in address.codes)
