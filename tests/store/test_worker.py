"""The delivery worker on a real database, with a stand-in for the world outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.delivery.email import SmtpTransport
from schema_user.delivery.mailbox import MailboxTransport
from schema_user.delivery.transports import make_transports
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Rhythm, Worker
from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.keyring import Keyring
from schema_user.domain.message import ADDRESS_CHANGED, VERIFY, Message
from schema_user.domain.user import User
from schema_user.errors import Unavailable
from schema_user.store.embedded import EmbeddedMongod
from schema_user.store.outbox import OutboxStore
from schema_user.store.users import UserStore
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from schema_user.app import Rooms
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

QUICK = Rhythm(poll=0.02, first_retry=0.05, growth=1.0, longest_pause=0.05)
WOKEN = replace(QUICK, poll=60)
EMAIL = "minnie@example.com"
PHONE = "+41791234567"
SECRETS = (EMAIL, PHONE, "ACDEF3")


@dataclass
class Post:
    """A transport that remembers what it was given; ``answer`` may refuse, hang or break."""

    answer: Callable[[Message], Any] = lambda _: None
    sent: list[Message] = field(default_factory=list)
    tried: int = 0

    async def send(self, message: Message) -> None:
        """Take a message."""
        self.tried += 1
        answered = self.answer(message)
        if asyncio.iscoroutine(answered):
            await answered
        self.sent.append(message)


def refusing(reason: str, *, permanent: bool = False) -> Callable[[Message], None]:
    """Refuse every message."""

    def answer(message: Message) -> None:
        raise Undelivered(reason, permanent=permanent)

    return answer


def code_message(wiring: Wiring, user: User, channel: Channel = Channel.EMAIL, digest: bytes = b"digest") -> Message:
    """Make the message of a code."""
    address = user.contact.on(channel)
    now = wiring.now()
    return Message(
        message_id=f"{user.user_id}:{wiring.random_bits(64):x}",
        kind=VERIFY,
        channel=channel,
        user_id=user.user_id,
        organization_id="default",
        recipient=address.value if address else PHONE,
        created_at=now,
        code="ACDEF3",
        code_digest=digest,
        expires_at=now + timedelta(hours=1),
    )


async def person(wiring: Wiring, email: str = EMAIL, **changes: Any) -> User:
    """Store a user with an email address that waits to be verified, and the message with its code."""
    now = wiring.now()
    address = Address(email, codes=(Code(b"digest", now, now + timedelta(hours=1)),))
    user = User(wiring.new_id(), "default", "human", 1, {}, now, now, contact=Contact(email=address))
    user = replace(user, messages=(replace(code_message(wiring, user), **changes),))
    assert await wiring.users.insert(user)
    return user


@contextlib.asynccontextmanager
async def working(wiring: Wiring, post: Post, rhythm: Rhythm = QUICK) -> AsyncIterator[Worker]:
    """Let a worker run that sends email only."""
    worker = Worker(wiring, {Channel.EMAIL: post}, rhythm)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop()
        await running


async def outbox(rooms: Rooms) -> list[Document]:
    """Read the outbox as it is stored, the oldest first."""
    return await rooms.database.collection("outbox").find({}, sort=[("created_at", 1), ("_id", 1)])


async def until(rooms: Rooms, state: str, count: int = 1) -> list[Document]:
    """Wait until so many messages of the outbox are in a state, and give all."""
    async with asyncio.timeout(20):
        while True:
            records = await outbox(rooms)
            if sum(record["state"] == state for record in records) >= count:
                return records
            await asyncio.sleep(0.01)


async def eventually(truth: Callable[[], object]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(20):
        while True:
            if truth():
                return
            await asyncio.sleep(0.005)


async def test_a_message_goes_out_when_woken(rooms: Rooms) -> None:
    """A commit in this process is sent at once, long before the poll; its record keeps no secret."""
    post = Post()
    async with working(rooms.wiring, post, WOKEN) as worker:
        await asyncio.sleep(0.2)
        user = await person(rooms.wiring)
        worker.wake()
        await asyncio.wait_for(eventually(lambda: post.sent), 2)
        [record] = await until(rooms, "sent")
    assert post.sent == list(user.messages)
    assert "sealed" not in record
    assert "leased_by" not in record
    assert not any(secret in repr(record) for secret in SECRETS)


async def test_a_commit_elsewhere_is_found_by_the_poll(rooms: Rooms) -> None:
    """Another process wakes nobody here, and needs not."""
    post = Post()
    async with working(rooms.wiring, post):
        await person(rooms.wiring)
        await eventually(lambda: post.sent)


async def change(wiring: Wiring, user: User, after: User) -> None:
    """Store another state of a user."""
    before = await wiring.users.find(user.user_id)
    assert before
    assert await wiring.users.replace(before, replace(after, version=before.version + 1))


@pytest.mark.parametrize(
    "after",
    [
        lambda user: replace(user, locked=True),
        lambda user: replace(user, active=False),
        lambda user: replace(user, contact=Contact()),
        lambda user: replace(user, contact=Contact(email=replace(user.contact.email, value="other@example.com"))),
        lambda user: replace(user, contact=Contact(email=replace(user.contact.email, codes=()))),
        lambda user: replace(user, contact=Contact(email=Address(EMAIL, is_verified=True))),
    ],
    ids=["locked", "inactive", "removed", "replaced", "another code", "verified"],
)
async def test_a_dead_code_is_not_sent(rooms: Rooms, after: Callable[[User], User]) -> None:
    """What nobody could use any more is dropped and emptied."""
    user = await person(rooms.wiring)
    await rooms.wiring.outbox.relay()
    await change(rooms.wiring, user, after(replace(user, messages=())))
    post = Post()
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "dropped")
    assert not post.tried
    assert "sealed" not in record


async def test_an_expired_code_is_not_sent(rooms: Rooms) -> None:
    """After a long outage nobody gets a code that is worth nothing."""
    await person(rooms.wiring, expires_at=rooms.wiring.now())
    post = Post()
    async with working(rooms.wiring, post):
        await until(rooms, "dropped")
    assert not post.tried


@pytest.mark.parametrize("kind", [VERIFY, ADDRESS_CHANGED])
async def test_of_a_user_that_is_gone_only_the_warning_is_sent(rooms: Rooms, kind: str) -> None:
    """Whoever took over an account can't silence the warning by deleting it; the code is dropped."""
    user = await person(rooms.wiring, kind=kind)
    await rooms.wiring.outbox.relay()
    await rooms.database.collection("users").delete({"_id": user.user_id})
    post = Post()
    async with working(rooms.wiring, post):
        await until(rooms, "sent" if kind == ADDRESS_CHANGED else "dropped")
    assert post.tried == (kind == ADDRESS_CHANGED)


