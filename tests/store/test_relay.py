"""The way of a user's history from its document to where it is kept, on both drivers."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.app import relaying
from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.history import Origin, changes, link
from schema_user.domain.keyring import Keyring, SealError, open_with
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.user import User, advanced, erased
from schema_user.store import relay as relay_module
from schema_user.store.relay import Relay
from schema_user.store.users import MAX_PENDING, UserStore

if TYPE_CHECKING:
    from schema_user.store.batch import Write
    from schema_user.store.connection import Database, Document

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
KEYRING = Keyring(["a secret of thirty-two characters or more"])
ORIGIN = Origin("t", "actor", "r")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let users count as quiet soon."""
    monkeypatch.setattr(relay_module, "_QUIET", 0.05)


def user(user_id: str = "u", **changed: Any) -> User:
    """Make a user."""
    return structs.replace(User(user_id, "o", "s", 1, {"count": 0}, NOW, NOW), **changed)


def now() -> datetime:
    """Give the time as the database keeps it: in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def changed(store: UserStore, origin: Origin = ORIGIN, user_id: str = "u", **values: Any) -> tuple[User, User]:
    """Change a user, and give it as it was and as it is."""
    before = await store.find(user_id)
    assert before is not None
    after = advanced(before, structs.replace(before, **values), now())
    assert after is not None
    assert await store.replace(before, after, origin)
    return before, after


async def changed_once(store: UserStore, user_id: str) -> None:
    """Make a user and change it, so that two entries wait."""
    await store.insert(user(user_id))
    await changed(store, user_id=user_id, username="x")


async def deleted(store: UserStore) -> None:
    """Delete the user."""
    before = await store.find("u")
    assert before is not None
    after = advanced(before, erased(before), now())
    assert after is not None
    assert await store.replace(before, after, ORIGIN)


async def document(database: Database, user_id: str = "u") -> Document:
    """Give a user's document as it is stored."""
    found = await database.collection("users").find_one({"_id": user_id})
    assert found is not None
    return found


async def history(database: Database, user_id: str = "u") -> list[Document]:
    """Give the relayed entries of a user by their ids."""
    return await database.collection("history").find({"user_id": user_id}, sort=[("_id", 1)])


def opened(entry: Document, key: bytes) -> Any:
    """Open the values of an entry."""
    return json.loads(open_with(key, entry["sealed"], f"history|{entry['_id']}"))


def linked(entries: list[Document], chain: bytes) -> None:
    """Check that entries follow each other from the first to the end of the chain, and that their facts are whole."""
    visible = [entry for entry in entries if "digest" in entry]
    assert [entry["sequence"] for entry in visible] == list(range(1, len(visible) + 1))
    assert visible[0]["previous"] == b""
    assert all(one["digest"] == other["previous"] for one, other in itertools.pairwise(visible))
    assert visible[-1]["digest"] == chain
    for entry in visible:
        names = ("_id", "user_id", "organization_id", "sequence", "at", "token_id", "actor_id", "request_id")
        facts = [entry.get(name, "") for name in names]
        facts[4] = facts[4].isoformat()
        assert link(entry["previous"], facts, entry["sealed"]) == entry["digest"]


async def test_each_change_leaves_one_entry_in_a_chain(database: Database) -> None:
    """In order, told who and by which request, its values sealed under the user's own key."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    assert await store.insert(user(), Origin("t0", None, "r0"))
    expected = [changes(None, user())]
    steps: list[dict[str, Any]] = [{"username": "x"}, {"data": {"count": 1}}, {"locked": True}, {"username": None}]
    for number, values in enumerate(steps):
        before, after = await changed(store, Origin("t", "actor", f"r{number + 1}"), **values)
        expected.append(changes(before, after))
    await relay.flush()
    stored, entries = await document(database), await history(database)
    linked(entries, stored["chain"])
    assert [entry["request_id"] for entry in entries] == [f"r{number}" for number in range(5)]
    assert [entry.get("actor_id") for entry in entries] == [None, *["actor"] * 4]
    assert [opened(entry, stored["key"]) for entry in entries] == expected
    assert all("expires_at" not in entry for entry in entries)
    assert "count" not in str(entries)
    for entry, other in itertools.pairwise(entries):
        with pytest.raises(SealError):
            open_with(stored["key"], entry["sealed"], f"history|{other['_id']}")


async def test_a_write_that_no_client_sees_leaves_a_trace(database: Database) -> None:
    """Without values or a link, and only for a while; the chain goes on behind it."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    address = Address("a@example.com")
    await store.insert(user(contact=Contact(address)))
    code = Code(b"d", NOW, NOW + timedelta(hours=1))
    await changed(store, contact=Contact(structs.replace(address, codes=(code,))))
    chain = (await document(database))["chain"]
    await changed(store, username="x")
    await relay.flush()
    entries = await history(database)
    linked(entries, (await document(database))["chain"])
    first, trace, last = entries
    assert chain == first["digest"]
    assert set(trace) == {"_id", "user_id", "organization_id", "sequence", "at", "expires_at"}
    assert trace["expires_at"] > trace["at"]
    assert last["previous"] == first["digest"]


