"""Bearer tokens in MongoDB: digests only."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.caller import Grant, Token
from schema_user.domain.permission import Role
from schema_user.store.connection import DuplicateKey, raw
from schema_user.store.search import SearchStore

if TYPE_CHECKING:
    from collections.abc import Collection as Bunch
    from datetime import datetime

    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Database, Document

USE_GRAIN: Final = timedelta(minutes=1)
"""How coarse the time of a token's last use is: one write for each span of it, whatever the number of processes."""


def _to_document(token: Token) -> Document:
    document: dict[str, Any] = {
        "_id": token.token_id,
        "digest": token.digest,
        "name": token.name,
        "grants": [{"role": grant.role.value, "organization_id": grant.organization_id} for grant in token.grants],
        "created_at": token.created_at,
        "user_id": token.user_id,
        "user_organization_id": token.user_organization_id,
        "expires_at": token.expires_at,
        "created_by": token.created_by,
        "public_key": token.public_key,
        "last_used_at": token.last_used_at,
        "reach": [organization or "" for organization in token.organizations],
    }
    return {name: value for name, value in document.items() if value is not None}


def _from_document(document: Document) -> Token:
    return Token(
        token_id=document["_id"],
        digest=document["digest"],
        name=document["name"],
        grants=tuple(Grant(Role(grant["role"]), grant["organization_id"]) for grant in document["grants"]),
        created_at=document["created_at"],
        user_id=document.get("user_id"),
        user_organization_id=document.get("user_organization_id"),
        expires_at=document.get("expires_at"),
        created_by=document.get("created_by"),
        public_key=document.get("public_key"),
        last_used_at=document.get("last_used_at"),
    )


def within(organizations: Bunch[str] | None) -> Document:
    """Select the tokens that reach nothing outside these organizations; None selects every token."""
    return {} if organizations is None else {"reach": {"$not": {"$elemMatch": {"$nin": list(organizations)}}}}


class TokenStore(SearchStore[Token]):
    """The collection ``tokens``."""

    fields = {  # noqa: RUF012 -- declared a ClassVar by the base
        "id": "_id",
        "name": "name",
        "user_id": "user_id",
        "creation_date": "created_at",
    }

    def __init__(self, database: Database, keyring: Keyring) -> None:
        """Use a database."""
        self._tokens_stored = database.collection("tokens")
        super().__init__(self._tokens_stored.durable(), keyring, _from_document)

    async def prepare(self) -> None:
        """Make the indexes."""
        await self._tokens_stored.ensure_index([("digest", 1)], unique=True)
        await self._tokens_stored.ensure_index([("user_id", 1)])

    async def of_digest(self, digest: bytes) -> Token | None:
        """Find the token that has this digest."""
        document = await self._tokens_stored.durable().find_one({"digest": digest})
        return None if document is None else _from_document(document)

    async def find(self, token_id: str) -> Token | None:
        """Find a token by its id."""
        document = await self._tokens_stored.durable().find_one({"_id": token_id})
        return None if document is None else _from_document(document)

    async def insert(self, token: Token) -> bool:
        """Store a new token; False if the id or the token itself is there already."""
        try:
            await self._tokens_stored.insert(_to_document(token))
        except DuplicateKey:
            return False
        return True

    async def used(self, token_id: str, at: datetime) -> None:
        """Note that a token was used, unless a use less than ``USE_GRAIN`` before is noted; a failover may lose it."""
        where = {"_id": token_id, "last_used_at": {"$not": {"$gt": at - USE_GRAIN}}}
        statement = raw({"q": where, "u": {"$set": {"last_used_at": at}}, "multi": False})
        await self._tokens_stored.write_all("update", [statement], durable=False)

    async def delete(self, token_id: str) -> bool:
        """Delete a token; whether there was one."""
        return await self._tokens_stored.delete({"_id": token_id})

    async def any(self) -> bool:
        """Whether there is a token at all."""
        return await self._tokens_stored.find_one({}, {"_id": 1}) is not None
