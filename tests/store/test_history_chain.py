"""The chain of a user's entries: what is read of it while it moves, and what is found of those who meddle with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user import history_reading
from schema_user.app import relaying
from schema_user.commands.change import Target
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, delete_user, update_user
from schema_user.domain.contact import Address, Contact
from schema_user.domain.history import SHORTEST_TTL, Entry, Origin, changes, link
from schema_user.domain.user import advanced
from schema_user.queries import get_user
from schema_user.store.history import EXPIRES, HistoryStore, opened, read_entry
from schema_user.store.relay import Relay
from schema_user.store.users import UserStore
from tests.conftest import fresh_uri, prepared, settings_for
from tests.store.test_relay import KEYRING, NOW, ORIGIN, changed, deleted, document, history, now, user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_user.store.connection import Database, Document
    from schema_user.store.history import CheckedChain
    from schema_user.wiring import Wiring

    Meddle = Callable[[Database, list[Document]], Awaitable[None]]

ENTRIES = 5
OLD = now() - timedelta(days=400)


async def told(database: Database, user_id: str = "u", before: str | None = None) -> list[Entry]:
    """Read a user's entries, the newest first."""
    store = HistoryStore(database)
    head = await store.head(user_id)
    assert head is not None
    return [entry async for entry in store.entries(head, before)]


async def check(database: Database, user_id: str = "u", expired_before: datetime | None = None) -> CheckedChain:
    """Follow a user's chain."""
    store = HistoryStore(database)
    head = await store.head(user_id)
    assert head is not None
    return await store.check(head, expired_before)


