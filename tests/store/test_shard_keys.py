"""Commands carry the shard keys of ``docs/scaling.md``, so that a router need not ask every shard."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
from motor import motor_asyncio
from msgspec import structs
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.commands.messages import drop_message, retry_message
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, delete_user, update_user
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Worker
from schema_user.domain.contact import Channel, SendCode
from schema_user.domain.repetition import once
from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.domain.user import advanced
from schema_user.errors import Conflict
from schema_user.history_reading import get_past_user, list_history
from schema_user.queries import get_message, get_user
from schema_user.store import connection
from schema_user.store.users import MAX_PENDING
from tests.conftest import fresh_uri, prepared, settings_for
from tests.store.post import Post, eventually, working
from tests.unit.test_docs import CODE, SOURCE, table, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

    from schema_user.domain.message import Message
    from schema_user.domain.repetition import Once
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

PAGE: Final = "docs/scaling.md"
CLAIM: Final = ("outbox", "find", "channel, next_at, state")
SWEEP: Final = ("users", "find", "pending_since")
LOOK: Final = ("outbox", "find", "look_at, state")
BACKGROUND: Final = {"OutboxStore.claim()": CLAIM, "OutboxStore.unwatched()": LOOK, "Relay.sweep()": SWEEP}
EMAIL: Final = "minnie@example.com"

Scattered = tuple[str, str, str]
"""A command that asks every shard: its collection, its name, and the fields it selects by."""


def told_keys() -> dict[str, tuple[str, ...]]:
    """The fields of each shard key, as the page has them."""
    rows = table(PAGE, "collection", "shard key", "why")
    return {CODE.findall(name)[0]: tuple(re.findall(r"(\w+):", CODE.findall(key)[0])) for name, key, _ in rows}


def names_one(condition: Any) -> bool:
    """Whether a condition says which value a field has."""
    if not isinstance(condition, dict) or not any(name.startswith("$") for name in condition):
        return True
    return "$eq" in condition


def names_some(condition: Any) -> bool:
    """Whether a condition says which values a field has, one or several."""
    return names_one(condition) or "$in" in condition


def selections(name: str, command: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], bool]]:
    """What a command selects by, for each of its statements, and whether it must find one document with it."""
    match name:
        case "insert":
            return [(document, True) for document in command["documents"]]
        case "update":
            return [(each["q"], not each.get("multi", False)) for each in command["updates"]]
        case "delete":
            return [(each["q"], each["limit"] == 1) for each in command["deletes"]]
        case "findAndModify":
            return [(command["query"], True)]
        case "find":
            return [(command.get("filter", {}), False)]
        case "aggregate":
            return [(stage.get("$match", {}), False) for stage in command["pipeline"][:1] or [{}]]
        case _:
            return [({}, False)]


def scattered(name: str, command: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]]) -> list[Scattered]:
    """Find the statements of a command on a sharded collection that do not carry its shard key."""
    collection = command[name]
    if not isinstance(collection, str) or collection not in keys:
        return []
    return [
        (collection, name, ", ".join(sorted(selected)))
        for selected, one in selections(name, command)
        for holds in [names_one if one else names_some]
        if not all(field in selected and holds(selected[field]) for field in keys[collection])
    ]


class Listener(CommandListener):
    """Hears the commands that a driver sends, and keeps what they touched and which of them asked every shard."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.keys = told_keys()
        self.touched: set[tuple[str, str]] = set()
        self.scattered: list[Scattered] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Look at a command that goes out."""
        self.touched.add((str(event.command.get(event.command_name)), event.command_name))
        self.scattered += scattered(event.command_name, event.command, self.keys)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Pay no heed to answers."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Pay no heed to failures."""

    def forget(self) -> None:
        """Begin anew."""
        self.touched.clear()
        self.scattered.clear()


@dataclass(frozen=True)
class Overheard:
    """Everything wired up on a database whose every command is heard."""

    rooms: Rooms
    listener: Listener

    @property
    def wiring(self) -> Wiring:
        """The wiring."""
        return self.rooms.wiring

    async def create(self, asked: Once | None = None, **changes: Any) -> str:
        """Create a user with a username and an address that gets a code."""
        command = CreateUser("any", {"name": "Minnie"}, "default", username="minnie", wishes=(coded(EMAIL),))
        made = await create_user(self.wiring, OPERATOR, structs.replace(command, **changes), once=asked)
        return made.user.user_id

    async def update(self, user_id: str, asked: Once | None = None, **command: Any) -> None:
        """Update a user."""
        await update_user(self.wiring, Target(OPERATOR, user_id, once=asked), UpdateUser(**command))