async def test_a_slow_address_delays_no_other(rooms: Rooms) -> None:
    """While some hang, the others go out."""
    free = asyncio.Event()
    post = Post(lambda message: free.wait() if message.recipient.startswith("slow") else None)
    for number in range(QUICK.at_once - 1):
        await person(rooms.wiring, f"slow{number}@example.com")
    async with working(rooms.wiring, post):
        await eventually(lambda: post.tried == QUICK.at_once - 1)
        for number in range(3):
            await person(rooms.wiring, f"quick{number}@example.com")
        await eventually(lambda: len(post.sent) == 3)
        free.set()
        await until(rooms, "sent", QUICK.at_once + 2)


async def test_a_failure_that_may_pass_is_tried_again_soon(rooms: Rooms) -> None:
    """The first retry comes within 10 seconds; until then the message stays whole and sealed."""
    await person(rooms.wiring)
    post = Post(refusing("SMTPConnectError"))
    worker = Worker(rooms.wiring, {Channel.EMAIL: post}, Rhythm(poll=0.02))
    running = asyncio.create_task(worker.run())
    await eventually(lambda: post.tried)
    await worker.stop()
    await running
    [record] = await outbox(rooms)
    assert (record["state"], record["tries"], record["last_error"]) == ("pending", 1, "SMTPConnectError")
    assert "sealed" in record
    assert "leased_by" not in record
    assert timedelta(0) < record["next_at"] - rooms.wiring.now() < timedelta(seconds=8)


async def test_a_retry_that_succeeds_ends_it(rooms: Rooms) -> None:
    """Two refusals, then it goes out, once."""
    answers = iter([Undelivered("a"), Undelivered("b"), None])

    def answer(message: Message) -> None:
        if (fault := next(answers)) is not None:
            raise fault

    await person(rooms.wiring)
    post = Post(answer)
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "sent")
    assert (post.tried, len(post.sent), record["tries"]) == (3, 1, 3)
    assert "last_error" not in record


async def test_retries_end_and_the_message_is_parked(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    """After the last try it waits for a person, who finds why in the log."""
    await person(rooms.wiring)
    post = Post(refusing("SMTPConnectError"))
    async with working(rooms.wiring, post, replace(QUICK, tries=3)):
        [record] = await until(rooms, "parked")
    assert (post.tried, record["last_error"]) == (3, "SMTPConnectError")
    assert f"message {record['_id']} parked after 3 tries: SMTPConnectError" in caplog.text
    assert not any(secret in caplog.text for secret in SECRETS)


async def test_what_is_refused_for_good_is_parked_at_once(rooms: Rooms) -> None:
    """No second try for an address that does not exist, and no delay for the next one."""
    post = Post(refusing("SMTPRecipientRefused 550", permanent=True))
    await person(rooms.wiring)
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "parked")
    assert (post.tried, record["tries"]) == (1, 1)