async def grown(database: Database, *, moved: bool = True, kept: timedelta | None = None) -> Relay:
    """Make a user with ``ENTRIES`` entries, which are moved or wait in its document."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay, kept)
    await store.insert(user(created_at=OLD, changed_at=OLD), Origin("t0", None, "r0"))
    for number in range(1, ENTRIES):
        await changed(store, data={"count": number})
    if moved:
        await relay.flush()
        await relay._empty(0)
        assert "pending" not in await document(database)
    return relay


class TestReading:
    async def test_each_entry_is_read_once_wherever_it_is(self, database: Database) -> None:
        """In the user's document, in both places, or moved; the newest first, and traces are left out."""
        relay = Relay(database)
        store = UserStore(database, KEYRING, relay)
        await store.insert(user(contact=Contact(Address("a@example.com"))), ORIGIN)
        sequences = [1]

        async def assert_all_told() -> None:
            assert [entry.sequence for entry in await told(database)] == sequences[::-1]
            assert await is_whole(database)

        for step in (relay.flush, lambda: relay._empty(0), lambda: relay.sweep(timedelta(0))):
            await assert_all_told()
            await changed(store, data={"count": sequences[-1]})
            await changed(store, contact=Contact(Address("a@example.com", failed=sequences[-1])))
            await changed(store, username=f"minnie{sequences[-1]}")
            sequences += [sequences[-1] + 1, sequences[-1] + 2]
            await assert_all_told()
            await step()
            await assert_all_told()

    async def test_reading_goes_on_before_an_entry(self, database: Database) -> None:
        """Whether it was moved or waits."""
        relay = await grown(database)
        await changed(UserStore(database, KEYRING, relay), username="x")
        await changed(UserStore(database, KEYRING, relay), username="y")
        entries = await told(database)
        assert len(entries) == ENTRIES + 2
        for number, entry in enumerate(entries, 1):
            assert await told(database, before=entry.entry_id) == entries[number:]

    async def test_an_entry_that_moves_while_it_is_read_is_not_missed(self, database: Database) -> None:
        """The user's document is read before the collection, in which everything is that is not there any more."""
        relay = await grown(database, moved=False)
        store = HistoryStore(database)
        head = await store.head("u")
        assert head is not None
        await relay.flush()
        await relay._empty(0)
        await changed(UserStore(database, KEYRING, relay), username="later")
        await relay.flush()
        assert [entry.sequence async for entry in store.entries(head)] == list(range(ENTRIES, 0, -1))
        assert (await store.check(head, None)).broken_at is None

    async def test_the_first_entry_is_written_with_the_first_change(self, database: Database) -> None:
        """Until then the user itself tells what it was created as, by whom and when, and nothing is written."""
        relay = Relay(database)
        store = UserStore(database, KEYRING, relay)
        await store.insert(user(username="Minnie"), Origin("t0", "actor", "r0"))
        stored, (untouched,) = await document(database), await told(database)
        assert "pending" not in stored
        assert await is_whole(database)
        await changed(store, data={"count": 1}, username="Other")
        await relay.flush()
        _, first = await told(database)
        assert await database.collection("history").count({}) == 2
        assert await is_whole(database)
        assert "creation" not in await document(database)
        for each in (untouched, first):
            assert opened(stored["key"], each) == changes(None, user(username="Minnie"))
            assert (each.entry_id, each.sequence, each.at) == (stored["creation"]["id"], 1, stored["created_at"])
            assert (each.token_id, each.actor_id, each.request_id) == ("t0", "actor", "r0")
            assert each.whole

    async def test_a_first_change_while_the_creation_is_read_is_not_missed(self, database: Database) -> None:
        """What was read as untouched is told as it was then, also once its entry waits or was moved."""
        relay = Relay(database)
        store, reader = UserStore(database, KEYRING, relay), HistoryStore(database)
        await store.insert(user(), ORIGIN)
        head = await reader.head("u")
        assert head is not None
        await changed(store, username="later")
        for step in (relay.flush, lambda: relay._empty(0)):
            (entry,) = [each async for each in reader.entries(head)]
            assert (entry.sequence, opened(head.key, entry)) == (1, changes(None, user()))
            assert (await reader.check(head, None)).broken_at is None
            await step()
        (entry,) = [each async for each in reader.entries(head)]
        assert entry.sequence == 1

    async def test_a_creation_is_told_as_long_as_entries_are_kept(self, database: Database) -> None:
        """Though nothing had to be written of it, and nothing expires."""
        await UserStore(database, KEYRING).insert(user(created_at=OLD, changed_at=OLD), ORIGIN)
        for kept, entries in ((None, 1), (timedelta(days=1), 0), (timedelta(days=100_000), 1)):
            store = HistoryStore(database, kept)
            head = await store.head("u")
            assert head is not None
            assert len([each async for each in store.entries(head)]) == entries

    async def test_an_untouched_user_with_a_chain_is_broken(self, database: Database) -> None:
        """Somebody took its entries away, or wrote that nothing changed it."""
        for user_id, field in (("u", {"chain": b"d"}), ("v", {"sequence": 2})):
            await UserStore(database, KEYRING).insert(user(user_id), ORIGIN)
            await database._raw.users.update_one({"_id": user_id}, {"$set": field})
            assert (await check(database, user_id)).broken_at == 1

    async def test_users_whose_ids_look_alike_are_told_apart(self, database: Database) -> None:
        """Also if the id of one begins with that of another's writes."""
        relay = Relay(database)
        store = UserStore(database, KEYRING, relay)
        ids = ["u", "u:", "u:0000000001", "u:0000000001:x", "u:1", "u0", "u;"]
        for user_id in ids:
            await store.insert(user(user_id), ORIGIN)
            await changed(store, user_id=user_id, username=f"x{user_id}")
        for step in (0, 1):
            for user_id in ids:
                assert [(each.user_id, each.sequence) for each in await told(database, user_id)] == [
                    (user_id, 2),
                    (user_id, 1),
                ]
                assert (await check(database, user_id)).broken_at is None
            if not step:
                await relay.flush()
        assert await HistoryStore(database).user_ids("", 3) == sorted(ids)[:3]
        assert await HistoryStore(database).user_ids(sorted(ids)[2], 9) == sorted(ids)[3:]

    async def test_what_changed_is_opened_with_the_users_key_only(self, database: Database) -> None:
        """Without one there is nothing, which is how a deleted user's entries are read."""
        await grown(database)
        key = (await document(database))["key"]
        newest = (await told(database))[0]
        assert opened(key, newest) == [{"pointer": "/data/count", "old": ENTRIES - 2, "new": ENTRIES - 1}]
        assert opened(b"", newest) == []


