"""What each caller of a shared write is told, on both drivers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from pymongo.errors import OperationFailure

from schema_user.domain.keyring import Keyring
from schema_user.domain.user import User, advanced
from schema_user.errors import Unavailable
from schema_user.store import batch
from schema_user.store.batch import GroupCommit, Write
from schema_user.store.connection import Collection, raw
from schema_user.store.relay import Relay
from schema_user.store.users import UserStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from schema_user.store.connection import Database, Written

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYRING = Keyring(["a secret of thirty-two characters or more"])
CLIENTS = 32
AWAY = Unavailable("DATABASE_UNAVAILABLE", "away", retry_after=1)


@dataclass
class Line:
    """The line to the database; ``trouble`` gets each call of a kind and how to make it."""

    calls: list[int] = field(default_factory=list)
    trouble: Callable[[int, Callable[[], Awaitable[Written]]], Awaitable[Written]] | None = None


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """Listen to the writes of users, and disturb them; their repetition comes soon."""
    made = Line()
    whole = Collection.write_all

    async def write_all(self: Collection, kind: str, statements: Sequence[Any], *, durable: bool = True) -> Written:
        async def call() -> Written:
            return await whole(self, kind, statements, durable=durable)

        if self._raw.name != "users":
            return await call()
        made.calls.append(len(statements))
        return await (made.trouble(len(made.calls), call) if made.trouble else call())

    monkeypatch.setattr(Collection, "write_all", write_all)
    monkeypatch.setattr(batch, "_PAUSE", 0.01)
    return made


async def lost_answer(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
    """Apply the first call and lose its answer."""
    answer = await call()
    if number == 1:
        raise AWAY
    return answer


async def lost_call(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
    """Lose the first call before it is applied."""
    if number == 1:
        raise AWAY
    return await call()


async def every_answer_lost(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
    """Apply every call and lose its answer."""
    await call()
    raise AWAY


async def every_call_lost(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
    """Apply nothing."""
    raise AWAY


def user(user_id: str = "u", **changes: Any) -> User:
    """Make a user."""
    return User(user_id, "o", "s", 1, {"count": 0}, NOW, NOW, **changes)


def counted(before: User, count: int | None = None) -> User:
    """Count one further."""
    after = advanced(before, structs.replace(before, data={"count": count or before.data["count"] + 1}), NOW)
    assert after is not None
    return after


async def some(store: UserStore, number: int) -> list[User]:
    """Store users and give them as they were found."""
    assert all(await asyncio.gather(*(store.insert(user(f"u{each}")) for each in range(number))))
    found = await asyncio.gather(*(store.find(f"u{each}") for each in range(number)))
    return [each for each in found if each is not None]


async def entries(database: Database, user_id: str) -> list[str]:
    """Give the ids of all entries of a user, wherever they are."""
    relayed = await database.collection("history").find({"user_id": user_id})
    document = await database.collection("users").find_one({"_id": user_id})
    waiting = [each["id"] for each in (document or {}).get("pending", ())]
    unborn = [each["id"] for each in [(document or {}).get("creation")] if each]
    return sorted([*({each["_id"] for each in relayed} | set(waiting)), *unborn])


async def test_only_the_conflicting_one_of_a_batch_is_refused(database: Database, line: Line) -> None:
    """The others of the same call are applied and told so."""
    store = UserStore(database, KEYRING)
    found = await some(store, 6)
    assert await store.replace(found[2], counted(found[2], 7))
    line.calls.clear()
    assert await asyncio.gather(*(store.replace(each, counted(each)) for each in found)) == [
        index != 2 for index in range(6)
    ]
    assert line.calls == [6]
    after = await asyncio.gather(*(store.find(each.user_id) for each in found))
    assert [each.data["count"] for each in after if each] == [1, 1, 7, 1, 1, 1]


async def test_only_the_insert_of_a_used_id_is_refused(database: Database, line: Line) -> None:
    """The others of the same call are stored."""
    store = UserStore(database, KEYRING)
    await some(store, 1)
    line.calls.clear()
    assert await asyncio.gather(*(store.insert(user(f"u{each}")) for each in range(4))) == [False, True, True, True]
    assert line.calls == [4]


async def test_of_two_inserts_of_one_id_one_is_stored(database: Database) -> None:
    """Though they come at the same moment."""
    store = UserStore(database, KEYRING)
    assert sorted(await asyncio.gather(store.insert(user()), store.insert(user()))) == [False, True]
    assert len(await entries(database, "u")) == 1


async def test_what_the_server_refuses_is_raised_at_its_caller(database: Database) -> None:
    """The others of the batch do not hear of it."""
    things = database.collection("things")
    sent = 0

    async def applied(writes: Sequence[Write]) -> set[str]:
        nonlocal sent
        sent += 1
        found = await things.find({"by": {"$in": [each.write_id for each in writes]}})
        return {each["by"] for each in found}

    for name in "abc":
        await things.insert({"_id": name, "version": 1})
    changes: list[dict[str, Any]] = [{}, {"$inc": {"by": 1}}, {}, {}]
    guards = [1, 1, 2, 1]
    names = ["a", "b", "c", "nobody"]
    writes = [
        Write(
            name,
            f"w{name}",
            raw({"q": {"_id": name, "version": guard}, "u": {"$set": {"by": f"w{name}", "version": 2}} | change}),
        )
        for name, guard, change in zip(names, guards, changes, strict=True)
    ]
    commit = GroupCommit(things, "update", applied, 5)
    outcomes = await asyncio.gather(*(commit.do(write) for write in writes), return_exceptions=True)
    assert outcomes[0] is True
    assert isinstance(outcomes[1], OperationFailure)
    assert outcomes[2:] == [False, False]
    assert sent == 1
    assert await commit.do(
        replace(writes[2], write_id="again", statement=raw({"q": {"_id": "c"}, "u": {"$unset": {}}}))
    )


@pytest.mark.parametrize("trouble", [lost_answer, lost_call], ids=["lost answer", "lost call"])
async def test_a_change_whose_outcome_was_lost_is_applied_once(
    database: Database, line: Line, trouble: Callable[..., Awaitable[Written]]
) -> None:
    """All callers hear that theirs was; the document moved on by one."""
    store = UserStore(database, KEYRING)
    found = await some(store, 5)
    line.calls.clear()
    line.trouble = trouble
    assert await asyncio.gather(*(store.replace(each, counted(each)) for each in found)) == [True] * 5
    assert line.calls == [5, 5]
    for each in found:
        after = await store.find(each.user_id)
        assert after is not None
        assert (after.version, after.data) == (2, {"count": 1})
        assert len(await entries(database, each.user_id)) == 2


@pytest.mark.parametrize("trouble", [lost_answer, lost_call], ids=["lost answer", "lost call"])
async def test_an_insert_whose_outcome_was_lost_is_applied_once(
    database: Database, line: Line, trouble: Callable[..., Awaitable[Written]]
) -> None:
    """One whose id somebody else used hears so."""
    store = UserStore(database, KEYRING)
    await some(store, 1)
    line.calls.clear()
    line.trouble = trouble
    assert await asyncio.gather(*(store.insert(user(f"u{each}")) for each in range(4))) == [False, True, True, True]
    assert [len(await entries(database, f"u{each}")) for each in range(4)] == [1, 1, 1, 1]


async def test_an_applied_change_is_known_though_it_was_relayed_and_changed_again(
    database: Database, line: Line
) -> None:
    """Its answer was lost; another process changed the user and moved all entries before anybody asked."""
    store, relay = UserStore(database, KEYRING), Relay(database)
    other = UserStore(database, KEYRING, relay)
    (before,) = await some(store, 1)

    async def trouble(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
        if number > 1:
            return await call()
        line.trouble = None
        await call()
        await relay.sweep()
        mine = await other.find(before.user_id)
        assert mine is not None
        assert await other.replace(mine, counted(mine))
        await relay.sweep()
        raise AWAY

    line.calls.clear()
    line.trouble = trouble
    assert await store.replace(before, counted(before))
    after = await store.find(before.user_id)
    assert after is not None
    assert (after.version, after.data) == (3, {"count": 2})


async def test_another_writer_that_wins_in_between_is_not_taken_for_oneself(database: Database, line: Line) -> None:
    """The call was lost before it was applied, and the version that was to be made is there: by somebody else."""
    store, other = UserStore(database, KEYRING), UserStore(database, KEYRING)
    (before,) = await some(store, 1)

    async def trouble(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
        line.trouble = None
        assert await other.replace(before, counted(before, 50))
        raise AWAY

    line.trouble = trouble
    assert not await store.replace(before, counted(before))
    after = await store.find(before.user_id)
    assert after is not None
    assert (after.version, after.data) == (2, {"count": 50})


@pytest.mark.parametrize("trouble", [every_answer_lost, every_call_lost], ids=["every answer lost", "every call lost"])
async def test_an_outcome_that_nobody_tells_is_said_to_be_unknown(
    database: Database, line: Line, trouble: Callable[..., Awaitable[Written]]
) -> None:
    """After a bounded time; at most one of several calls was applied, and later changes go on."""
    store = UserStore(database, KEYRING)
    found = await some(store, 2)
    store._updates._patience = 0.7
    line.calls.clear()
    line.trouble = trouble
    outcomes = await asyncio.gather(*(store.replace(each, counted(each)) for each in found), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert outcome.reason == "DATABASE_UNAVAILABLE"
        assert outcome.retry_after
    assert len(line.calls) > 1
    assert set(line.calls) == {2}
    line.trouble = None
    for each in found:
        after = await store.find(each.user_id)
        assert after is not None
        assert after.version == (2 if trouble is every_answer_lost else 1)
        assert len(await entries(database, each.user_id)) == after.version
        assert await store.replace(after, counted(after))


async def test_many_users_at_once_share_calls(database: Database, line: Line) -> None:
    """Each is stored and changed as if it were alone."""
    store = UserStore(database, KEYRING)

    async def life(number: int) -> None:
        assert await store.insert(user(f"u{number}"))
        for count in range(1, 6):
            before = await store.find(f"u{number}")
            assert before is not None
            assert await store.replace(before, counted(before))
            after = await store.read(f"u{number}")
            assert after is not None
            assert after.data == {"count": count}

    await asyncio.gather(*(life(number) for number in range(CLIENTS)))
    assert sum(line.calls) == CLIENTS * 6
    assert len(line.calls) < CLIENTS * 6 / 2


@pytest.mark.parametrize("shaken", [False, True], ids=["calm", "answers lost"])
async def test_many_writers_of_one_user_lose_no_change(database: Database, line: Line, shaken: bool) -> None:
    """Each counts one further with what it read; the count is the number of those that were told yes."""
    relay = Relay(database)
    store = UserStore(database, KEYRING, relay)
    await store.insert(user())
    yes = 0

    async def trouble(number: int, call: Callable[[], Awaitable[Written]]) -> Written:
        if number % 5 == 1:
            raise AWAY
        answer = await call()
        if number % 5 == 3:
            raise AWAY
        return answer

    async def writer() -> None:
        nonlocal yes
        for _ in range(200):
            before = await store.find("u")
            assert before is not None
            if await store.replace(before, counted(before)):
                yes += 1
                return
            await relay.flush()

    line.trouble = trouble if shaken else None
    writers = 12 if shaken else CLIENTS
    await asyncio.gather(*(writer() for _ in range(writers)))
    line.trouble = None
    after = await store.find("u")
    assert after is not None
    assert yes == writers
    assert (after.data, after.version) == ({"count": yes}, yes + 1)
    assert len(await entries(database, "u")) == yes + 1
