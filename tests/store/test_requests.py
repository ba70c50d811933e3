"""Requests under a key when something breaks: at each step of each change, and in any order of two processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from schema_user.commands import contacts, organizations, schemas, users
from schema_user.commands.change import Decision, Target
from schema_user.commands.contacts import AddressWish, ResendCode, VerifyContact
from schema_user.commands.organizations import CreateOrganization, OrganizationTarget, UpdateOrganization
from schema_user.commands.schemas import CreateSchema, SchemaTarget, UpdateSchema
from schema_user.commands.users import CreateUser, UpdateUser
from schema_user.domain.caller import DEFAULT_ORGANIZATION, Caller, Grant
from schema_user.domain.contact import Channel, ReturnCode
from schema_user.domain.permission import Role
from schema_user.domain.repetition import Answered, Once, once
from schema_user.domain.schema import SchemaState
from schema_user.domain.user import Transition
from schema_user.errors import Aborted, Conflict, Denied, Missing, StaleSequence, Unavailable, Unmet
from schema_user.rooms import wired
from schema_user.store.connection import Collection, Database
from schema_user.store.relay import Relay, _items
from schema_user.store.requests import REQUESTS, RequestStore
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

TOKEN = "token"
OWNER = Caller(TOKEN, (Grant(Role.INSTANCE_OWNER),))
NUMBERS = itertools.count(1)


class Crash(BaseException):
    """The process ended here."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rooms(mongod_uri: str) -> AsyncIterator[Rooms]:
    """Give everything wired up; each test makes what it needs."""
    settings = settings_for(fresh_uri(mongod_uri), resend_after=timedelta(0), resends_per_day=100)
    async with prepared(settings) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other(rooms: Rooms) -> AsyncIterator[Wiring]:
    """Give the wiring of another process on the same database."""
    async with wired(rooms.wiring.settings) as made:
        yield made.wiring


def fresh(word: str = "n") -> str:
    """Give a word that nobody used."""
    return f"{word}{next(NUMBERS)}"


def key_of(asked: str = "") -> Once:
    """Give a request under a key that nobody used."""
    return once(TOKEN, fresh("key"), [asked.encode()], b"k")


@dataclass(frozen=True)
class Reply:
    """What a caller is told."""

    resource_id: str
    sequence: int
    changed_at: datetime
    codes: dict[str, str]
    replayed: bool

    def like(self, other: Reply) -> bool:
        """Whether both say the same."""
        return replace(self, replayed=other.replayed) == other


def of_user(decision: Decision) -> Reply:
    """Tell what was answered."""
    user = decision.user
    return Reply(user.user_id, user.sequence, user.changed_at, dict(decision.codes), decision.replayed)


def of_schema(saved: schemas.Saved) -> Reply:
    """Tell what was answered."""
    return Reply(
        saved.schema.schema_id, saved.schema.sequence, saved.schema.changed_at, {Channel.EMAIL: ""}, saved.replayed
    )


def of_organization(saved: organizations.SavedOrganization) -> Reply:
    """Tell what was answered."""
    made = saved.organization
    return Reply(made.organization_id, made.sequence, made.changed_at, {}, saved.replayed)


@functools.cache
def schema_ids() -> dict[str, str]:
    """Give where the id of each instance's schema is kept."""
    return {}


async def schema_of(wiring: Wiring) -> str:
    """Give a schema that takes any data."""
    kept = schema_ids()
    if wiring.instance_id not in kept:
        saved = await schemas.create_schema(wiring, OWNER, CreateSchema("any", {}, None))
        kept[wiring.instance_id] = saved.schema.schema_id
    return kept[wiring.instance_id]


def wish(value: str, *, returned: bool = True) -> AddressWish:
    """Wish an email address whose code comes back."""
    return AddressWish(Channel.EMAIL, value, ReturnCode() if returned else None, "")


async def a_user(wiring: Wiring, **fields: Any) -> str:
    """Make a user with an address."""
    command = CreateUser(await schema_of(wiring), {"n": 0}, DEFAULT_ORGANIZATION, **fields)
    return (await users.create_user(wiring, OWNER, command)).user.user_id


async def with_address(wiring: Wiring) -> str:
    """Make a user with an address that is not verified."""
    return await a_user(wiring, wishes=(wish("a@example.com"),))


async def locked(wiring: Wiring) -> str:
    """Make a locked user."""
    user_id = await a_user(wiring)
    await users.move_user(wiring, Target(OWNER, user_id), Transition.LOCK)
    return user_id


async def a_schema(wiring: Wiring) -> str:
    """Make a schema."""
    return (await schemas.create_schema(wiring, OWNER, CreateSchema(fresh("type"), {}, None))).schema.schema_id