def coded(address: str) -> AddressWish:
    """Ask for an address and for a code to be sent to it."""
    return AddressWish(Channel.EMAIL, address, SendCode(), "contact/email/")


@pytest_asyncio.fixture
async def overheard(mongod_uri: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Overheard]:
    """Listen to the client that the stores use, through each driver in turn; what the start sends is forgotten."""
    listener = Listener()
    heard = functools.partial(AsyncMongoClient, event_listeners=[listener])
    motored = functools.partial(motor_asyncio.AsyncIOMotorClient, event_listeners=[listener])
    monkeypatch.setattr(connection, "AsyncMongoClient", heard)
    monkeypatch.setattr(motor_asyncio, "AsyncIOMotorClient", motored)
    async with prepared(settings_for(fresh_uri(mongod_uri), mongodb_driver=driver)) as rooms:
        now = rooms.wiring.now()
        schema = UserSchema("any", None, "any", 1, '{"type": "object"}', "2020-12", SchemaState.ACTIVE, (), now, now)
        assert await rooms.wiring.schemas.insert(schema)
        assert listener.touched
        listener.forget()
        yield Overheard(rooms, listener)


KEYLESS: Final[dict[str, dict[str, Any]]] = {
    "another field": {"find": "users", "filter": {"username_folded": "x"}},
    "no filter": {"find": "users"},
    "a range": {"find": "users", "filter": {"_id": {"$gt": "1"}}},
    "the id where the user is the key": {"find": "history", "filter": {"_id": "u:1:n"}},
    "one document of two": {"insert": "history", "documents": [{"_id": "1", "user_id": "u"}, {"_id": "2"}]},
    "one statement": {"update": "outbox", "updates": [{"q": {"_id": "u:m"}, "u": {}}]},
    "a list for one": {"update": "users", "updates": [{"q": {"_id": {"$in": ["u"]}}, "u": {}, "multi": False}]},
    "many": {"update": "users", "updates": [{"q": {"version": 1}, "u": {}, "multi": True}]},
    "a deletion": {"delete": "claims", "deletes": [{"q": {"nonce": b"n"}, "limit": 1}]},
    "a list to modify": {"findAndModify": "outbox", "query": {"user_id": {"$in": ["u"]}}},
    "a pipeline": {"aggregate": "users", "pipeline": [{"$match": {"deleted": False}}]},
    "an empty pipeline": {"aggregate": "users", "pipeline": []},
    "an unknown command": {"distinct": "users", "key": "state"},
}
KEYED: Final[dict[str, dict[str, Any]]] = {
    "a list": {"find": "users", "filter": {"_id": {"$in": ["u", "v"]}, "deleted": False}},
    "a collection that stays whole": {"find": "schemas", "filter": {}},
    "a document": {"insert": "history", "documents": [{"_id": "1", "user_id": "u"}]},
    "a guarded statement": {"update": "users", "updates": [{"q": {"_id": "u", "version": 1}, "u": {}}]},
    "a list for many": {"update": "outbox", "updates": [{"q": {"user_id": {"$in": ["u"]}}, "u": {}, "multi": True}]},
    "a deletion": {"delete": "claims", "deletes": [{"q": {"_id": {"$eq": b"c"}}, "limit": 1}]},
    "one to modify": {"findAndModify": "outbox", "query": {"user_id": "u"}},
    "a pipeline": {"aggregate": "users", "pipeline": [{"$match": {"_id": "u"}}]},
    "what goes on": {"getMore": 7, "collection": "users"},
}