async def is_whole(database: Database) -> bool:
    """Whether the chain is whole and begins with the first entry."""
    found = await check(database)
    return (found.broken_at, found.begins_at) == (None, 1)


def put(sequence: int, /, **values: Any) -> Meddle:
    """Put other values into an entry."""

    async def meddle(database: Database, entries: list[Document]) -> None:
        where = {"_id": entries[sequence - 1]["_id"]}
        assert await database.collection("history").update(where, {"$set": values})

    return meddle


def without(*names: str) -> Meddle:
    """Take fields out of the third entry."""

    async def meddle(database: Database, entries: list[Document]) -> None:
        where = {"_id": entries[2]["_id"]}
        assert await database.collection("history").update(where, {"$unset": dict.fromkeys(names, "")})

    return meddle


def removed(*sequences: int) -> Meddle:
    """Remove entries."""

    async def meddle(database: Database, entries: list[Document]) -> None:
        for sequence in sequences:
            assert await database.collection("history").delete({"_id": entries[sequence - 1]["_id"]})

    return meddle


async def swapped(database: Database, entries: list[Document]) -> None:
    """Let two entries change their places, ids and all that orders them."""
    second, third = entries[1], entries[2]
    await removed(2, 3)(database, entries)
    for content, place in ((second, third), (third, second)):
        moved = content | {name: place[name] for name in ("_id", "sequence", "previous")}
        await database.collection("history").insert(moved)


async def added(database: Database, entries: list[Document]) -> None:
    """Put one entry more behind the third."""
    await database.collection("history").insert(entries[2] | {"_id": entries[2]["_id"] + "x"})


async def forged(database: Database, entries: list[Document]) -> None:
    """Write another token into an entry, and the digest that goes with it."""
    entry = read_entry(entries[2])
    assert entry is not None
    facts = ("u", "o", entry.sequence, entry.at.isoformat(), "forged", entry.actor_id or "", entry.request_id)
    digest = link(entry.previous, (entry.entry_id, *facts), entry.sealed)
    await put(3, token_id="forged", digest=digest)(database, entries)


MEDDLING: dict[str, tuple[Meddle, int]] = {
    "values": (put(3, sealed=b"other"), 3),
    "token": (put(3, token_id="other"), 3),
    "first token": (put(1, token_id="other"), 1),
    "newest token": (put(ENTRIES, token_id="other"), ENTRIES),
    "actor": (put(3, actor_id="other"), 3),
    "no actor": (without("actor_id"), 3),
    "request": (put(3, request_id="other"), 3),
    "time": (put(3, at=NOW), 3),
    "organization": (put(3, organization_id="other"), 3),
    "user": (put(3, user_id="other"), 3),
    "sequence": (put(3, sequence=7), 3),
    "an earlier sequence": (put(3, sequence=2), 3),
    "previous": (put(3, previous=b"x" * 32), 3),
    "digest": (put(3, digest=b"x" * 32), 3),
    "forged with its digest": (forged, 4),
    "a text for a time": (put(3, at="2026-01-02"), 3),
    "a text for values": (put(3, sealed="x"), 3),
    "a text for a sequence": (put(3, sequence="3"), 3),
    "no digest": (without("digest"), 3),
    "nothing but facts": (without("digest", "previous", "sealed"), 3),
    "removed in the middle": (removed(3), 3),
    "several removed": (removed(2, 3, 4), 2),
    "the newest removed": (removed(ENTRIES), ENTRIES),
    "the newest two removed": (removed(ENTRIES - 1, ENTRIES), ENTRIES - 1),
    "the oldest removed": (removed(1), 1),
    "all removed": (removed(*range(1, ENTRIES + 1)), 1),
    "reordered": (swapped, 2),
    "one more": (added, 4),
}