async def an_organization(wiring: Wiring) -> str:
    """Make an organization."""
    made = await organizations.create_organization(wiring, OWNER, CreateOrganization("Test"))
    return made.organization.organization_id


async def nothing(wiring: Wiring) -> str:
    """Make nothing."""
    return ""


@dataclass(frozen=True)
class Act:
    """One kind of request: what must be there before it, how it is sent, and the collection that it changes.

    ``seen``: whether a client sees a change.
    """

    before: Callable[[Wiring], Awaitable[str]]
    send: Callable[[Wiring, str, Once | None], Awaitable[Reply]]
    collection: str = "users"
    seen: bool = True

    @property
    def makes(self) -> bool:
        """Whether it makes a resource."""
        return self.before is nothing


async def create(wiring: Wiring, name: str, request: Once | None) -> Reply:
    """Create a user with a username and a code."""
    command = CreateUser(
        await schema_of(wiring), {"n": 1}, DEFAULT_ORGANIZATION, username=name or None, wishes=(wish("c@example.com"),)
    )
    return of_user(await users.create_user(wiring, OWNER, command, once=request))


async def update(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Change the data of a user."""
    target = Target(OWNER, user_id, once=request)
    return of_user(await users.update_user(wiring, target, UpdateUser(data={"n": "changed"})))


async def leave(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Give a user the data that it has."""
    target = Target(OWNER, user_id, once=request)
    return of_user(await users.update_user(wiring, target, UpdateUser(data={"n": 0})))


async def rename(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Give a user a name."""
    target = Target(OWNER, user_id, once=request)
    return of_user(await users.update_user(wiring, target, UpdateUser(username=f"name of {user_id}")))


async def set_address(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Give a user an address."""
    target = Target(OWNER, user_id, once=request)
    return of_user(await users.update_user(wiring, target, UpdateUser(wishes=(wish("b@example.com"),))))


async def resend(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Make another code; no client sees a change."""
    command = ResendCode(Channel.EMAIL, ReturnCode())
    return of_user(await contacts.resend_code(wiring, Target(OWNER, user_id, once=request), command))


async def lock(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Lock a user."""
    return of_user(await users.move_user(wiring, Target(OWNER, user_id, once=request), Transition.LOCK))


async def unlock(wiring: Wiring, user_id: str, request: Once | None) -> Reply:
    """Unlock a user."""
    return of_user(await users.move_user(wiring, Target(OWNER, user_id, once=request), Transition.UNLOCK))


async def create_schema(wiring: Wiring, name: str, request: Once | None) -> Reply:
    """Create a schema."""
    command = CreateSchema(name or "no name", {}, None)
    return of_schema(await schemas.create_schema(wiring, OWNER, command, once=request))


async def update_schema(wiring: Wiring, schema_id: str, request: Once | None) -> Reply:
    """Give a schema another type and another document."""
    command = UpdateSchema(type=f"type of {schema_id}", document={"title": "changed"})
    return of_schema(await schemas.update_schema(wiring, SchemaTarget(OWNER, schema_id, once=request), command))


async def leave_schema(wiring: Wiring, schema_id: str, request: Once | None) -> Reply:
    """Give a schema the document that it has."""
    target = SchemaTarget(OWNER, schema_id, once=request)
    return of_schema(await schemas.update_schema(wiring, target, UpdateSchema(document={})))


async def stop_schema(wiring: Wiring, schema_id: str, request: Once | None) -> Reply:
    """Deactivate a schema."""
    target = SchemaTarget(OWNER, schema_id, once=request)
    return of_schema(await schemas.set_schema_state(wiring, target, SchemaState.INACTIVE))


async def create_organization(wiring: Wiring, name: str, request: Once | None) -> Reply:
    """Create an organization."""
    command = CreateOrganization(name or "no name")
    return of_organization(await organizations.create_organization(wiring, OWNER, command, once=request))


async def update_organization(wiring: Wiring, organization_id: str, request: Once | None) -> Reply:
    """Rename an organization."""
    target = OrganizationTarget(OWNER, organization_id, once=request)
    return of_organization(await organizations.update_organization(wiring, target, UpdateOrganization("Changed")))


async def leave_organization(wiring: Wiring, organization_id: str, request: Once | None) -> Reply:
    """Give an organization the name that it has."""
    target = OrganizationTarget(OWNER, organization_id, once=request)
    return of_organization(await organizations.update_organization(wiring, target, UpdateOrganization("Test")))


async def stop_organization(wiring: Wiring, organization_id: str, request: Once | None) -> Reply:
    """Deactivate an organization."""
    target = OrganizationTarget(OWNER, organization_id, once=request)
    return of_organization(await organizations.set_organization_state(wiring, target, active=False))


ACTS = {
    "create user": Act(nothing, create),
    "update user": Act(a_user, update),
    "rename user": Act(a_user, rename),
    "set address": Act(with_address, set_address),
    "resend code": Act(with_address, resend, seen=False),
    "leave user": Act(a_user, leave, seen=False),
    "lock user": Act(a_user, lock),
    "unlock user": Act(locked, unlock),
    "create schema": Act(nothing, create_schema, "schemas"),
    "update schema": Act(a_schema, update_schema, "schemas"),
    "leave schema": Act(a_schema, leave_schema, "schemas", seen=False),
    "stop schema": Act(a_schema, stop_schema, "schemas"),
    "create organization": Act(nothing, create_organization, "organizations"),
    "update organization": Act(an_organization, update_organization, "organizations"),
    "leave organization": Act(an_organization, leave_organization, "organizations", seen=False),
    "stop organization": Act(an_organization, stop_organization, "organizations"),
}

STEPS = (
    ("requests", "begin"),
    ("claims", "take"),
    ("users", "insert"),
    ("users", "replace"),
    ("relay", "note"),
    ("schemas", "insert"),
    ("schemas", "replace"),
    ("organizations", "insert"),
    ("organizations", "replace"),
    ("requests", "settle"),
)
WRITES = {"insert", "replace"}


@contextlib.contextmanager
def breaking(target: object, name: str, *, late: bool, error: BaseException | None = None) -> Iterator[list[str]]:
    """Let a method raise: instead of its effect, or (late) after it; gives where it was called."""
    whole = getattr(target, name)
    called: list[str] = []

    def broken_at_once(*given: Any, **named: Any) -> Any:
        called.append(name)
        if late:
            whole(*given, **named)
        raise error or Crash

    async def broken(*given: Any, **named: Any) -> Any:
        called.append(name)
        if late:
            await whole(*given, **named)
        raise error or Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, broken if inspect.iscoroutinefunction(whole) else broken_at_once)
        yield called


async def relayed(rooms: Rooms, request: Once) -> None:
    """Another process moves what was left behind."""
    for found in await rooms.database.collection("users").find({"pending.id": request.record_id}, {"_id": 1}):
        await Relay(rooms.database).relieve(found["_id"])


async def copied(rooms: Rooms, request: Once) -> None:
    """A relay copies what waits, and is killed before it takes it out."""
    relay = Relay(rooms.database)
    for found in await rooms.database.collection("users").find({"pending.id": request.record_id}, {"pending": 1}):
        await relay._accept(_items(found))


async def lost(rooms: Rooms, request: Once) -> None:
    """A failover takes back the record, which no majority had."""
    await rooms.database.collection(REQUESTS).delete({"_id": request.record_id, "answer": {"$exists": False}})


async def lost_and_relayed(rooms: Rooms, request: Once) -> None:
    """Both happen."""
    await lost(rooms, request)
    await relayed(rooms, request)


async def at_once(rooms: Rooms, request: Once) -> None:
    """Nothing happens."""


async def document_of(rooms: Rooms, act: Act, resource_id: str) -> Document:
    """Give a resource as it is stored."""
    found = await rooms.database.collection(act.collection).find_one({"_id": resource_id})
    assert found is not None
    return found


async def writes_of(rooms: Rooms, user_id: str) -> int:
    """Count what the history of a user tells, wherever its entries are."""
    found = await rooms.database.collection("users").find_one({"_id": user_id}, {"pending": 1, "creation": 1}) or {}
    waiting = {each["id"] for each in found.get("pending", ()) if each["to"] == "history"}
    waiting |= {each["id"] for each in [found.get("creation")] if each}
    return len(
        waiting | {each["_id"] for each in await rooms.database.collection("history").find({"user_id": user_id})}
    )


async def repeated_once(rooms: Rooms, act: Act, resource_id: str, request: Once, versions: tuple[int, int]) -> Reply:
    """Send a request again, twice: its effect was once, and both are told the same."""
    first = await act.send(rooms.wiring, resource_id, request)
    stored = await document_of(rooms, act, first.resource_id)
    assert (stored["sequence"], stored["version"]) == versions
    assert (first.sequence, first.changed_at) == (stored["sequence"], stored["changed_at"])
    second = await act.send(rooms.wiring, resource_id, request)
    assert second.replayed
    assert second.like(first)
    assert await document_of(rooms, act, first.resource_id) == stored
    if act.collection == "users":
        assert await writes_of(rooms, first.resource_id) == stored["version"]
    return first


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
async def test_a_crash_at_any_step_is_made_good_by_a_repetition(rooms: Rooms, act: Act) -> None:
    """Before or after the effect of each step, whatever the relay did and whether or not the record was lost."""
    crashes = 0
    for (room, name), late in itertools.product(STEPS, (False, True)):
        after = [at_once]
        if not act.makes and (late or name in WRITES):
            after += [lost]
        if act.collection == "users" and late and name in WRITES:
            after += [copied, relayed if act.makes else lost_and_relayed]
        for aftermath in after:
            resource_id = await act.before(rooms.wiring) or fresh("made ")
            count = await rooms.database.collection(act.collection).count({})
            versions = (1, 1)
            if not act.makes:
                stored = await document_of(rooms, act, resource_id)
                versions = (stored["sequence"] + act.seen, stored["version"] + 1)
            request = key_of()
            with breaking(getattr(rooms.wiring, room), name, late=late) as called, contextlib.suppress(Crash):
                await act.send(rooms.wiring, resource_id, request)
            if not called:
                break
            crashes += 1
            await aftermath(rooms, request)
            first = await repeated_once(rooms, act, resource_id, request, versions)
            assert await rooms.database.collection(act.collection).count({}) == count + act.makes, (name, late)
            if code := first.codes.get(Channel.EMAIL):
                target = Target(OWNER, first.resource_id)
                await contacts.verify_contact(rooms.wiring, target, VerifyContact(Channel.EMAIL, code))
    assert crashes >= 6


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("bug")], ids=["cancelled", "bug"])
async def test_a_write_whose_caller_is_gone_is_found(rooms: Rooms, error: BaseException) -> None:
    """The write was applied, and nobody noted what it left."""
    user_id = await with_address(rooms.wiring)
    request = key_of()
    with breaking(rooms.wiring.users._updates, "do", late=True, error=error), pytest.raises(type(error)):
        await set_address(rooms.wiring, user_id, request)
    first = await repeated_once(rooms, ACTS["set address"], user_id, request, (2, 2))
    assert first.replayed
    assert first.codes[Channel.EMAIL]


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
async def test_twins_at_once_have_one_effect(rooms: Rooms, other: Wiring, act: Act) -> None:
    """Eight identical requests in two processes: one effect, one answer, and the others are replays of it."""
    resource_id = await act.before(rooms.wiring) or fresh("made ")
    request = key_of()
    wirings = [rooms.wiring, other] * 4
    told = await asyncio.gather(*(act.send(each, resource_id, request) for each in wirings))
    assert all(each.like(told[0]) for each in told)
    assert [each.replayed for each in told].count(False) == 1
    if act.collection == "users":
        stored = await document_of(rooms, act, told[0].resource_id)
        assert await writes_of(rooms, told[0].resource_id) == stored["version"]


