"""What an import leaves in the database, and what it does when the database, or its caller, goes away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from schema_user.commands.change import Target
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
from schema_user.commands.users import CreateUser, UpdateUser, update_user
from schema_user.domain.repetition import Once
from schema_user.errors import Fault, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

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
    """Entries are moved by the import itself, and the chain of each user holds."""
    wiring = rooms.wiring
    found = await taken(wiring, [await lines(wiring, 7)])
    assert [each.error for each in found] == [None] * 7
    users = rooms.database.collection("users")
    assert await users.count({"pending": {"$exists": True}}) == 0
    assert await rooms.database.collection("history").count({}) == 7
    head = await wiring.history.head("u3")
    assert head is not None
    assert (await wiring.history.check(head, None)).broken_at is None


async def test_an_entry_that_a_crash_left_is_read_and_goes_with_the_next_change(rooms: Rooms) -> None:
    """The history is whole from the user's document, and a line that came before the crash is known by it."""
    wiring = rooms.wiring
    made = await lines(wiring, 2)

    async def crashed(_: Any) -> None:
        raise Unavailable("DATABASE_UNAVAILABLE", "away")

    object.__setattr__(wiring.relay, "move_all", crashed)
    first = await taken(wiring, [made], "key")
    again = await taken(wiring, [made], "key")
    assert [(each.user.user_id, each.user.created_at) for each in again if each.user] == [
        (each.user.user_id, each.user.created_at) for each in first if each.user
    ]
    assert [each.error for each in again] == [None, None]
    head = await wiring.history.head("u1")
    assert head is not None
    assert (await wiring.history.check(head, None)).broken_at is None
    await update_user(wiring, Target(OPERATOR, "u1"), UpdateUser(data={"name": "Changed"}))
    await wiring.relay.flush()
    await wiring.relay.sweep()
    users = rooms.database.collection("users")
    assert await users.count({"_id": "u1", "pending": {"$exists": True}}) == 0
    head = await wiring.history.head("u1")
    assert head is not None
    assert (await wiring.history.check(head, None)).broken_at is None


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
