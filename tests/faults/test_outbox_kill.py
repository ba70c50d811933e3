"""Kill -9 at every step of a message's way: it arrives, or it was dead; and nothing of it stays behind.

The steps are cut by a wire between the worker and a real SMTP server that stops passing on what is said, and by
processes that die with their work half done. Where time must pass, it passes in the database.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiosmtpd.smtp import SMTP
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from schema_user.app import relaying
from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish, VerifyContact, verify_contact
from schema_user.commands.users import UpdateUser, update_user
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.contact import Channel, ReturnCode, SendCode
from schema_user.domain.permission import Role
from schema_user.domain.user import User
from schema_user.rooms import wired
from tests.conftest import fresh_uri, prepared, settings_for
from tests.faults.load import GENEROUS
from tests.faults.mail_wire import Inbox, Wire, code_in, message_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from schema_user.commands.change import Decision
    from schema_user.domain.contact import Verification
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

OWNER: Final = Caller("machine", (Grant(Role.INSTANCE_OWNER),))
LONG: Final = timedelta(hours=1)
SECRET: Final = "a secret that workers and tests share"


# -- users -------------------------------------------------------------------------------------------------------------


async def person(wiring: Wiring, address: str) -> Decision:
    """Make a user and send it a code, as a request does; the message waits in the user's document."""
    now = wiring.now()
    user = User(address.partition("@")[0], "default", "human", 1, {}, now, now)
    assert await wiring.users.insert(user)
    return await put(wiring, user.user_id, address, SendCode())


async def put(wiring: Wiring, user_id: str, address: str, verification: Verification) -> Decision:
    """Give a user an address."""
    wish = AddressWish(Channel.EMAIL, address, verification, "")
    return await update_user(wiring, Target(OWNER, user_id), UpdateUser(wishes=(wish,)))


def code_of(decision: Decision) -> str:
    """Give the code that a change sends."""
    [code] = [each.code for each in decision.user.messages if each.code is not None]
    return code


# -- the mail server, and the wire to it -------------------------------------------------------------------------------


@dataclass
class Post:
    """The mail server and the wire to it."""

    inbox: Inbox
    wire: Wire


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    """Run a mail server behind a wire."""
    loop, inbox = asyncio.get_running_loop(), Inbox()
    server = await loop.create_server(lambda: SMTP(inbox, hostname="mail.test", loop=loop), "127.0.0.1", 0)
    wire = Wire(server.sockets[0].getsockname()[1])
    front = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
    wire.port = front.sockets[0].getsockname()[1]
    yield Post(inbox, wire)
    front.close()
    server.close()


# -- processes ---------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A prepared database, the mail server, and whatever processes work on them."""

    rooms: Rooms
    uri: str
    post: Post
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def wiring(self) -> Wiring:
        """What commands take."""
        return self.rooms.wiring

    def work(self) -> subprocess.Popen[bytes]:
        """Start a worker: a process of its own, as an operator would."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}
        settings = {
            "SCHEMA_USER_MONGODB_URI": self.uri,
            "SCHEMA_USER_SECRET_KEY": SECRET,
            "SCHEMA_USER_SMTP_URL": f"smtp://127.0.0.1:{self.post.wire.port}",
            "SCHEMA_USER_LOG_LEVEL": "DEBUG",
        }
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "schema_user.cli", "worker"],
                env=inherited | settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    async def outbox(self, user_id: str) -> Document:
        """Read the one message of a user."""
        found = await self.rooms.database.collection("outbox").find({"user_id": user_id})
        assert len(found) == 1
        return found[0]

    async def state(self, user_id: str) -> str:
        """Read how far the one message of a user is; nothing if it is not in the outbox."""
        found = await self.rooms.database.collection("outbox").find({"user_id": user_id})
        return str(found[0]["state"]) if found else ""

    async def reached(self, user_id: str, state: str) -> None:
        """Wait until the message of a user is in a state."""
        async with asyncio.timeout(GENEROUS):
            while await self.state(user_id) != state:
                assert self.workers[-1].poll() is None, "the worker ended by itself"
                await asyncio.sleep(0.01)

    async def released(self, user_id: str) -> None:
        """Wait until the user's document names its message no more, and the record may go in time."""
        async with asyncio.timeout(GENEROUS):
            while not (await self.outbox(user_id))["relayed"]:
                assert self.workers[-1].poll() is None, "the worker ended by itself"
                await asyncio.sleep(0.01)

    async def leases_end(self) -> None:
        """Let the time of all leases pass."""
        change = {"$set": {"next_at": self.wiring.now()}}
        await self.rooms.database.collection("outbox").update_all({"state": "pending"}, change)

    async def wait_in_users(self, for_: timedelta) -> None:
        """Say how long what waits in the users' documents has waited."""
        change = {"$set": {"pending_since": self.wiring.now() - for_}}
        await self.rooms.database.collection("users").update_all({"pending": {"$exists": True}}, change)

    async def waits(self, user_id: str) -> list[str]:
        """Name the collections to which something in a user's document waits to be moved."""
        found = await self.rooms.database.collection("users").find_one({"_id": user_id})
        assert found is not None
        return [each["to"] for each in found.get("pending", ())]

    def traces(self, *needles: str, but: str = "") -> set[str]:
        """Name the collections in whose documents, as they are stored, one of the texts stands; and the log."""
        wanted = [needle.lower().encode() for needle in needles]
        found = set()
        with MongoClient[Any](self.uri, document_class=RawBSONDocument) as client:
            database = client.get_default_database()
            for name in set(database.list_collection_names()) - {but}:
                for document in database[name].find():
                    if any(each in bytes(document.raw).lower() for each in wanted):
                        found.add(name)
        log = (self.folder / "worker.log").read_bytes().lower()
        return found | {"log" for each in wanted if each in log}