async def test_another_request_under_the_key_is_refused_at_every_stage(rooms: Rooms) -> None:
    """While the first is open, while its answer waits, while it is relayed, and without its record."""
    user_id = await a_user(rooms.wiring)
    request = key_of("one")
    another = Once(request.record_id, once("", "", [b"two"], b"k").digest)

    async def refused() -> None:
        with pytest.raises(Conflict) as caught:
            await lock(rooms.wiring, user_id, another)
        assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"

    with breaking(rooms.wiring.users, "replace", late=False), contextlib.suppress(Crash):
        await update(rooms.wiring, user_id, request)
    await refused()
    await update(rooms.wiring, user_id, request)
    await refused()
    await lost(rooms, request)
    await refused()
    await copied(rooms, request)
    await refused()
    await relayed(rooms, request)
    await refused()
    assert (await update(rooms.wiring, user_id, request)).replayed


async def test_permission_is_asked_again(rooms: Rooms) -> None:
    """A token that lost its role is denied or told that there is nothing, and the answer stays for later."""
    user_id = await a_user(rooms.wiring)
    request, made = key_of(), key_of()
    first = await update(rooms.wiring, user_id, request)
    command = CreateUser(await schema_of(rooms.wiring), {}, DEFAULT_ORGANIZATION)
    created = of_user(await users.create_user(rooms.wiring, OWNER, command, once=made))
    viewer = Caller(TOKEN, (Grant(Role.ORG_USER_VIEWER, DEFAULT_ORGANIZATION),))
    stranger = Caller(TOKEN, (Grant(Role.ORG_OWNER, "elsewhere"),))
    for caller, fault in ((viewer, Denied), (stranger, Missing)):
        with pytest.raises(fault):
            await users.update_user(rooms.wiring, Target(caller, user_id, once=request), UpdateUser(data={"n": 1}))
        with pytest.raises(fault):
            await users.create_user(rooms.wiring, caller, command, once=made)
    assert (await update(rooms.wiring, user_id, request)).like(first)
    assert of_user(await users.create_user(rooms.wiring, OWNER, command, once=made)).like(created)


