"""What an import leaves in the database, and what it does when the database, or its caller, goes away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.commands.imports import ImportUsers, Line, Mode, _Import, begin_import, import_users
from schema_user.commands.schemas import (
    CreateSchema,
    SchemaTarget,
    UpdateSchema,
    create_schema,
    delete_schema,
    update_schema,
)
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser
from schema_user.commands.webhooks import CreateWebhook, create_webhook
from schema_user.domain.repetition import Once
from schema_user.domain.webhook import EventType
from schema_user.errors import Conflict, Fault, Unauthenticated, Unavailable
from schema_user.store.connection import Collection, Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.commands.imports import Outcome
    from schema_user.domain.caller import Caller
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring


async def lines(wiring: Wiring, count: int, unique: bool = False) -> list[Line]:
    """Make lines under a schema of their own."""
    keyword = {"urn:schema-user:unique": True} if unique else {}
    document = {"properties": {"name": {"type": "string", **keyword}}}
    made = await create_schema(wiring, OPERATOR, CreateSchema("person", document, None))
    return [
        Line(
            number,
            CreateUser(made.schema.schema_id, {"name": f"N{number}"}, "default", f"u{number}"),
            b"%032d" % number,
        )
        for number in range(1, count + 1)
    ]


async def taken(wiring: Wiring, batches: list[list[Line]], key: str = "", mode: Mode = Mode.CREATE) -> list[Outcome]:
    """Import batches of lines."""

    async def caller() -> Caller:
        return OPERATOR

    async def given() -> AsyncIterator[list[Line]]:
        for batch in batches:
            yield batch

    once = Once(key, b"the same") if key else None
    command = ImportUsers(await begin_import(wiring, once), mode)
    return [each async for some in import_users(wiring, command, caller, given()) for each in some]


async def test_nothing_waits_in_users_and_every_history_is_whole(rooms: Rooms) -> None:
    """A user that nothing changed is its own first entry, and the chain of each holds."""
    wiring = rooms.wiring
    found = await taken(wiring, [await lines(wiring, 7)])
    assert [each.error for each in found] == [None] * 7
    users = rooms.database.collection("users")
    assert await users.count({"pending": {"$exists": True}}) == 0
    assert await rooms.database.collection("history").count({}) == 0
    head = await wiring.history.head("u3")
    assert head is not None
    assert (await wiring.history.check(head, None)).broken_at is None


@pytest.mark.parametrize("heard", [True, False], ids=["webhooks are told", "nobody is"])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not"])
async def test_an_answer_of_the_database_that_is_lost(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, committed: bool, heard: bool
) -> None:
    """Each line is stored once, with a whole history, and is answered as stored; webhooks are told of it once."""
    wiring = rooms.wiring
    place, name = (Database, "insert_together") if heard else (Collection, "write_all")
    send, calls = getattr(place, name), 0

    async def lost(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            return await send(*given, **options)
        if committed:
            await send(*given, **options)
        raise Unavailable("DATABASE_UNAVAILABLE", "away")

    made = await lines(wiring, 3)
    if heard:
        hook = CreateWebhook("https://a.example.invalid/", (EventType.USER_CREATED,), "default")
        await create_webhook(wiring, OPERATOR, hook)
    monkeypatch.setattr(place, name, lost)
    found = await taken(wiring, [made])
    assert 1 <= calls <= 3
    monkeypatch.undo()
    assert [each.error for each in found] == [None] * 3
    assert await rooms.database.collection("users").count({}) == 3
    await wiring.relay.flush()
    assert await rooms.database.collection("outbox").count({}) == 3 * heard
    head = await wiring.history.head("u2")
    assert head is not None
    assert (await wiring.history.check(head, None)).broken_at is None


async def test_ids_that_are_there_cost_their_own_lines_alone(rooms: Rooms) -> None:
    """The others are stored, and none of what the refused lines would have left is anywhere."""
    wiring = rooms.wiring
    made = await lines(wiring, 5)
    await taken(wiring, [made[1:3]])
    found = await taken(wiring, [made])
    assert [isinstance(each.error, Conflict) for each in found] == [False, True, True, False, False]
    assert await rooms.database.collection("users").count({}) == 5


async def test_of_two_imports_of_the_same_lines_at_once_one_makes_each_user(rooms: Rooms) -> None:
    """Whatever the order, no id and no unique value is given twice."""
    wiring = rooms.wiring
    made = await lines(wiring, 40, unique=True)
    found = await asyncio.gather(*(taken(wiring, [made]) for _ in range(2)))
    for one, other in zip(*found, strict=True):
        assert (one.error is None) + (other.error is None) == 1
        assert isinstance(one.error or other.error, Fault)
    assert await rooms.database.collection("users").count({}) == 40


async def test_a_caller_that_is_revoked_ends_the_import(wiring: Wiring) -> None:
    """What was taken before stays; the lines of the batch are refused, and no others are read."""
    made, asked, read = await lines(wiring, 6), 0, 0

    async def caller() -> Caller:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Unauthenticated("TOKEN_INVALID", "revoked")
        return OPERATOR

    async def given() -> AsyncIterator[list[Line]]:
        nonlocal read
        for start in range(0, 6, 2):
            read += 1
            yield made[start : start + 2]

    command = ImportUsers(await begin_import(wiring, None))
    found = [each async for some in import_users(wiring, command, caller, given()) for each in some]
    assert [each.error is None for each in found] == [True, True, False, False]
    assert read == 2
    assert not await wiring.users.exists("u3")


async def test_a_database_that_is_away_is_the_error_of_its_lines(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the batch says so; the next batch is tried again."""
    made = await lines(wiring, 4)
    insert, calls = type(wiring.users).insert_all, 0

    async def sometimes(self: Any, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unavailable("DATABASE_UNAVAILABLE", "away", retry_after=2)
        return await insert(self, *given)

    monkeypatch.setattr(type(wiring.users), "insert_all", sometimes)
    found = await taken(wiring, [made[:2], made[2:]])
    assert [isinstance(each.error, Unavailable) for each in found] == [True, True, False, False]


async def test_a_line_that_waited_for_others_is_judged_by_the_schema_of_its_write(wiring: Wiring) -> None:
    """Whoever deleted or revised its schema meanwhile has counted and judged the users without it."""
    waited = []
    for number, name in enumerate(("deleted", "revised"), 1):
        made = await create_schema(wiring, OPERATOR, CreateSchema(name, {"type": "object"}, None))
        command = CreateUser(made.schema.schema_id, {"a": 1}, "default", f"user-{name}")
        waited.append(Line(number, command, b"%032d" % number))
    schemas = [each.command.schema_id for each in waited if isinstance(each.command, CreateUser)]
    work = _Import(wiring, ImportUsers(await begin_import(wiring, None)))
    decided = await work.decided(OPERATOR, waited)
    await delete_schema(wiring, SchemaTarget(OPERATOR, schemas[0]))
    await update_schema(wiring, SchemaTarget(OPERATOR, schemas[1]), UpdateSchema(document={"required": ["b"]}))
    found = await work.begin(*decided)
    await work.end()
    assert [each.error.reason for each in found if isinstance(each.error, Fault)] == ["SCHEMA_UNKNOWN", "DATA_INVALID"]
    assert await wiring.users.find("user-deleted") is None