class TestChecker:
    @pytest.mark.parametrize("command", KEYLESS.values(), ids=KEYLESS.keys())
    def test_a_command_without_the_key_is_found(self, command: dict[str, Any]) -> None:
        """One statement of several is enough; a range is no key, nor is a list where one document is meant."""
        name, collection = next(iter(command.items()))
        assert [(each[0], each[1]) for each in scattered(name, command, told_keys())] == [(collection, name)]

    @pytest.mark.parametrize("command", KEYED.values(), ids=KEYED.keys())
    def test_a_command_with_the_key_passes(self, command: dict[str, Any]) -> None:
        """So does any command on a collection that is not sharded, and what continues an earlier one."""
        assert scattered(next(iter(command)), command, told_keys()) == []

    async def test_a_query_that_scatters_is_heard(self, overheard: Overheard) -> None:
        """A search of the users asks every shard, and the listener says so."""
        assert await overheard.wiring.users.count_of_schema("any") == 0
        assert [(collection, name) for collection, name, _ in overheard.listener.scattered] == [("users", "aggregate")]


class TestRequests:
    async def test_what_a_request_sends_carries_the_key(self, overheard: Overheard) -> None:
        """Create, get, update data, contact, username and nothing, refuse a name, tell the past, delete."""
        wiring = overheard.wiring
        user_id = await overheard.create()
        await get_user(wiring, OPERATOR, user_id)
        await overheard.update(user_id, data={"name": "Minerva"})
        await overheard.update(user_id, wishes=(coded("minerva@example.com"),))
        await overheard.update(user_id, data={"name": "Minerva"}, username="minerva")
        await overheard.update(user_id, data={"name": "Minerva"}, username="minerva")
        with pytest.raises(Conflict):
            await overheard.create(username="minerva")
        with pytest.raises(Conflict):
            await overheard.create(user_id=user_id, username="other")
        await get_past_user(wiring, OPERATOR, user_id, 1)
        await list_history(wiring, OPERATOR, user_id, 10, None)
        await delete_user(wiring, Target(OPERATOR, user_id))
        assert overheard.listener.scattered == []
        assert overheard.listener.touched >= {
            ("users", "find"),
            ("users", "insert"),
            ("users", "update"),
            ("claims", "find"),
            ("claims", "insert"),
            ("claims", "delete"),
            ("history", "insert"),
            ("history", "find"),
            ("outbox", "insert"),
            ("outbox", "update"),
        }

    async def test_seeking_an_outcome_carries_the_key(self, overheard: Overheard) -> None:
        """Of a write that lost the race, which looks for itself among pending and relayed entries."""
        wiring = overheard.wiring
        before = await wiring.users.find(await overheard.create())
        assert before is not None
        after = advanced(before, structs.replace(before, data={"name": "Minerva"}), wiring.now())
        assert after is not None
        assert await wiring.users.replace(before, after)
        overheard.listener.forget()
        assert not await wiring.users.replace(before, after)
        assert overheard.listener.scattered == []
        assert ("history", "find") in overheard.listener.touched

    async def test_making_room_carries_the_key(self, overheard: Overheard) -> None:
        """In a document where as much waits as may, a message among it."""
        user_id = await overheard.create()
        for number in range(MAX_PENDING + 1):
            await overheard.update(user_id, data={"name": f"Minnie {number}"})
        assert ("outbox", "update") in overheard.listener.touched
        assert overheard.listener.scattered == []

    async def test_repeatable_requests_carry_the_key(self, overheard: Overheard) -> None:
        """A creation, a change and a change of nothing, each sent twice, their answers relayed."""
        wiring = overheard.wiring
        making, changing, resting = (once("t", key, [key.encode()], b"k") for key in ("a", "b", "c"))
        user_id = await overheard.create(making)
        assert await overheard.create(making) == user_id
        for asked in (changing, changing, resting, resting):
            await overheard.update(user_id, asked, data={"name": "Minerva"})
        await wiring.relay.flush()
        await overheard.update(user_id, changing, data={"name": "Minerva"})
        assert overheard.listener.scattered == []
        assert overheard.listener.touched >= {
            ("requests", "insert"),
            ("requests", "find"),
            ("requests", "update"),
        }

    async def test_what_an_operator_does_with_a_message_carries_the_key(self, overheard: Overheard) -> None:
        """Looking at it, trying it again, dropping it."""
        wiring = overheard.wiring
        user = await wiring.users.find(await overheard.create())
        assert user is not None
        await wiring.relay.flush()
        [record] = await overheard.rooms.database.collection("outbox").find({"user_id": user.user_id})
        overheard.listener.forget()
        for command in (get_message, retry_message, drop_message):
            assert (await command(wiring, OPERATOR, record["_id"])).user_id == user.user_id
        assert overheard.listener.scattered == []
        assert overheard.listener.touched >= {("outbox", "find"), ("outbox", "update")}


