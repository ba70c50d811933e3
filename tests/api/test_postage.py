"""What a change pays for its code messages: once, only if it is written, across processes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio

from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish, ResendCode, resend_code
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, move_user, update_user
from schema_user.domain.contact import Channel, IsVerified, ReturnCode, SendCode
from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.domain.user import Transition
from schema_user.errors import Conflict, Exhausted, Unavailable, Unmet
from schema_user.rooms import wired
from schema_user.wiring import Turns, utc_now
from tests.conftest import emptied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from schema_user.commands.change import Decision
    from schema_user.validation.pool import Pool
    from schema_user.wiring import Wiring
    from tests.conftest import KeptDatabase

ADDRESS = "minnie@example.com"
PAUSE = timedelta(seconds=30)
DAY_SECONDS = 24 * 60 * 60


@pytest_asyncio.fixture
async def strict(kept_database: KeptDatabase, shared_pool: Pool) -> AsyncIterator[Wiring]:
    """Wire up an instance that sends one message to an address in a day."""
    async with emptied(kept_database, shared_pool, codes_per_address=1) as rooms:
        now = rooms.wiring.now()
        schema = UserSchema("any", None, "any", 1, '{"type": "object"}', "2020-12", SchemaState.ACTIVE, (), now, now)
        await rooms.wiring.schemas.insert(schema)
        yield rooms.wiring


def wish(address: str = ADDRESS) -> AddressWish:
    """Wish for an address, whose code is sent."""
    return AddressWish(Channel.EMAIL, address, None, "")


async def person(wiring: Wiring, *wishes: AddressWish) -> str:
    """Make a user."""
    return (await create_user(wiring, OPERATOR, CreateUser("any", {}, "default", wishes=wishes))).user.user_id


async def change(wiring: Wiring, user_id: str, **what: Any) -> Decision:
    """Change a user."""
    return await update_user(wiring, Target(OPERATOR, user_id), UpdateUser(**what))


def at(wiring: Wiring, later: timedelta) -> Wiring:
    """Give the wiring with a clock that is ahead."""
    return replace(wiring, now=lambda: utc_now() + later)


async def may_send(wiring: Wiring) -> bool:
    """Try whether the one message to the address is still there; it is not afterwards."""
    [made] = await asyncio.gather(person(wiring, wish()), return_exceptions=True)
    if isinstance(made, BaseException):
        assert isinstance(made, Exhausted), made
        assert made.reason == "CODE_MESSAGE_LIMIT"
        return False
    return True


def beaten(wiring: Wiring, monkeypatch: pytest.MonkeyPatch, rival: Callable[[Wiring], Awaitable[object]]) -> None:
    """Let somebody in another process be faster than the next write."""
    original, calls = wiring.users.replace, count()

    async def late(*given: Any) -> bool:
        if next(calls) == 0:
            await rival(replace(wiring, turns=Turns()))
        return await original(*given)

    monkeypatch.setattr(wiring.users, "replace", late)


async def test_a_lost_race_pays_once(strict: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of tries, one message is counted."""
    user_id = await person(strict)
    beaten(strict, monkeypatch, lambda other: change(other, user_id, data={"n": 1}))
    after = (await change(strict, user_id, wishes=(wish(),))).user
    assert (after.sequence, after.contact.email is None) == (3, False)
    assert not await may_send(strict)


