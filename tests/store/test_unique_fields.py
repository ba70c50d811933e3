"""Values that may be held once: unique fields of data and email addresses, and those that were there before."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.commands.schema_marks import repeat_backfill
from schema_user.commands.schemas import CreateSchema, SchemaTarget, UpdateSchema, create_schema, update_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, delete_user, update_user
from schema_user.domain.backfill import Filled
from schema_user.domain.contact import Channel, IsVerified
from schema_user.domain.job import JobKind, JobState
from schema_user.domain.search import Data, DataMethod, Page
from schema_user.errors import Conflict, Malformed, Unmet
from schema_user.jobs.kinds import KINDS
from schema_user.jobs.runner import Rhythm, Runner
from schema_user.queries import search_users
from schema_user.rooms import wired
from schema_user.store.claims import ORPHAN_AGE
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUMBERS = itertools.count(1)
INDEX = {"urn:schema-user:index": True}
UNIQUE = {"urn:schema-user:unique": True}
MARKED: dict[str, Any] = {"properties": {"badge": UNIQUE, "cards": {"items": UNIQUE}}}
RHYTHM = Rhythm(share=0.9)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rooms(mongod_uri: str) -> AsyncIterator[Rooms]:
    """Give everything wired up; each test makes what it needs."""
    async with prepared(settings_for(fresh_uri(mongod_uri), unique_emails=True)) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other(rooms: Rooms) -> AsyncIterator[Wiring]:
    """Give the wiring of another process on the same database."""
    async with wired(rooms.wiring.settings) as made:
        yield made.wiring


@pytest.fixture
def wiring(rooms: Rooms) -> Wiring:
    """Give the wiring of ``rooms``."""
    return rooms.wiring


async def schema_of(wiring: Wiring, document: object = None) -> str:
    """Make a schema, and give its id."""
    command = CreateSchema(f"s{next(NUMBERS)}", MARKED if document is None else document, None)
    return (await create_schema(wiring, OPERATOR, command)).schema.schema_id


async def revise(wiring: Wiring, schema_id: str, document: object) -> None:
    """Give a schema another revision."""
    await update_schema(wiring, SchemaTarget(OPERATOR, schema_id), UpdateSchema(document=document))


async def make(wiring: Wiring, schema_id: str, data: dict[str, Any], **more: Any) -> str:
    """Make a user, and give its id."""
    return (await create_user(wiring, OPERATOR, CreateUser(schema_id, data, "default", **more))).user.user_id


async def change(wiring: Wiring, user_id: str, **changes: Any) -> None:
    """Change a user."""
    await update_user(wiring, Target(OPERATOR, user_id), UpdateUser(**changes))


async def backfilled(wiring: Wiring, schema_id: str) -> tuple[Filled, JobState]:
    """Run what back-fills there are of a schema, and give what the last one found."""
    job = await wiring.jobs.latest(schema_id, JobKind.BACK_FILL)
    assert job is not None
    await Runner(wiring, KINDS, RHYTHM).run_next(job.job_id)
    job = await wiring.jobs.find(job.job_id)
    assert job is not None
    return msgspec.json.decode(job.progress.found or b"{}", type=Filled), job.state


async def found(wiring: Wiring, path: str, value: Any) -> list[str]:
    """Search by an equal value."""
    result, _ = await search_users(wiring, OPERATOR, Data(path, DataMethod.EQUALS, value), Page("id", ascending=True))
    return [user.user_id for user in result.items]


async def test_a_value_is_one_users_until_it_changes_or_goes(wiring: Wiring) -> None:
    """Compared without case, and 1 like 1.0; each place is named; another schema knows nothing of it."""
    schema_id = await schema_of(wiring)
    first = await make(wiring, schema_id, {"badge": "Ab1", "cards": [1, "x"]})
    with pytest.raises(Conflict) as caught:
        await make(wiring, schema_id, {"badge": "aB1", "cards": [7, 1.0]})
    assert caught.value.reason == "VALUE_TAKEN"
    assert [each.field for each in caught.value.violations] == ["data/badge", "data/cards/1"]
    await make(wiring, schema_id, {"cards": [7, True, 7]})  # what was claimed for the refused one is free
    await make(wiring, await schema_of(wiring), {"badge": "ab1"})
    await change(wiring, first, data={"badge": "AB1", "cards": ["x", 2], "other": 1})
    second = await make(wiring, schema_id, {"cards": [1]})
    with pytest.raises(Conflict):
        await change(wiring, second, data={"badge": "ab1"})
    await delete_user(wiring, Target(OPERATOR, first))
    await change(wiring, second, data={"badge": "ab1", "cards": ["x"]})


async def test_of_many_at_once_one_gets_the_value(wiring: Wiring, other: Wiring) -> None:
    """Creations and updates, in two processes; the others leave nothing claimed."""
    schema_id = await schema_of(wiring)
    users = [await make(wiring, schema_id, {}) for _ in range(4)]
    for value in ("a", "b", "c"):
        asked: list[Any] = [
            change([wiring, other][at % 2], user, data={"badge": value}) for at, user in enumerate(users)
        ]
        asked += [make(each, schema_id, {"badge": value}) for each in (wiring, other)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(not isinstance(each, Exception) for each in outcomes) == 1, outcomes
        assert all(isinstance(each, Conflict) for each in outcomes if isinstance(each, Exception))
    held = [user.claims for user in [await wiring.users.find(user_id) for user_id in users] if user is not None]
    assert all(len(each) <= 1 for each in held)


async def test_a_claim_that_a_crash_left_is_free_after_a_while(wiring: Wiring) -> None:
    """Nobody's document confirms it."""
    schema_id = await schema_of(wiring)

    class Crash(BaseException):
        pass

    async def crash(*_: object) -> bool:
        raise Crash

    broken = replace(wiring, users=type("Users", (), {"insert": crash})())
    with pytest.raises(Crash):
        await make(broken, schema_id, {"badge": "left"})
    with pytest.raises(Conflict):
        await make(wiring, schema_id, {"badge": "left"})
    later = replace(wiring, now=lambda: wiring.now() + ORPHAN_AGE + timedelta(seconds=1))
    await make(later, schema_id, {"badge": "left"})
    with pytest.raises(Conflict):
        await make(later, schema_id, {"badge": "left"})