async def test_a_bug_stops_nothing_and_tells_no_secret(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged by its type and place, and only its own message waits."""

    def answer(message: Message) -> None:
        if message.recipient == EMAIL:
            raise LookupError(f"{message.recipient} {message.code}")

    await person(rooms.wiring)
    await person(rooms.wiring, "other@example.com")
    post = Post(answer)
    async with working(rooms.wiring, post, replace(QUICK, tries=2)):
        records = await until(rooms, "parked")
    assert [message.recipient for message in post.sent] == ["other@example.com"]
    assert [record["last_error"] for record in records if record["state"] == "parked"] == ["LookupError"]
    assert "unexpected LookupError" in caplog.text
    assert not any(secret in caplog.text for secret in SECRETS)


async def test_a_send_without_end_is_cut(rooms: Rooms) -> None:
    """A transport that forgets the time is reminded."""
    await person(rooms.wiring)
    post = Post(lambda _: asyncio.sleep(60))
    async with working(rooms.wiring, post, replace(QUICK, tries=1, send_timeout=0.05)):
        [record] = await until(rooms, "parked")
    assert record["last_error"] == "not sent in time"


async def test_a_channel_without_transport_waits_sealed(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is claimed for it, and the log says so once."""
    user = await person(rooms.wiring, channel=Channel.PHONE, recipient=PHONE)
    post = Post()
    async with working(rooms.wiring, post):
        await person(rooms.wiring, "other@example.com")
        await until(rooms, "sent")
    [waiting] = [record for record in await outbox(rooms) if record["user_id"] == user.user_id]
    assert (waiting["state"], waiting["tries"]) == ("pending", 0)
    assert not any(secret in repr(waiting) for secret in SECRETS)
    assert caplog.text.count("no transport for phone") == 1


async def test_without_any_transport_messages_leave_the_users(rooms: Rooms) -> None:
    """The user's document must not fill up while an operator has not set up mail yet."""
    await person(rooms.wiring)
    worker = Worker(rooms.wiring, {}, QUICK)
    running = asyncio.create_task(worker.run())
    await until(rooms, "pending")
    await worker.stop()
    await running


async def test_a_worker_that_dies_leaves_its_message_to_another(rooms: Rooms) -> None:
    """Its lease runs out, and the message is sent by whoever is there."""
    await person(rooms.wiring)
    hanging = Post(lambda _: asyncio.sleep(60))
    dying = asyncio.create_task(Worker(rooms.wiring, {Channel.EMAIL: hanging}, replace(QUICK, lease=0.5)).run())
    await eventually(lambda: hanging.tried)
    dying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dying
    post = Post()
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "sent")
    assert (len(post.sent), record["tries"]) == (1, 2)


async def test_a_message_that_ends_every_worker_is_parked_unsent(rooms: Rooms) -> None:
    """Tries are counted when they begin, so that one that never comes back counts too."""
    await person(rooms.wiring)
    await rooms.wiring.outbox.relay()
    await rooms.database.collection("outbox").update_all({}, {"$set": {"tries": QUICK.tries}})
    post = Post()
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "parked")
    assert not post.tried
    assert record["last_error"] == "every try was cut off"


async def test_workers_share_the_work(rooms: Rooms) -> None:
    """Several at once send each message once."""
    for number in range(40):
        await person(rooms.wiring, f"user{number}@example.com")
    post = Post(lambda _: asyncio.sleep(0.01))
    async with working(rooms.wiring, post), working(rooms.wiring, post), working(rooms.wiring, post):
        await until(rooms, "sent", 40)
    assert sorted(message.recipient for message in post.sent) == sorted(f"user{n}@example.com" for n in range(40))


