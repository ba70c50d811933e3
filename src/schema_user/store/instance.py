"""What the database holds once for the whole instance: its id, the key of the claims, whether it was bootstrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.store.connection import DuplicateKey

if TYPE_CHECKING:
    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Database

_CLAIM_CONTEXT: Final = "claim key"


class InstanceStore:
    """The collection ``instance``."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        """Use a database; the keyring wraps the claim key, which itself never changes."""
        self._facts = database.collection("instance")
        self._keyring = keyring
        self._read: dict[str, str] = {}

    async def once(self, name: str, value: str | bytes) -> str | bytes:
        """Store a fact unless it is there; the first one stays, whoever races, and is given to all."""
        try:
            await self._facts.insert({"_id": name, "value": value})
        except DuplicateKey:
            found = await self._facts.find_one({"_id": name})
            return value if found is None else found["value"]
        return value

    async def fact(self, name: str) -> str | None:
        """Give a fact that ``once`` stored, if it is there; as it never changes, it is read once."""
        if name not in self._read:
            found = await self._facts.find_one({"_id": name})
            if found is None:
                return None
            self._read[name] = str(found["value"])
        return self._read[name]

    async def known(self, name: str) -> bool:
        """Whether a fact is there."""
        return await self._facts.find_one({"_id": name}, {"_id": 1}) is not None

    async def first(self, name: str) -> bool:
        """Whether this call is the first ever to ask for ``name``; what must happen once hangs on it."""
        try:
            await self._facts.insert({"_id": name})
        except DuplicateKey:
            return False
        return True

    async def forget(self, name: str) -> None:
        """Take a fact back, as when what hung on it failed."""
        await self._facts.delete({"_id": name})

    async def claim_key(self, fresh: bytes) -> bytes:
        """Give the key of the claims, made of ``fresh`` bytes at the first start.

        It never changes; after a rotation it is wrapped anew, so that the old secret can go.

        Raises:
            SealError: if it was sealed under a secret that is not set any more.
        """
        found = await self.once("claim_key", self._keyring.seal(fresh, _CLAIM_CONTEXT))
        sealed = found if isinstance(found, bytes) else found.encode()
        key = self._keyring.open(sealed, _CLAIM_CONTEXT)
        if not self._keyring.is_current(sealed):
            wrapped = self._keyring.seal(key, _CLAIM_CONTEXT)
            await self._facts.update({"_id": "claim_key", "value": found}, {"$set": {"value": wrapped}})
        return key