async def test_a_lost_race_that_is_refused_gets_it_back(strict: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user was locked meanwhile: no code, and nothing counted."""
    user_id = await person(strict)
    beaten(strict, monkeypatch, lambda other: move_user(other, Target(OPERATOR, user_id), Transition.LOCK))
    explicit = AddressWish(Channel.EMAIL, ADDRESS, SendCode(), "")
    with pytest.raises(Unmet, match="not active"):
        await change(strict, user_id, wishes=(explicit,))
    assert await may_send(strict)


async def test_a_lost_race_that_leaves_nothing_to_send_gets_it_back(
    strict: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else set the same address, and its code was not sent."""
    user_id = await person(strict)
    same = AddressWish(Channel.EMAIL, ADDRESS, ReturnCode(), "")
    beaten(strict, monkeypatch, lambda other: change(other, user_id, wishes=(same,)))
    assert (await change(strict, user_id, wishes=(wish(),))).user.sequence == 2
    assert await may_send(strict)


@pytest.mark.parametrize(
    ("room", "verb", "fault", "kept"),
    [
        ("claims", "take", Unavailable("DATABASE_UNAVAILABLE", "away"), False),
        ("users", "replace", Unavailable("QUEUE_FULL", "full"), False),
        ("users", "replace", Unavailable("DATABASE_UNAVAILABLE", "away"), True),
        ("users", "replace", asyncio.CancelledError(), True),
    ],
    ids=["before", "not sent", "unknown", "cancelled"],
)
async def test_only_what_was_certainly_not_written_is_given_back(
    strict: Wiring, monkeypatch: pytest.MonkeyPatch, room: str, verb: str, fault: BaseException, kept: bool
) -> None:
    """Of a write whose outcome nobody knows the message may go out."""
    user_id = await person(strict)
    with monkeypatch.context() as broken:
        broken.setattr(getattr(strict, room), verb, AsyncMock(side_effect=fault))
        with pytest.raises(type(fault)):
            await change(strict, user_id, wishes=(wish(),), username="minnie")
    assert await may_send(strict) is not kept


async def test_a_creation_that_lost_its_name_gets_it_back(strict: Wiring) -> None:
    """The id and the username are looked at after the quota."""
    user_id = await person(strict)
    command = CreateUser("any", {}, "default", user_id=user_id, wishes=(wish(),))
    with pytest.raises(Conflict):
        await create_user(strict, OPERATOR, command)
    assert await may_send(strict)


async def test_a_cap_holds_across_processes(strict: Wiring) -> None:
    """Of many users who get the same address at once in two processes, one gets a message."""
    users = [await person(strict) for _ in range(12)]
    async with wired(strict.settings) as other:
        changes = [
            change((strict, other.wiring)[number % 2], user_id, wishes=(wish(),))
            for number, user_id in enumerate(users)
        ]
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
    capped = [each for each in outcomes if isinstance(each, BaseException)]
    assert [each.reason for each in capped if isinstance(each, Exhausted)] == ["CODE_MESSAGE_LIMIT"] * 11
    stored = [await strict.users.find(user_id) for user_id in users]
    assert [user is not None and user.contact.email is not None for user in stored].count(True) == 1


async def test_there_is_room_again_after_a_day(strict: Wiring) -> None:
    """Retry-After says when, to the second."""
    assert await may_send(strict)
    with pytest.raises(Exhausted) as capped:
        await person(at(strict, timedelta(hours=10)), wish())
    assert capped.value.retry_after is not None
    assert 14 * 3600 - 60 < capped.value.retry_after <= 14 * 3600
    assert not await may_send(at(strict, timedelta(seconds=DAY_SECONDS - 60)))
    assert await may_send(at(strict, timedelta(seconds=DAY_SECONDS)))


async def test_changes_without_a_code_to_send_ask_no_quota(strict: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data, nor codes that go back, nor the word to an old address."""
    monkeypatch.setattr(strict.quotas, "take", AsyncMock(side_effect=AssertionError))
    monkeypatch.setattr(strict.quotas, "room", AsyncMock(side_effect=AssertionError))
    user_id = await person(strict, AddressWish(Channel.EMAIL, ADDRESS, IsVerified(), ""))
    await change(strict, user_id, data={"n": 1})
    await change(strict, user_id, wishes=(AddressWish(Channel.EMAIL, "b@example.com", ReturnCode(), ""),))
    await change(strict, user_id, remove=frozenset({Channel.EMAIL}))


async def test_a_capped_resend_is_not_counted_as_one(strict: Wiring) -> None:
    """Neither the pause nor the day's resends begin with a code that was not made."""
    user_id = await person(strict, wish())
    later = at(strict, PAUSE)
    for _ in range(3):
        with pytest.raises(Exhausted) as capped:
            await resend_code(later, Target(OPERATOR, user_id), ResendCode(Channel.EMAIL, SendCode()))
        assert capped.value.reason == "CODE_MESSAGE_LIMIT"
    await resend_code(later, Target(OPERATOR, user_id), ResendCode(Channel.EMAIL, ReturnCode()))
    found = await strict.users.find(user_id)
    assert found is not None
    assert [each.channel for each in found.contact.resends] == [Channel.EMAIL]