async def test_what_was_sent_is_noted_through_an_outage(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover between sending and noting sends nothing twice."""
    settle, left = rooms.wiring.outbox.settle, iter(range(3))

    async def failing(record: Document, state: str, now: datetime) -> None:
        if next(left, None) is not None:
            raise Unavailable("DATABASE_UNAVAILABLE", "no primary")
        await settle(record, state, now)

    monkeypatch.setattr(rooms.wiring.outbox, "settle", failing)
    await person(rooms.wiring)
    post = Post()
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "sent")
    assert (post.tried, record["tries"]) == (1, 1)


async def test_a_key_that_is_missing_may_come_back(rooms: Rooms) -> None:
    """A message sealed under another secret is kept and tried again: the key may be set meanwhile."""
    other = Keyring(["another secret of the tests, long enough too"])
    await person(replace(rooms.wiring, users=UserStore(rooms.database, other)))
    post = Post()
    async with working(rooms.wiring, post, replace(QUICK, tries=2)):
        [record] = await until(rooms, "parked")
    assert record["last_error"] == "sealed under a key that is not set"
    assert "sealed" in record
    assert not post.tried
    again = {"state": "pending", "tries": 0, "next_at": rooms.wiring.now()}
    await rooms.database.collection("outbox").update_all({}, {"$set": again})
    async with working(replace(rooms.wiring, outbox=OutboxStore(rooms.database, other)), post):
        await until(rooms, "sent")


async def test_stop_lets_what_is_in_flight_finish(rooms: Rooms) -> None:
    """Nothing new is claimed, and what was begun is noted."""
    free = asyncio.Event()
    post = Post(lambda _: free.wait())
    await person(rooms.wiring)
    worker = Worker(rooms.wiring, {Channel.EMAIL: post}, QUICK)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: post.tried)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.1)
    await person(rooms.wiring, "late@example.com")
    assert not stopping.done()
    free.set()
    await stopping
    await running
    [record] = await outbox(rooms)
    assert (record["state"], post.tried) == ("sent", 1)


async def test_stop_waits_no_longer_than_told(rooms: Rooms) -> None:
    """What does not finish is left to its lease; stopping twice, or before the start, is no error."""
    post = Post(lambda _: asyncio.sleep(60))
    await person(rooms.wiring)
    worker = Worker(rooms.wiring, {Channel.EMAIL: post}, QUICK)
    await worker.stop()
    await asyncio.wait_for(worker.run(), 5)
    worker = Worker(rooms.wiring, {Channel.EMAIL: post}, QUICK)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: post.tried)
    await asyncio.wait_for(worker.stop(grace=0.1), 5)
    await worker.stop()
    await running
    [record] = await outbox(rooms)
    assert (record["state"], record["tries"]) == ("pending", 1)
    assert "sealed" in record


async def test_a_database_that_goes_away_and_comes_back(short_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After kill -9 of MongoDB the worker says so once, waits, and goes on by itself."""
    mongod = EmbeddedMongod(short_dir / "worker", cache_gb=0.25)
    settings = settings_for(fresh_uri(mongod.start()), mongodb_timeout=timedelta(seconds=1))
    post = Post()
    try:
        async with prepared(settings) as rooms, working(rooms.wiring, post):
            await person(rooms.wiring)
            await eventually(lambda: post.sent)
            assert mongod.pid is not None
            with caplog.at_level(logging.WARNING, "schema_user.delivery"):
                os.kill(mongod.pid, signal.SIGKILL)
                await eventually(lambda: "delivery waits for the database" in caplog.text)
                await eventually(lambda: "the database is back" in caplog.text)
            assert caplog.text.count("delivery waits for the database") == 1
            await person(rooms.wiring, "other@example.com")
            await eventually(lambda: len(post.sent) == 2)
    finally:
        await asyncio.to_thread(mongod.stop)


def test_eight_tries_take_about_a_day() -> None:
    """The first retry comes within 10 seconds whatever chance says, and the last about a day after the first try."""
    waits = [[Rhythm().retry_after(tries).total_seconds() for tries in range(1, Rhythm().tries)] for _ in range(200)]
    assert all(0 < each[0] <= 8 for each in waits)
    assert all(20 * 3600 < sum(each) < 36 * 3600 for each in waits)
    assert len({each[0] for each in waits}) > 100


def test_a_lease_outlasts_the_send() -> None:
    """No message is claimed by another while it is still being sent, and its outcome has time to be noted."""
    assert Rhythm().lease > Rhythm().send_timeout + 2 * 5


@pytest.mark.parametrize(
    ("local", "smtp", "email", "phone"),
    [
        (True, None, MailboxTransport, MailboxTransport),
        (True, "smtp://127.0.0.1:2525", SmtpTransport, MailboxTransport),
        (False, None, None, None),
        (False, "smtp://127.0.0.1:2525", SmtpTransport, None),
    ],
    ids=["local", "local with smtp", "no transport", "smtp"],
)
def test_transports_follow_the_settings(wiring: Wiring, local: bool, smtp: str | None, email: Any, phone: Any) -> None:
    """The local default writes files; elsewhere a channel is sent for real or not at all."""
    uri = None if local else "mongodb://db.example.com"
    chosen = make_transports(replace(wiring, settings=replace(wiring.settings, mongodb_uri=uri, smtp_url=smtp)))
    assert {channel: type(each) for channel, each in chosen.items()} == {
        channel: kind for channel, kind in ((Channel.EMAIL, email), (Channel.PHONE, phone)) if kind
    }