class TestBackground:
    async def test_relaying_carries_the_key(self, overheard: Overheard) -> None:
        """Copying, emptying and letting emptied messages go; only to find what a crash left, every shard is asked."""
        relay = overheard.wiring.relay
        user_id = await overheard.create()
        await relay.flush()
        await relay._empty(0)
        assert ("outbox", "update") in overheard.listener.touched
        assert overheard.listener.scattered == []
        await overheard.update(user_id, wishes=(coded("minerva@example.com"),))
        assert await relay.sweep() == 1
        assert overheard.listener.scattered == [SWEEP]

    async def test_delivery_carries_the_key(self, overheard: Overheard) -> None:
        """Noting a failure, a success and a death, and everything else but finding what is due for a try or a look."""

        def moody(_: Message) -> None:
            if post.tried == 1:
                raise Undelivered("not today")

        post = Post(moody)
        async with working(overheard.wiring, post):
            await overheard.create()
            await eventually(lambda: post.sent)
        assert post.tried == 2
        assert set(overheard.listener.scattered) <= {CLAIM, SWEEP, LOOK}
        assert CLAIM in overheard.listener.scattered

    async def test_burying_carries_the_key(self, overheard: Overheard) -> None:
        """Only to find what is due for a look, every shard is asked."""
        wiring = overheard.wiring
        await overheard.create()
        await wiring.relay.flush()
        overheard.listener.forget()
        for ahead in (wiring.now() + timedelta(minutes=6), wiring.now() + timedelta(hours=2)):
            await Worker(replace(wiring, now=functools.partial(ahead.astimezone, UTC)), {})._bury()
        assert overheard.listener.scattered == [LOOK, LOOK]
        assert ("outbox", "update") in overheard.listener.touched


class TestPage:
    def test_every_collection_has_its_place(self) -> None:
        """A collection of the stores is sharded or stays whole, and the page says which."""
        whole = {CODE.findall(row[0])[0] for row in table(PAGE, "collection", "why it stays whole")}
        opened = {
            name
            for file in (SOURCE / "store").glob("*.py")
            for name in re.findall(r'\.collection\("(\w+)"\)', file.read_text(encoding="utf-8"))
        }
        assert not whole & told_keys().keys()
        assert opened - whole - told_keys().keys() == set()

    def test_the_commands_make_the_keys_of_the_table(self) -> None:
        """Each row is sharded by a command of the page, and no command gives a collection another key."""
        rows = table(PAGE, "collection", "shard key", "why")
        told = [(CODE.findall(name)[0], CODE.findall(key)[0]) for name, key, _ in rows]
        made = re.findall(r'sh\.shardCollection\("schema_user\.(\w+)", (\{[^}]*\})', text(PAGE))
        assert set(made) == set(told)

    def test_exceptions_are_those_of_the_tests(self) -> None:
        """The page names what may ask every shard in the background, and nothing more."""
        told = {
            CODE.findall(place)[0]: (CODE.findall(name)[0], CODE.findall(command)[0], ", ".join(CODE.findall(fields)))
            for place, name, command, fields, _ in table(
                PAGE, "where", "collection", "command", "selects by", "how often"
            )
        }
        assert told == BACKGROUND

    def test_the_model_follows_from_its_inputs(self) -> None:
        """Each result on the page is what its formula gives."""
        inputs = table(PAGE, "input", "one field", "whole", "what it is")
        results = table(PAGE, "result", "formula", "one field", "whole", "unit")
        for column in (1, 2):
            known: dict[str, Any] = {"ceil": math.ceil, "max": max}
            known |= {CODE.findall(row[0])[0]: number(row[column]) for row in inputs}
            for name, formula, *told in results:
                value = eval(CODE.findall(formula)[0], {"__builtins__": {}}, known)  # noqa: S307 - the page is ours
                known[CODE.findall(name)[0]] = value
                assert number(told[column - 1]) == pytest.approx(value, rel=0.005), name


def number(cell: str) -> float:
    """Read a number with its thousands apart."""
    return float(cell.replace(",", ""))