class TestMeddling:
    @pytest.mark.parametrize(("meddle", "broken_at"), MEDDLING.values(), ids=MEDDLING.keys())
    async def test_whatever_is_done_to_entries_is_found(
        self, database: Database, meddle: Meddle, broken_at: int
    ) -> None:
        """By the first sequence that is not as it was written."""
        await grown(database)
        assert await is_whole(database)
        await meddle(database, await history(database))
        assert (await check(database)).broken_at == broken_at

    @pytest.mark.parametrize(
        ("change", "broken_at"),
        [
            ({"$set": {"pending.2.record.token_id": "other"}}, 3),
            ({"$set": {"pending.2.record.sealed": b"other"}}, 3),
            ({"$pull": {"pending": {"record.sequence": 3}}}, 3),
            ({"$pull": {"pending": {"record.sequence": ENTRIES}}}, ENTRIES),
            ({"$set": {"chain": b"x" * 32}}, ENTRIES),
            ({"$set": {"sequence": ENTRIES + 1}}, ENTRIES + 1),
        ],
    )
    async def test_what_waits_in_the_users_document_is_followed_too(
        self, database: Database, change: Document, broken_at: int
    ) -> None:
        """And so is the end of the chain, which stands there."""
        await grown(database, moved=False)
        assert await is_whole(database)
        assert await database.collection("users").update({"_id": "u"}, change)
        assert (await check(database)).broken_at == broken_at

    async def test_a_deleted_user_has_a_chain(self, database: Database) -> None:
        """The facts are followed without any key, and meddling with them is found."""
        relay = await grown(database)
        await deleted(UserStore(database, KEYRING, relay))
        assert await is_whole(database)
        await relay.flush()
        assert await is_whole(database)
        await put(2, token_id="other")(database, await history(database))
        assert (await check(database)).broken_at == 2

    async def test_updates_meanwhile_raise_no_alarm(self, database: Database) -> None:
        """Writers of two processes, their relays at work, and a check that never ends."""
        relays = [Relay(database), Relay(database)]
        stores = [UserStore(database, KEYRING, relay) for relay in relays]
        await stores[0].insert(user())
        done = asyncio.Event()

        async def write(store: UserStore) -> None:
            for _ in range(25):
                before = await store.find("u")
                assert before is not None
                after = advanced(before, structs.replace(before, data={"count": before.data["count"] + 1}), now())
                assert after is not None
                await store.replace(before, after)

        async def watch() -> int:
            checked = 0
            while not done.is_set() or not checked:
                assert await is_whole(database)
                checked += 1
            return checked

        async with relaying(relays[0]), relaying(relays[1]):
            watching = asyncio.create_task(watch())
            await asyncio.gather(*(write(store) for store in stores for _ in range(2)))
            done.set()
            assert await watching
        assert await is_whole(database)


