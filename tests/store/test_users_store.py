"""Users, claims and the outbox on both drivers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec import structs

from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact, Resend
from schema_user.domain.credential import Credential
from schema_user.domain.indexing import Entry
from schema_user.domain.keyring import Keyring
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.user import Claimed, Creation, User, advanced, erased
from schema_user.store.claims import ORPHAN_AGE, OWN_ORPHAN_AGE, ClaimStore, Place
from schema_user.store.outbox import OutboxStore
from schema_user.store.relay import Relay
from schema_user.store.user_documents import ERASED, to_document
from schema_user.store.users import MAX_PENDING, UserStore

if TYPE_CHECKING:
    from schema_user.store.connection import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
KEYRING = Keyring(["a secret of thirty-two characters or more"])


def user(**changes: Any) -> User:
    """Make a user."""
    values: dict[str, Any] = {
        "user_id": "u",
        "organization_id": "o",
        "schema_id": "s",
        "revision": 1,
        "data": {"z": 1, "a": [None, 2.5, 2**40, {"x": True}]},
        "created_at": NOW,
        "changed_at": NOW,
    }
    return User(**(values | changes))


def message(number: int, **changes: Any) -> Message:
    """Make a message."""
    made = Message(
        f"u:{number}", VERIFY, Channel.EMAIL, "u", "o", "a@example.com", NOW, code="SECRET", code_digest=b"d"
    )
    return structs.replace(made, **changes)


def next_of(before: User, **changes: Any) -> User:
    """Advance a user by a change."""
    after = advanced(before, structs.replace(before, **changes), NOW)
    assert after is not None
    return after


async def copied(database: Database, stored: dict[str, Any]) -> None:
    """Do what a relay does before it is killed: copy what waits, and take nothing out."""
    for each in stored["pending"]:
        await database.collection(each["to"]).insert(each["record"])


def told(user: User | None) -> dict[str, Any]:
    """What a user is, without what the store adds."""
    assert user is not None
    added = ("messages", "pending", "pending_since", "key", "chain", "creation")
    return {name: value for name, value in structs.asdict(user).items() if name not in added}


async def test_a_user_is_read_back_as_it_was_written(database: Database) -> None:
    """Every field, and the order of keys in data."""
    store = UserStore(database, KEYRING)
    address = Address("A@example.com", is_verified=False, codes=(Code(b"d", NOW, NOW + timedelta(hours=1)),), failed=2)
    whole = user(
        contact=Contact(address, Address("+41791234567", is_verified=True)), username="Minnie", username_claim=b"n"
    )
    assert await store.insert(whole)
    assert told(await store.find("u")) == told(whole)
    found = await store.read("u")
    assert told(found) == told(whole)
    assert found is not None
    assert list(found.data) == ["z", "a"]
    assert not await store.insert(user())


def test_a_deletion_takes_away_every_field_that_a_user_may_have() -> None:
    """But the id, and facts of which and when; a field of a user that is unknown here makes this fail."""
    optional: dict[str, Any] = {
        "contact": Contact(Address("a@example.com"), Address("+41791234567"), (Resend(Channel.EMAIL, NOW),)),
        "credential": Credential(encoded="$x"),
        "username": "Minnie",
        "username_claim": b"n",
        "claims": (Claimed("unique", b"c", b"n"),),
        "marking": "m",
        "indexed": (Entry("k", is_bool=False, value="v"),),
        "key": b"k",
        "chain": b"c",
        "creation": Creation("u:1:x", "t", "actor", "r"),
    }
    known = {*optional, "messages", "pending", "pending_since", "sequence", "version", "active", "locked", "deleted"}
    assert known == {each.name for each in structs.fields(User) if not each.required}
    least, whole = to_document(user(chain=b"c")), to_document(user(**optional))
    assert whole.keys() - least.keys() == set(ERASED)
    assert len(set(ERASED)) == len(ERASED)


async def test_only_the_version_that_was_read_can_be_replaced(database: Database) -> None:
    """Of two writers that read the same, one wins; what did not change is not written."""
    store = UserStore(database, KEYRING)
    await store.insert(user())
    before = await store.find("u")
    assert before is not None
    first, second = next_of(before, username="one"), next_of(before, data={"b": 1})
    assert await store.replace(before, first)
    assert not await store.replace(before, second)
    assert told(await store.find("u")) == told(first)
    removed = next_of(first, username=None)
    assert await store.replace(first, removed)
    assert told(await store.find("u")) == told(removed)


async def test_an_erased_user_is_gone_but_its_id_is_not_free(database: Database) -> None:
    """No value stays in the document, and waiting messages go with it."""
    store = UserStore(database, KEYRING)
    await store.insert(user(contact=Contact(Address("a@example.com")), username="x", messages=(message(1),)))
    before = await store.find("u")
    assert before is not None
    after = advanced(before, erased(before), NOW)
    assert after is not None
    assert await store.replace(before, after)
    assert await store.find("u") is None
    assert not await store.insert(user())
    document = await database.collection("users").find_one({"_id": "u"})
    assert document is not None
    assert document["data"] == {}
    assert not {"email", "username", "username_folded", "key"} & set(document)
    assert {each["to"] for each in document["pending"]} == {"history", "erasure"}


async def test_messages_move_to_the_outbox_once(database: Database) -> None:
    """However often a relay starts over, and whatever was pushed meanwhile."""
    users, outbox, relay = UserStore(database, KEYRING), OutboxStore(database, KEYRING), Relay(database)
    before = user(messages=(message(1),))
    await users.insert(before)
    stored = await database.collection("users").find_one({"_id": "u"})
    assert stored is not None
    assert "SECRET" not in str(stored)
    await copied(database, stored)
    after = next_of(structs.replace(before, messages=()), messages=(message(2),), username="x")
    assert await users.replace(before, after)
    assert await relay.sweep() == 1
    assert await relay.sweep() == 0
    claimed = [await outbox.claim([Channel.EMAIL], NOW, timedelta(minutes=1), "w") for _ in range(3)]
    assert sorted(pair[0]["_id"] for pair in claimed if pair) == ["u:1", "u:2"]
    first = next(pair for pair in claimed if pair and pair[0]["_id"] == "u:1")
    assert first[1] == message(1)


async def test_a_settled_message_never_comes_back(database: Database) -> None:
    """A relay that was cut short before the pull finds the emptied record and leaves it alone."""
    users, outbox, relay = UserStore(database, KEYRING), OutboxStore(database, KEYRING), Relay(database)
    await users.insert(user(messages=(message(1),)))
    stored = await database.collection("users").find_one({"_id": "u"})
    assert stored is not None
    await copied(database, stored)
    claimed = await outbox.claim([Channel.EMAIL], NOW, timedelta(minutes=1), "w")
    assert claimed is not None
    await outbox.settle(claimed[0], "sent", NOW)
    await relay.sweep()
    assert await outbox.claim([Channel.EMAIL], NOW + timedelta(days=1), timedelta(minutes=1), "w") is None
    record = await database.collection("outbox").find_one({"_id": "u:1"})
    assert record is not None
    assert "sealed" not in record
    assert record["relayed"] is True


async def test_a_lease_ends_and_its_late_holder_changes_nothing(database: Database) -> None:
    """The next worker gets the message; what the first says of it afterwards counts no more."""
    users, outbox = UserStore(database, KEYRING), OutboxStore(database, KEYRING)
    await users.insert(user(messages=(message(1),)))
    await Relay(database).sweep()
    lease = timedelta(minutes=1)
    first = await outbox.claim([Channel.EMAIL], NOW, lease, "one")
    assert first is not None
    assert await outbox.claim([Channel.EMAIL], NOW, lease, "two") is None
    second = await outbox.claim([Channel.EMAIL], NOW + lease, lease, "two")
    assert second is not None
    await outbox.settle(first[0], "sent", NOW)
    record = await database.collection("outbox").find_one({"_id": "u:1"})
    assert record is not None
    assert (record["state"], record["tries"]) == ("pending", 2)
    assert await outbox.claim([Channel.PHONE], NOW + 9 * lease, lease, "two") is None


async def test_a_user_holds_a_bounded_number_of_records(database: Database) -> None:
    """What finds no room moves the others out first, and nothing is lost."""
    users = UserStore(database, KEYRING)
    before = user(messages=tuple(message(number) for number in range(MAX_PENDING - 1)))
    await users.insert(before)
    found = await users.find("u")
    assert found is not None
    assert await users.replace(found, next_of(found, messages=(message(99),)))
    found = await users.find("u")
    assert found is not None
    assert len(found.pending) == 3, "two entries and a message"
    assert await database.collection("outbox").count({}) == MAX_PENDING - 1


async def test_a_claim_is_held_by_one_until_it_is_released(database: Database) -> None:
    """Also against other requests of its own holder; an old nonce releases nothing, another place is another claim."""
    claims = ClaimStore(database, b"key")
    place = Place("username", "o", "minnie")
    assert await claims.take(place, "u", b"1", NOW)
    assert not await claims.take(place, "v", b"2", NOW)
    assert await claims.take(replace(place, scope="p"), "v", b"2", NOW)
    assert await claims.take(place, "u", b"1", NOW)
    assert not await claims.take(place, "u", b"3", NOW)
    assert await claims.take(place, "u", b"3", NOW + OWN_ORPHAN_AGE + timedelta(seconds=1))
    await claims.release(place, "u", b"1")
    assert not await claims.take(place, "v", b"4", NOW)
    await claims.release(place, "u", b"3")
    assert await claims.take(place, "v", b"5", NOW)


async def test_an_orphaned_claim_is_free_again_a_confirmed_one_never(database: Database) -> None:
    """A claim that no user confirmed in ten minutes was left behind by a crash."""
    users, claims = UserStore(database, KEYRING), ClaimStore(database, b"key")
    place = Place("username", "o", "minnie")
    later = NOW + ORPHAN_AGE + timedelta(seconds=1)
    assert await claims.take(place, "u", b"1", NOW)
    assert not await claims.take(place, "v", b"2", NOW + ORPHAN_AGE)
    await users.insert(user(username="minnie", username_claim=b"1"))
    assert not await claims.take(place, "v", b"2", later)
    assert not await claims.take(place, "u", b"2", later)
    other = replace(place, value="daisy")
    assert await claims.take(other, "u", b"7", NOW)
    assert await claims.take(other, "v", b"8", later)
