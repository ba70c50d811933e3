"""The delivery worker on a real database: what goes out, what does not, and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.app import relaying
from schema_user.delivery.email import SmtpTransport
from schema_user.delivery.mailbox import MailboxTransport
from schema_user.delivery.sms import SmsTransport
from schema_user.delivery.transports import make_transports
from schema_user.delivery.worker import Worker
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.message import ADDRESS_CHANGED, VERIFY
from tests.store.post import EMAIL, PHONE, QUICK, SECRETS, WOKEN, Post, eventually, outbox, person, until, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring


SMTP = "smtp://127.0.0.1:2525"
SMS = "twilio://AC1:token@127.0.0.1:2526?from=Example"


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
    assert await wiring.users.replace(before, structs.replace(after, version=before.version + 1))


@pytest.mark.parametrize(
    "after",
    [
        lambda user: structs.replace(user, locked=True),
        lambda user: structs.replace(user, active=False),
        lambda user: structs.replace(user, contact=Contact()),
        lambda user: structs.replace(
            user, contact=Contact(email=structs.replace(user.contact.email, value="other@example.com"))
        ),
        lambda user: structs.replace(user, contact=Contact(email=structs.replace(user.contact.email, codes=()))),
        lambda user: structs.replace(user, contact=Contact(email=Address(EMAIL, is_verified=True))),
    ],
    ids=["locked", "inactive", "removed", "replaced", "another code", "verified"],
)
async def test_a_dead_code_is_not_sent(rooms: Rooms, after: Callable[[User], User]) -> None:
    """What nobody could use any more is dropped and emptied."""
    user = await person(rooms.wiring)
    await rooms.wiring.relay.sweep()
    await change(rooms.wiring, user, after(structs.replace(user, messages=())))
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
    await rooms.wiring.relay.sweep()
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
    async with relaying(rooms.wiring.relay):
        await until(rooms, "pending")
    await worker.stop()
    await running


async def test_workers_share_the_work(rooms: Rooms) -> None:
    """Several at once send each message once."""
    for number in range(40):
        await person(rooms.wiring, f"user{number}@example.com")
    post = Post(lambda _: asyncio.sleep(0.01))
    async with working(rooms.wiring, post), working(rooms.wiring, post), working(rooms.wiring, post):
        await until(rooms, "sent", 40)
    assert sorted(message.recipient for message in post.sent) == sorted(f"user{n}@example.com" for n in range(40))


async def test_stop_lets_what_is_in_flight_finish(rooms: Rooms) -> None:
    """Nothing new is claimed, and what was begun is noted."""
    free = asyncio.Event()
    post = Post(lambda _: free.wait())
    await person(rooms.wiring)
    await rooms.wiring.relay.sweep()
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
    await rooms.wiring.relay.sweep()
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


@pytest.mark.parametrize(
    ("urls", "email", "phone"),
    [
        ({"mongodb_uri": None}, MailboxTransport, MailboxTransport),
        ({"mongodb_uri": None, "smtp_url": SMTP}, SmtpTransport, MailboxTransport),
        ({"mongodb_uri": None, "sms_url": SMS}, MailboxTransport, SmsTransport),
        ({}, None, None),
        ({"smtp_url": SMTP}, SmtpTransport, None),
        ({"smtp_url": SMTP, "sms_url": SMS}, SmtpTransport, SmsTransport),
    ],
    ids=["local", "local with smtp", "local with sms", "no transport", "smtp", "both"],
)
def test_transports_follow_the_settings(wiring: Wiring, urls: dict[str, Any], email: Any, phone: Any) -> None:
    """The local default writes files; elsewhere a channel is sent for real or not at all."""
    chosen = make_transports(replace(wiring, settings=replace(wiring.settings, **urls)))
    assert {channel: type(each) for channel, each in chosen.items()} == {
        channel: kind for channel, kind in ((Channel.EMAIL, email), (Channel.PHONE, phone)) if kind
    }