class TestRetention:
    async def test_entries_are_born_with_their_end(self, database: Database) -> None:
        """Counted from the change; traces go as before, and what was written before the setting stays."""
        relay = await grown(database)
        kept = timedelta(days=30)
        store = UserStore(database, KEYRING, relay, kept)
        await changed(store, contact=Contact(Address("a@example.com")))
        await changed(store, contact=Contact(Address("a@example.com", failed=1)))
        await relay.flush()
        *older, entry, trace = await history(database)
        assert entry["expires_at"] == entry["at"] + kept
        assert trace["expires_at"] == trace["at"] + timedelta(hours=1)
        assert not any("expires_at" in each for each in older)
        found = await check(database)
        assert (found.broken_at, found.unordered) == (None, True)
        # what docs/operations.md tells to do then
        ends = {"$add": ["$at", kept // timedelta(milliseconds=1)]}
        await database.collection("history")._raw.update_many(
            {"digest": {"$exists": True}}, [{"$set": {"expires_at": ends}}]
        )
        assert not (await check(database)).unordered
        assert await is_whole(database)
        assert (await history(database))[0]["expires_at"] == OLD + kept

    async def test_the_end_is_no_part_of_the_chain(self, database: Database) -> None:
        """Whoever lets old entries go earlier breaks nothing, and then they are in order."""
        await grown(database, kept=timedelta(days=30))
        assert not (await check(database)).unordered
        for entry in (await history(database))[:2]:
            where = {"_id": entry["_id"]}
            assert await database.collection("history").update(where, {"$unset": {"expires_at": ""}})
        assert (await check(database)).unordered
        assert await is_whole(database)

    @pytest.mark.parametrize("gone", range(1, ENTRIES + 1))
    async def test_a_chain_may_begin_later_if_entries_expire(self, database: Database, gone: int) -> None:
        """Even without any entry left; it is told from a chain that must be there from its beginning."""
        await grown(database)
        await database.collection("users").update({"_id": "u"}, {"$set": {"changed_at": OLD}})
        await removed(*range(1, gone + 1))(database, await history(database))
        found = await check(database, expired_before=datetime.now(UTC) - SHORTEST_TTL)
        assert (found.broken_at, found.begins_at) == (None, gone + 1 if gone < ENTRIES else None)
        assert (await check(database)).broken_at == 1
        assert (await check(database, expired_before=OLD - timedelta(seconds=1))).broken_at == 1

    async def test_the_newest_entry_of_a_young_change_is_there(self, database: Database) -> None:
        """However old the user is, what was written today did not expire."""
        await grown(database)
        await removed(*range(1, ENTRIES + 1))(database, await history(database))
        assert (await check(database, expired_before=datetime.now(UTC) - SHORTEST_TTL)).broken_at == 1

    async def test_a_gap_is_no_retention(self, database: Database) -> None:
        """The oldest go first; what is missing in the middle or at the end was removed."""
        await grown(database)
        await removed(1, 3)(database, await history(database))
        assert (await check(database, expired_before=datetime.now(UTC))).broken_at == 3


class TestEveryUser:
    @pytest.mark.parametrize("kept", [None, timedelta(days=30)])
    async def test_all_are_followed(
        self, mongod_uri: str, monkeypatch: pytest.MonkeyPatch, kept: timedelta | None
    ) -> None:
        """Deleted ones among them, however many are listed at once; and whether entries may be gone is remembered."""
        monkeypatch.setattr(history_reading, "_LISTED", 3)
        monkeypatch.setattr(history_reading, "_AT_ONCE", 2)
        async with prepared(settings_for(fresh_uri(mongod_uri), history_ttl=kept)) as rooms:
            wiring = rooms.wiring
            schema_id = (await create_schema(wiring, OPERATOR, CreateSchema("any", {}, None))).schema.schema_id
            command = CreateUser(schema_id, {}, "default")
            ids = sorted([(await create_user(wiring, OPERATOR, command)).user.user_id for _ in range(7)])
            for user_id in ids[:5]:
                await update_user(wiring, Target(OPERATOR, user_id), UpdateUser(username=f"x{user_id}"))
            await wiring.relay.flush()
            await delete_user(wiring, Target(OPERATOR, ids[0]))
            assert await rooms.instance.known(EXPIRES) == (kept is not None)

            async def broken() -> dict[str, int | None]:
                checked = history_reading.check_histories(wiring, may_expire=kept is not None)
                return {each.head.user_id: each.broken_at async for each in checked}

            assert await broken() == dict.fromkeys(ids)
            assert await wiring.history.count_of_users() == len(ids)
            for number, user_id in enumerate(ids[:4], 1):
                entries = await history(rooms.database, user_id)
                assert all(("expires_at" in entry) == (kept is not None) for entry in entries)
                await put(1 + number % 2, request_id="other")(rooms.database, entries)
            assert await broken() == dict.fromkeys(ids) | dict(zip(ids, (2, 1, 2, 1), strict=False))


async def test_going_back_leaves_the_present_to_others(wiring: Wiring) -> None:
    """Who reads a user at the same moment may share it with who asks for its past."""
    schema_id = (await create_schema(wiring, OPERATOR, CreateSchema("any", {}, None))).schema.schema_id
    data = {"a": {"b": [1]}}
    user_id = (await create_user(wiring, OPERATOR, CreateUser(schema_id, data, "default"))).user.user_id
    await update_user(wiring, Target(OPERATOR, user_id), UpdateUser(data={"a": {"b": [2], "c": 3}}))
    past = [history_reading.get_past_user(wiring, OPERATOR, user_id, 1) for _ in range(3)]
    present = [get_user(wiring, OPERATOR, user_id) for _ in range(3)]
    then, present_now = await asyncio.gather(asyncio.gather(*past), asyncio.gather(*present))
    assert [each.user.data for each in then] == [data] * 3
    assert [each.user.data for each in present_now] == [{"a": {"b": [2], "c": 3}}] * 3