@pytest.fixture
async def world(mongod_uri: str, post: Post, tmp_path: Path) -> AsyncIterator[World]:
    """Give a database of its own; what is left of the workers in the end is killed."""
    uri = fresh_uri(mongod_uri)
    async with prepared(settings_for(uri, secret_keys=(SECRET,))) as rooms:
        made = World(rooms, uri, post, tmp_path)
        try:
            yield made
        finally:
            for process in made.workers:
                await kill(process)


async def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process as a loss of power would."""
    process.kill()
    await asyncio.to_thread(process.wait)


async def eventually(truth: Callable[[], object]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(GENEROUS):
        while True:
            if truth():
                return
            await asyncio.sleep(0.01)


def commit(uri: str, done: Event) -> None:
    """Commit two changes in a process that moves the message of the first one only, and then does no more."""

    async def work() -> None:
        async with wired(settings_for(uri, secret_keys=(SECRET,))) as rooms:
            await person(rooms.wiring, "relayed@example.com")
            await rooms.wiring.relay.flush()
            await person(rooms.wiring, "committed@example.com")
            done.set()
            await asyncio.sleep(GENEROUS)

    asyncio.run(work())


def commit_and_die(uri: str) -> None:
    """Let a process commit, and kill it when it has."""
    spawn = multiprocessing.get_context("spawn")
    done = spawn.Event()
    process = spawn.Process(target=commit, args=(uri, done))
    process.start()
    try:
        assert done.wait(GENEROUS)
    finally:
        process.kill()
        process.join()


# -- the steps ---------------------------------------------------------------------------------------------------------


async def test_between_commit_relay_claim_and_release(world: World) -> None:
    """Who commits dies before the relay or after it, who sends dies before the release: each mail comes once."""
    await asyncio.to_thread(commit_and_die, world.uri)
    assert (await world.state("relayed"), await world.state("committed")) == ("pending", "")
    assert "outbox" in await world.waits("relayed")
    assert "outbox" in await world.waits("committed")
    await world.wait_in_users(-LONG)  # nobody sweeps for now
    first = world.work()
    await world.reached("relayed", "sent")
    await kill(first)
    assert "outbox" in await world.waits("relayed")
    assert not (await world.outbox("relayed"))["relayed"]
    await world.wait_in_users(LONG)
    world.work()
    await world.reached("committed", "sent")
    for user_id in ("relayed", "committed"):
        await world.released(user_id)
    assert [await world.waits(user_id) for user_id in ("relayed", "committed")] == [[], []]
    for user_id in ("relayed", "committed"):
        [mail] = world.post.inbox.to(f"{user_id}@example.com")
        code = code_in(mail)
        assert not world.traces(code)
        assert not world.traces(f"{user_id}@example.com", but="users")
        await verify_contact(world.wiring, Target(OWNER, user_id), VerifyContact(Channel.EMAIL, code))


@pytest.mark.parametrize(
    ("cut", "copies"),
    [
        pytest.param("greeting", 1, marks=pytest.mark.soak),
        pytest.param("data", 1, marks=pytest.mark.soak),
        ("answer", 2),
    ],
)
async def test_while_it_is_sent(world: World, cut: str, copies: int) -> None:
    """After the claim, in the middle of the mail, before the outcome is noted: it comes, and if twice as the same.

    What died meanwhile is not sent again, and of both nothing is left but in the user itself.
    """
    live = await person(world.wiring, "minnie@example.com")
    dead = await person(world.wiring, "donald@example.com")
    await world.wiring.relay.flush()
    world.post.wire.cut = cut
    first = world.work()
    await eventually(lambda: world.post.wire.reached == 2)
    await kill(first)
    record = await world.outbox("minnie")
    assert (record["state"], record["tries"]) == ("pending", 1)
    assert {"sealed", "leased_by"} <= record.keys()
    await put(world.wiring, "donald", "daisy@example.com", ReturnCode())
    world.post.wire.cut = None
    await world.leases_end()
    world.work()
    await world.reached("minnie", "sent")
    await world.reached("donald", "dropped")
    mails = world.post.inbox.to("minnie@example.com")
    assert len(mails) == copies
    assert {code_in(each) for each in mails} == {code_of(live)}
    assert len({message_id(each) for each in mails}) == 1
    assert len(world.post.inbox.to("donald@example.com")) == copies - 1
    assert not (await world.outbox("minnie")).keys() & {"sealed", "leased_by"}
    assert not (await world.outbox("donald")).keys() & {"sealed", "leased_by"}
    await world.rooms.wiring.relay.sweep()
    assert not world.traces(code_of(live), code_of(dead))
    assert not world.traces("minnie@example.com", "donald@example.com", but="users")
    assert not world.traces("donald@example.com")
    await verify_contact(world.wiring, Target(OWNER, "minnie"), VerifyContact(Channel.EMAIL, code_of(live)))


@pytest.mark.soak
async def test_at_any_moment(world: World) -> None:
    """Workers die at moments of chance while messages come in: each arrives, doubles bear the same id."""
    users = [f"user{number}" for number in range(60)]

    async def come_in() -> None:
        for user_id in users:
            await person(world.wiring, f"{user_id}@example.com")
            await asyncio.sleep(0.02)

    async with relaying(world.wiring.relay):
        coming = asyncio.create_task(come_in())
        for _ in range(3):
            worker = world.work()
            await eventually(partial(world.post.inbox.more_than, len(world.post.inbox.mails)))
            await asyncio.sleep(random.uniform(0, 0.1))
            await kill(worker)
            await world.leases_end()
        await coming
        world.work()
        for user_id in users:
            await world.reached(user_id, "sent")
    for user_id in users:
        mails = world.post.inbox.to(f"{user_id}@example.com")
        assert len({message_id(each) for each in mails}) == 1
        assert len({code_in(each) for each in mails}) == 1
    assert not world.traces(*(code_in(each) for each in world.post.inbox.mails))
    assert not world.traces(*(f"{user_id}@example.com" for user_id in users), but="users")


async def test_an_address_that_never_answers_delays_nobody(world: World) -> None:
    """Neither while it hangs in a worker, nor after that worker was killed with it."""
    await person(world.wiring, "dead@example.com")
    await world.wiring.relay.flush()
    worker = world.work()
    await eventually(lambda: world.post.inbox.hanging == 1)
    for round_ in range(2):
        users = [f"user{round_}{number}" for number in range(20)]
        for user_id in users:
            await person(world.wiring, f"{user_id}@example.com")
        await world.wiring.relay.flush()
        began = time.monotonic()
        if round_ == 1:
            await kill(worker)
            world.work()
        for user_id in users:
            await world.reached(user_id, "sent")
        assert time.monotonic() - began < 15  # a second or two; the dead one's time is 25 s, its lease 60 s
    assert await world.state("dead") == "pending"
    assert not world.post.inbox.to("dead@example.com")


async def test_a_commit_elsewhere_is_sent_soon(world: World) -> None:
    """A worker in another process hears of nothing, and looks every second."""
    world.work()
    async with relaying(world.wiring.relay):
        await person(world.wiring, "first@example.com")
        await world.reached("first", "sent")  # it has started
        began = time.monotonic()
        await person(world.wiring, "second@example.com")
        await eventually(lambda: world.post.inbox.to("second@example.com"))
    assert time.monotonic() - began < 10