@pytest.mark.parametrize("moved", [at_once, relayed], ids=["waiting", "relayed"])
async def test_a_refused_twin_does_not_let_a_creation_happen_again(
    rooms: Rooms, moved: Callable[[Rooms, Once], Awaitable[None]]
) -> None:
    """The creation was stored, its answer is not in the record yet, a twin is refused; the id stays the same."""
    request, name = key_of(), fresh("name")
    command = CreateUser(await schema_of(rooms.wiring), {"n": 1}, DEFAULT_ORGANIZATION, username=name)
    with breaking(rooms.wiring.relay, "note", late=False), contextlib.suppress(Crash):
        await users.create_user(rooms.wiring, OWNER, command, once=request)
    viewer = Caller(TOKEN, (Grant(Role.ORG_USER_VIEWER, DEFAULT_ORGANIZATION),))
    with pytest.raises(Denied):
        await users.create_user(rooms.wiring, viewer, command, once=request)
    await moved(rooms, request)
    reply = of_user(await users.create_user(rooms.wiring, OWNER, command, once=request))
    [made] = await rooms.database.collection("users").find({"username": name})
    assert (reply.resource_id, reply.replayed) == (made["_id"], True)


async def test_a_refused_request_may_be_tried_again(rooms: Rooms) -> None:
    """It is done as soon as it can be, once; its key stays its own."""
    user_id = await locked(rooms.wiring)
    request = key_of("lock")
    for _ in range(2):
        with pytest.raises(Unmet):
            await lock(rooms.wiring, user_id, request)
    with pytest.raises(Conflict):
        await update(rooms.wiring, user_id, Once(request.record_id, key_of("another").digest))
    await unlock(rooms.wiring, user_id, None)
    await repeated_once(rooms, ACTS["lock user"], user_id, request, (4, 4))