async def test_an_email_address_belongs_to_one_user_of_an_organization(wiring: Wiring) -> None:
    """Where the settings say so; also against one who had it before they did."""
    schema_id = await schema_of(wiring, {})

    def wish(address: str) -> tuple[AddressWish, ...]:
        return (AddressWish(Channel.EMAIL, address, IsVerified(), "contact/email/"),)

    before = replace(wiring, settings=replace(wiring.settings, unique_emails=False))
    await make(before, schema_id, {}, wishes=wish("old@example.com"))
    await make(before, schema_id, {}, wishes=wish("OLD@example.com"))
    mine = await make(wiring, schema_id, {}, wishes=wish("Minnie@example.com"))
    for taken in ("old@example.com", "minnie@example.com"):
        with pytest.raises(Conflict) as caught:
            await make(wiring, schema_id, {}, wishes=wish(taken))
        assert caught.value.reason == "EMAIL_TAKEN"
    await change(wiring, mine, wishes=wish("mini@example.com"))
    await make(wiring, schema_id, {}, wishes=wish("minnie@example.com"))


async def test_a_path_that_becomes_indexed_is_ready_when_all_users_are(wiring: Wiring) -> None:
    """Until then a query is refused; what was indexed before can be searched all the time; what is no longer, not."""
    schema_id = await schema_of(wiring, {"properties": {"was": INDEX, "stays": INDEX}})
    old = await make(wiring, schema_id, {"was": 1, "stays": 2, "becomes": 3})
    await revise(wiring, schema_id, {"properties": {"becomes": INDEX, "stays": INDEX}})
    assert await found(wiring, "/stays", 2) == [old]
    with pytest.raises(Malformed):
        await found(wiring, "/was", 1)
    with pytest.raises(Unmet, match="being indexed"):
        await found(wiring, "/becomes", 3)
    filled, state = await backfilled(wiring, schema_id)
    assert (filled.changed, state) == (1, JobState.DONE)
    new = await make(wiring, schema_id, {"was": 1, "stays": 2, "becomes": 3})
    assert await found(wiring, "/becomes", 3) == [old, new]
    schema = await wiring.schemas.find(schema_id)
    assert schema is not None
    assert not schema.marking.pending
    user = await wiring.users.find(old)
    assert user is not None
    assert (user.sequence, user.version) == (1, 2)  # no client can see it


async def test_duplicates_are_told_of_and_stay_until_they_are_changed(wiring: Wiring) -> None:
    """The first has the value; others keep it while their other data changes; another run finds those that are left."""
    schema_id = await schema_of(wiring, {})
    users = [await make(wiring, schema_id, {"badge": value}) for value in ("x", "X", "y", "x")]
    await revise(wiring, schema_id, MARKED)
    filled, state = await backfilled(wiring, schema_id)
    assert state is JobState.DONE
    [duplicate] = filled.duplicates
    assert (duplicate.path, duplicate.holder_id, duplicate.count) == ("/badge", users[0], 2)
    assert [(each.user_id, each.pointer) for each in duplicate.users] == [
        (users[1], "data/badge"),
        (users[3], "data/badge"),
    ]
    await change(wiring, users[1], data={"badge": "X", "more": 1})
    with pytest.raises(Conflict):
        await change(wiring, users[2], data={"badge": "x"})
    with pytest.raises(Conflict):
        await make(wiring, schema_id, {"badge": "Y"})
    await change(wiring, users[1], data={"badge": "z"})
    await change(wiring, users[3], data={})
    await repeat_backfill(wiring, OPERATOR, schema_id)
    filled, _ = await backfilled(wiring, schema_id)
    assert filled.duplicates == []


async def test_a_backfill_goes_on_after_a_crash_beside_those_who_write(
    wiring: Wiring, other: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the middle of a page, with users changed and made meanwhile; all are indexed and hold their values."""
    schema_id = await schema_of(wiring, {})
    users = [await make(wiring, schema_id, {"badge": number, "n": 1}) for number in range(30)]
    await revise(wiring, schema_id, {"properties": {"badge": UNIQUE, "n": INDEX}})
    fill = type(wiring.markings).fill

    async def cut_off(self: Any, fillings: Any) -> int:
        await fill(self, fillings[: len(fillings) // 2])
        monkeypatch.undo()
        await change(other, users[-1], data={"badge": "new", "n": 1})
        raise asyncio.CancelledError

    monkeypatch.setattr(type(wiring.markings), "fill", cut_off)
    _, state = await backfilled(wiring, schema_id)
    assert state is JobState.RUNNING
    users.append(await make(other, schema_id, {"badge": "newer", "n": 1}))
    filled, state = await backfilled(wiring, schema_id)
    assert (state, filled.duplicates) == (JobState.DONE, [])
    assert await found(wiring, "/n", 1) == users
    for value in (3, 20, "new", "newer"):
        with pytest.raises(Conflict):
            await make(wiring, schema_id, {"badge": value})
