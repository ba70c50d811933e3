"""What the database holds once for the whole instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schema_user.domain.keyring import Keyring, SealError
from schema_user.store.instance import InstanceStore

if TYPE_CHECKING:
    from schema_user.store.connection import Database

OLD, NEW = "the old secret of thirty-two characters", "the new secret of thirty-two characters"


async def test_the_claim_key_outlives_the_secret_that_wrapped_it(database: Database) -> None:
    """Start with the old secret, then with both, then with the new one alone: the same key; any other is refused."""
    key = await InstanceStore(database, Keyring([OLD])).claim_key(b"k" * 32)
    assert await InstanceStore(database, Keyring([NEW, OLD])).claim_key(b"x" * 32) == key
    assert await InstanceStore(database, Keyring([NEW])).claim_key(b"y" * 32) == key
    with pytest.raises(SealError):
        await InstanceStore(database, Keyring([OLD])).claim_key(b"z" * 32)


async def test_facts_are_stored_once(database: Database) -> None:
    """The first value stays for all; what must happen once is told to one."""
    store = InstanceStore(database, Keyring([OLD]))
    assert [await store.once("id", "1"), await store.once("id", "2")] == ["1", "1"]
    assert [await store.first("token"), await store.first("token")] == [True, False]
    await store.forget("token")
    assert await store.first("token")
    assert await store.known("id")
    assert not await store.known("other")