async def test_a_creation_is_not_repeated_after_its_user_was_deleted(rooms: Rooms, other: Wiring) -> None:
    """Also while its answer waits in what is left of the user: the same id, and no code."""
    request, name = key_of(), fresh("name")
    with breaking(rooms.wiring.relay, "note", late=False), contextlib.suppress(Crash):
        await create(rooms.wiring, name, request)
    [made] = await rooms.database.collection("users").find({"username": name})
    await users.delete_user(other, Target(OWNER, made["_id"]))
    for _ in range(2):
        reply = await create(rooms.wiring, name, request)
        assert (reply.resource_id, reply.sequence, reply.codes, reply.replayed) == (made["_id"], 1, {}, True)
    await relayed(rooms, request)
    assert (await create(rooms.wiring, name, request)).resource_id == made["_id"]
    with pytest.raises(Missing):
        await update(rooms.wiring, made["_id"], key_of())


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "waiting"])
async def test_the_creation_of_a_deleted_schema_is_answered_as_before(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    """It gives the first answer again, and the type stays free for others."""
    monkeypatch.setattr(schemas, "CACHES_EMPTY", 0)
    request, name = key_of(), fresh("type")
    crash = contextlib.nullcontext() if settled else breaking(rooms.wiring.requests, "settle", late=False)
    with crash, contextlib.suppress(Crash):
        await create_schema(rooms.wiring, name, request)
    [made] = await rooms.database.collection("schemas").find({"type": name})
    await schemas.delete_schema(rooms.wiring, SchemaTarget(OWNER, made["_id"]))
    reply = await create_schema(rooms.wiring, name, request)
    assert (reply.resource_id, reply.sequence, reply.replayed) == (made["_id"], 1, True)
    await create_schema(rooms.wiring, name, None)


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "waiting"])
async def test_the_creation_of_a_deleted_organization_is_answered_as_before(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    """It gives the first answer again."""
    monkeypatch.setattr(organizations, "_CACHES_EMPTY", 0)
    request, name = key_of(), fresh("name")
    crash = contextlib.nullcontext() if settled else breaking(rooms.wiring.requests, "settle", late=False)
    with crash, contextlib.suppress(Crash):
        await create_organization(rooms.wiring, name, request)
    [made] = await rooms.database.collection("organizations").find({"name": name})
    await organizations.delete_organization(rooms.wiring, OrganizationTarget(OWNER, made["_id"]))
    reply = await create_organization(rooms.wiring, name, request)
    assert (reply.resource_id, reply.sequence, reply.replayed) == (made["_id"], 1, True)


async def test_an_answer_that_no_majority_shows_yet_is_not_overlooked(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new primary may show the record to readers as it was before: then the request is put off, and not answered."""
    user_id = await a_user(rooms.wiring)
    request = key_of()
    await update(rooms.wiring, user_id, request)
    await rooms.wiring.relay.flush()
    await relayed(rooms, request)
    await users.update_user(rooms.wiring, Target(OWNER, user_id), UpdateUser(data={"n": "of another"}))
    whole = Collection.durable
    old = await rooms.database.collection(REQUESTS).find_one({"_id": request.record_id})
    assert old is not None
    before = {name: value for name, value in old.items() if name != "answer"}

    class Behind(Collection):
        async def find_one(self, where: Document, fields: Any = None) -> Document | None:
            return dict(before)

    def durable(self: Collection) -> Collection:
        return Behind(self._raw) if self._raw.name == REQUESTS else whole(self)

    monkeypatch.setattr(Collection, "durable", durable)
    monkeypatch.setattr(rooms.wiring.requests, "_patience", 0.1, raising=False)
    monkeypatch.setattr(rooms.wiring.users._requests, "_patience", 0.1, raising=False)
    with pytest.raises((Unavailable, Aborted)):
        await update(rooms.wiring, user_id, request)
    monkeypatch.undo()
    stored = await document_of(rooms, ACTS["update user"], user_id)
    assert (stored["data"], stored["version"]) == ({"n": "of another"}, 3)


async def test_many_later_requests_do_not_push_an_answer_out(rooms: Rooms) -> None:
    """An answer stays where it is found until it stands in its record."""
    organization_id = await an_organization(rooms.wiring)
    request = key_of()
    with breaking(rooms.wiring.requests, "settle", late=False), contextlib.suppress(Crash):
        await update_organization(rooms.wiring, organization_id, request)
    for _ in range(20):
        target = OrganizationTarget(OWNER, organization_id, once=key_of())
        await organizations.update_organization(rooms.wiring, target, UpdateOrganization(fresh("name")))
    reply = await update_organization(rooms.wiring, organization_id, request)
    assert (reply.sequence, reply.replayed) == (2, True)


@pytest.mark.parametrize("name", ["leave user", "leave schema", "leave organization"])
@pytest.mark.parametrize("crashed", [False, True], ids=["answered", "crashed"])
async def test_a_request_that_changed_nothing_keeps_doing_so(rooms: Rooms, name: str, crashed: bool) -> None:
    """Also where it would change something by now."""
    act, request = ACTS[name], key_of()
    resource_id = await act.before(rooms.wiring)
    crash = breaking(rooms.wiring.requests, "settle", late=False) if crashed else contextlib.nullcontext()
    with crash, contextlib.suppress(Crash):
        await act.send(rooms.wiring, resource_id, request)
    await ACTS[name.replace("leave", "update")].send(rooms.wiring, resource_id, None)
    stored = await document_of(rooms, act, resource_id)
    assert stored["sequence"] == 2
    reply = await act.send(rooms.wiring, resource_id, request)
    assert (reply.sequence, reply.changed_at, reply.replayed) == (1, stored["created_at"], True)
    assert (await document_of(rooms, act, resource_id))["sequence"] == 2


class TestNames:
    """A name that is claimed is held by whoever uses it, and by nobody else."""

    @staticmethod
    async def take(wiring: Wiring, name: str) -> str:
        """Make a user of a name."""
        return await a_user(wiring, username=name)

    async def test_a_refused_repetition_leaves_no_name_behind(self, rooms: Rooms) -> None:
        """Who claimed a name, was overtaken and then refused frees it."""
        name = fresh("name")
        user_id = await a_user(rooms.wiring)
        request = key_of()
        whole = rooms.wiring.users.replace

        async def overtaken(before: Any, after: Any, *given: Any) -> bool:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rooms.wiring.users, "replace", whole)
                moved = structs.replace(before, locked=True, sequence=2, version=2)
                assert await whole(before, moved)
            return await whole(before, after, *given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rooms.wiring.users, "replace", overtaken)
            target = Target(OWNER, user_id, expected_sequence=1, once=request)
            with pytest.raises(StaleSequence):
                await users.update_user(rooms.wiring, target, UpdateUser(username=name))
        await self.take(rooms.wiring, name)

    async def test_a_refused_repetition_leaves_no_type_behind(self, rooms: Rooms) -> None:
        """The same of schemas."""
        name = fresh("type")
        schema_id = await a_schema(rooms.wiring)
        request = key_of()
        whole = rooms.wiring.schemas.replace

        async def overtaken(before: Any, after: Any, *given: Any) -> bool:
            assert await whole(before, replace(before, state=SchemaState.INACTIVE, sequence=2, version=2))
            return await whole(before, after, *given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rooms.wiring.schemas, "replace", overtaken)
            target = SchemaTarget(OWNER, schema_id, expected_sequence=1, once=request)
            with pytest.raises(StaleSequence):
                await schemas.update_schema(rooms.wiring, target, UpdateSchema(type=name))
        await create_schema(rooms.wiring, name, None)

    async def test_a_key_that_comes_again_after_its_time_frees_the_name_before(self, rooms: Rooms) -> None:
        """Two renames of one user under one key, a day apart."""
        user_id = await a_user(rooms.wiring)
        first, second = fresh("name"), fresh("name")
        request = key_of()
        for name in (first, second):
            target = Target(OWNER, user_id, once=request)
            await users.update_user(rooms.wiring, target, UpdateUser(username=name))
            await relayed(rooms, request)
            await rooms.database.collection(REQUESTS).delete({"_id": request.record_id})
        await self.take(rooms.wiring, first)
        with pytest.raises(Conflict):
            await self.take(rooms.wiring, second)

    @pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "without a key"])
    async def test_an_id_that_is_taken_takes_no_name_away(self, rooms: Rooms, keyed: bool) -> None:
        """Who creates a user anew, by its id and name, is refused, and the name stays held."""
        name, user_id = fresh("name"), fresh("id")
        await a_user(rooms.wiring, user_id=user_id, username=name)
        command = CreateUser(
            await schema_of(rooms.wiring), {"n": 0}, DEFAULT_ORGANIZATION, user_id=user_id, username=name
        )
        with pytest.raises(Conflict):
            await users.create_user(rooms.wiring, OWNER, command, once=key_of() if keyed else None)
        with pytest.raises(Conflict):
            await users.create_user(rooms.wiring, OWNER, command, validate_only=True)
        with pytest.raises(Conflict):
            await self.take(rooms.wiring, name)

    @pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "without a key"])
    async def test_the_slower_of_two_takes_no_name_away(self, rooms: Rooms, other: Wiring, keyed: bool) -> None:
        """Two processes give one user the same name by different requests; it is held afterwards."""
        name = fresh("name")
        user_id = await a_user(rooms.wiring)
        whole = rooms.wiring.users.replace
        slow, claimed = other.users.replace, asyncio.Event()
        written = asyncio.Event()

        async def send(wiring: Wiring) -> None:
            target = Target(OWNER, user_id, once=key_of() if keyed else None)
            await users.update_user(wiring, target, UpdateUser(username=name))

        async def late(*given: Any) -> bool:
            claimed.set()
            await written.wait()
            return await slow(*given)

        async def early(*given: Any) -> bool:
            losers.append(asyncio.create_task(send(other)))
            losers[0].add_done_callback(lambda _: claimed.set())
            await claimed.wait()
            return await whole(*given)

        losers: list[asyncio.Task[None]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rooms.wiring.users, "replace", early)
            patch.setattr(other.users, "replace", late)
            await send(rooms.wiring)
            written.set()
            with contextlib.suppress(Aborted):
                await losers[0]
        assert (await document_of(rooms, ACTS["update user"], user_id))["username"] == name
        with pytest.raises(Conflict):
            await self.take(rooms.wiring, name)
        await users.update_user(rooms.wiring, Target(OWNER, user_id), UpdateUser(username=""))
        await self.take(rooms.wiring, name)


STEPS_OF_LIFE = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "twins", "crash early", "crash late", "flush", "sweep", "lose", "change", "code"]
        ),
        st.integers(0, 2),
        st.booleans(),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=8, deadline=None)
@given(steps=STEPS_OF_LIFE)
async def test_in_whatever_order_each_request_has_one_effect(
    rooms: Rooms, other: Wiring, steps: list[tuple[str, int, bool]]
) -> None:
    """Of two processes with crashes, twins, relays, lost records and changes of others in between."""
    user_id = await with_address(rooms.wiring)
    requests = [key_of() for _ in range(3)]
    told: dict[int, Reply] = {}
    others = 0

    async def send(wiring: Wiring, number: int) -> None:
        target = Target(OWNER, user_id, once=requests[number], request_id=f"r{number}")
        command = UpdateUser(data={"r": number}, wishes=(wish(f"r{number}@example.com"),))
        reply = of_user(await users.update_user(wiring, target, command))
        before = told.setdefault(number, reply)
        assert (reply.sequence, reply.changed_at) == (before.sequence, before.changed_at)

    for step, number, elsewhere in steps:
        wiring = other if elsewhere else rooms.wiring
        if step == "send":
            await send(wiring, number)
        elif step == "twins":
            await asyncio.gather(send(wiring, number), send(rooms.wiring, number), send(other, (number + 1) % 3))
        elif step.startswith("crash"):
            with (
                breaking(wiring.users._updates, "do", late=step == "crash late"),
                contextlib.suppress(Crash),
            ):
                await send(wiring, number)
        elif step == "flush":
            await wiring.relay.flush()
            await wiring.relay._empty(0)
        elif step == "sweep":
            await wiring.relay.sweep()
        elif step == "lose":
            await lost(rooms, requests[number])
        elif step == "code":
            with contextlib.suppress(Unmet):
                await resend(wiring, user_id, None)
        else:
            others += 1
            await users.update_user(wiring, Target(OWNER, user_id), UpdateUser(data={"other": others}))
    for number in range(3):
        await send(other, number)
        await send(rooms.wiring, number)
    stored = await document_of(rooms, ACTS["update user"], user_id)
    assert stored["sequence"] == 1 + len(requests) + others
    assert await writes_of(rooms, user_id) == stored["version"]
    assert len({each.sequence for each in told.values()}) == len(requests)


async def test_nothing_secret_is_kept_or_logged(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the key, nor the token, nor a code is to be read in a record, in a document, or in the log."""
    caplog.set_level("DEBUG", "schema_user")
    key = "a key of somebody, 4711"
    request = once("a token", key, [b"asked"], b"k")
    user_id = await with_address(rooms.wiring)
    reply = await set_address(rooms.wiring, user_id, request)
    found = [repr(await document_of(rooms, ACTS["set address"], user_id))]
    await relayed(rooms, request)
    record = await rooms.database.collection(REQUESTS).find_one({"_id": request.record_id})
    assert record is not None
    assert set(record) == {"_id", "digest", "expires_at", "answer"}
    assert set(record["answer"]) == {"sequence", "changed_at", "codes"}
    found += [repr(record), caplog.text]
    for secret in (key, "a token", "asked", reply.codes[Channel.EMAIL]):
        assert not any(secret in text for text in found)


async def test_a_record_that_goes_in_the_moment_it_is_met_leaves_the_request_undecided(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is told to come again."""
    request = key_of()
    now = rooms.wiring.now()
    await rooms.wiring.requests.begin(request, now)

    async def gone(self: RequestStore, wanted: Once, key: bytes = b"") -> None:
        return None

    monkeypatch.setattr(RequestStore, "find", gone)
    with pytest.raises(Aborted) as caught:
        await rooms.wiring.requests.begin(request, now)
    assert (caught.value.reason, caught.value.retry_after) == ("REQUEST_UNDECIDED", 1)


@pytest.mark.parametrize("driver", ["pymongo", "motor"], indirect=True)
async def test_the_first_answer_stays(database: Database) -> None:
    """An answer is stored once, whoever comes later, and so is the id of what the request makes."""
    store = RequestStore(database)
    await store.prepare()
    now = datetime.fromisoformat("2126-01-02T03:04:05+00:00")
    request = key_of()
    assert await store.begin(request, now, "made") is None
    assert (await store.begin(request, now, "another")) == await store.find(request)
    known = await store.find(request)
    assert known is not None
    assert (known.resource_id, known.answered) == ("made", None)
    await store.settle(Answered(request, 1, now), now)
    await store.settle(Answered(request, 2, now), now)
    known = await store.find(request)
    assert known is not None
    assert (known.resource_id, known.answered) == ("made", Answered(request, 1, now))


async def test_a_relay_moves_only_what_a_majority_holds(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failover may take back with its change must not stand in a record as an answer."""
    user_id = await a_user(rooms.wiring)
    request, relay = key_of(), Relay(rooms.database)
    await relay.sweep(limit=10_000)
    whole = Collection.durable
    old = await document_of(rooms, ACTS["update user"], user_id)
    with breaking(rooms.wiring.relay, "note", late=False), contextlib.suppress(Crash):
        await update(rooms.wiring, user_id, request)

    class Behind(Collection):
        async def find_one(self, where: Document, fields: Any = None) -> Document | None:
            return dict(old)

        async def find(self, where: Document, fields: Any = None, **options: Any) -> list[Document]:
            return [dict(old)]

    def durable(self: Collection) -> Collection:
        return Behind(self._raw) if self._raw.name == "users" else whole(self)

    monkeypatch.setattr(Collection, "durable", durable)
    await relay.sweep(limit=10_000)
    monkeypatch.undo()
    record = await rooms.database.collection(REQUESTS).find_one({"_id": request.record_id})
    assert record is not None
    assert "answer" not in record
    await repeated_once(rooms, ACTS["update user"], user_id, request, (2, 2))