@pytest.mark.usefixtures("quick")
async def test_a_quiet_users_document_is_emptied(database: Database) -> None:
    """All entries stand in the history then, and the message in the outbox."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    message = Message("u:m", VERIFY, Channel.EMAIL, "u", "o", "a@example.com", NOW)
    async with relaying(relay):
        await store.insert(user(messages=(message,)))
        await changed(store, username="x")
        await changed(store, username="y")
        for _ in range(500):
            if "pending" not in await document(database):
                break
            await asyncio.sleep(0.02)
        stored, entries = await document(database), await history(database)
        assert not {"pending", "pending_since"} & set(stored)
        assert len(entries) == 3
        linked(entries, stored["chain"])
        await changed(store, username="z")
    stored, entries = await document(database), await history(database)
    assert not {"pending", "pending_since"} & set(stored)
    assert len(entries) == 4
    linked(entries, stored["chain"])
    mail = await database.collection("outbox").find_one({"_id": "u:m"})
    assert mail is not None
    assert mail["relayed"] is True


@pytest.mark.usefixtures("quick")
async def test_the_end_of_a_relay_moves_what_is_noted(database: Database) -> None:
    """Of every user, though nobody was quiet for long."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    async with relaying(relay):
        await asyncio.gather(*(changed_once(store, f"u{number}") for number in range(50)))
    assert await database.collection("users").count({"pending": {"$exists": True}}) == 0
    assert await database.collection("history").count({}) == 100


async def test_a_hot_user_is_never_refused(database: Database) -> None:
    """A hundred changes in a row; what waits in its document stays bounded, and no entry is lost."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    await store.insert(user())
    most = 0
    async with relaying(relay):
        for number in range(1, 101):
            before, _ = await changed(store, data={"count": number})
            most = max(most, len(before.pending))
    assert 0 < most <= MAX_PENDING
    stored, entries = await document(database), await history(database)
    assert stored["data"] == {"count": 100}
    assert len(entries) == 101
    linked(entries, stored["chain"])


async def test_a_sweep_finds_what_a_crash_left(database: Database) -> None:
    """Of old age only; some of it was copied already, and one was pushed meanwhile."""
    crashed = UserStore(database, KEYRING)
    await crashed.insert(user())
    for number in range(3):
        await changed(crashed, username=f"x{number}")
    waiting = (await document(database))["pending"]
    assert len(waiting) == 4
    await database.collection("history").insert(waiting[1]["record"])
    await changed(crashed, username="y")
    await database.collection("users").update({"_id": "u"}, {"$set": {"pending_since": datetime.now(UTC)}})
    relay = Relay(database)
    assert await relay.sweep(timedelta(minutes=1)) == 0
    assert await relay.sweep(timedelta(0)) == 1
    assert await relay.sweep(timedelta(0)) == 0
    stored, entries = await document(database), await history(database)
    assert not {"pending", "pending_since"} & set(stored)
    assert len(entries) == 5
    linked(entries, stored["chain"])
    store = UserStore(database, KEYRING, relay)
    await changed(store, username="z")
    await relay.flush()
    linked(await history(database), (await document(database))["chain"])


async def test_what_waits_always_has_a_date(database: Database) -> None:
    """A sweep finds by it; also if the document was emptied under a write, by its own need of room or by a relay."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    await store.insert(user(created_at=now(), changed_at=now()))
    for number in range(MAX_PENDING):
        await changed(store, data={"count": number + 1})
    stored = await document(database)
    assert len(stored["pending"]) < MAX_PENDING
    assert "pending_since" in stored
    before = await store.find("u")
    assert before is not None
    await relay.flush()
    assert relay.copied("u", [each.record_id for each in before.pending])
    after = advanced(before, structs.replace(before, username="x"), now())
    assert after is not None
    submit = store._updates.do

    async def late(write: Write) -> bool:
        await relay._empty(0)
        assert "pending" not in await document(database)
        return await submit(write)

    store._updates.do = late  # type: ignore[method-assign]
    assert await store.replace(before, after)
    assert "pending_since" in await document(database)
    assert await Relay(database).sweep() == 1
    assert len(await history(database)) == MAX_PENDING + 2


async def test_a_message_that_a_document_still_names_is_not_let_go(database: Database) -> None:
    """Another process wrote after it was copied: the document is left to the sweep, and the record stays."""
    relay = Relay(database)
    store, other = UserStore(database, KEYRING, relay), UserStore(database, KEYRING)
    message = Message("u:m", VERIFY, Channel.EMAIL, "u", "o", "a@example.com", NOW)
    await store.insert(user(messages=(message,)))
    await relay.flush()
    await changed(other, username="x")
    await relay._empty(0)
    mail = await database.collection("outbox").find_one({"_id": "u:m"})
    assert mail is not None
    assert mail["relayed"] is False
    await relay.sweep()
    mail = await database.collection("outbox").find_one({"_id": "u:m"})
    assert mail is not None
    assert mail["relayed"] is True


async def test_a_sweep_goes_through_all_users_in_portions(database: Database) -> None:
    """Until there is none left."""
    crashed = UserStore(database, KEYRING)
    await asyncio.gather(*(changed_once(crashed, f"u{number}") for number in range(7)))
    relay = Relay(database)
    assert [await relay.sweep(limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert await database.collection("history").count({}) == 14


@pytest.mark.parametrize("order", ["before", "between", "after"])
async def test_two_processes_lose_nothing_of_each_other(database: Database, order: str) -> None:
    """They write the same user in turn, and each takes out what it knows of, whenever it comes to it."""
    relays = [Relay(database), Relay(database)]
    stores = [UserStore(database, KEYRING, relay) for relay in relays]
    await stores[0].insert(user())
    for number in range(1, 13):
        await changed(stores[number % 2], data={"count": number})
        if order == "before":
            await relays[number % 2].flush()
        elif order == "between" and number % 3 == 0:
            await relays[1 - number % 2].flush()
            await relays[1 - number % 2]._empty(0)
        known = {each["_id"] for each in await history(database)}
        known |= {each["id"] for each in (await document(database)).get("pending", ())}
        assert len(known) == number + 1
    for relay in relays:
        await relay.flush()
        await relay._empty(0)
    assert len(await history(database)) == 13
    await relays[0].sweep(timedelta(0))
    stored, entries = await document(database), await history(database)
    assert not {"pending", "pending_since"} & set(stored)
    assert len(entries) == 13
    linked(entries, stored["chain"])


@pytest.mark.usefixtures("quick")
async def test_many_writers_in_two_processes_at_once(database: Database) -> None:
    """Every change that was taken has its entry, and the chain has no gap."""
    relays = [Relay(database), Relay(database)]
    stores = [UserStore(database, KEYRING, relay) for relay in relays]
    await stores[0].insert(user())

    async def writer(store: UserStore) -> None:
        while True:
            before = await store.find("u")
            assert before is not None
            after = advanced(before, structs.replace(before, data={"count": before.data["count"] + 1}), now())
            assert after is not None
            if await store.replace(before, after):
                return

    async with relaying(relays[0]), relaying(relays[1]):
        await asyncio.gather(*(writer(stores[number % 2]) for number in range(16)))
    await relays[0].sweep(timedelta(0))
    stored, entries = await document(database), await history(database)
    assert stored["data"] == {"count": 16}
    assert len(entries) == 17
    linked(entries, stored["chain"])


@pytest.mark.parametrize("relayed", [True, False], ids=["after they moved", "while they wait"])
async def test_a_deletion_makes_all_values_unreadable(database: Database, relayed: bool) -> None:
    """The facts and the chain stay; the key is nowhere any more."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    await store.insert(user(username="Minnie"), ORIGIN)
    await changed(store, data={"count": 5})
    key = (await document(database))["key"]
    if relayed:
        await relay.flush()
    await deleted(store)
    await relay.sweep(timedelta(0))
    stored, entries = await document(database), await history(database)
    assert "key" not in stored
    linked(entries, stored["chain"])
    assert [entry["sequence"] for entry in entries] == [1, 2, 3]
    assert [bool(entry["sealed"]) for entry in entries] == [True, True, False]
    assert opened(entries[1], key)
    everything = [stored, *entries, *await database.collection("outbox").find({})]
    candidates = {value for each in everything for value in each.values() if isinstance(value, bytes)}
    assert key not in candidates
    assert "Minnie" not in str(everything)
    for candidate in (each for each in candidates if len(each) in {16, 24, 32}):
        for entry in entries[:2]:
            with pytest.raises(SealError):
                opened(entry, candidate)
