"""The delivery worker when something goes wrong: at the other end, here, or in the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Rhythm, Worker
from schema_user.domain.contact import Channel
from schema_user.domain.keyring import Keyring
from schema_user.errors import Unavailable
from schema_user.store.embedded import EmbeddedMongod
from schema_user.store.outbox import OutboxStore
from schema_user.store.users import UserStore
from tests.conftest import fresh_uri, prepared, settings_for
from tests.store.post import EMAIL, QUICK, SECRETS, Post, eventually, outbox, person, until, working

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from schema_user.domain.message import Message
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document


def refusing(reason: str, *, permanent: bool = False) -> Callable[[Message], None]:
    """Refuse every message."""

    def answer(message: Message) -> None:
        raise Undelivered(reason, permanent=permanent)

    return answer


async def test_a_failure_that_may_pass_is_tried_again_soon(rooms: Rooms) -> None:
    """The first retry comes within 10 seconds; until then the message stays whole and sealed."""
    await person(rooms.wiring)
    await rooms.wiring.relay.sweep()
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


async def test_whoever_asks_for_time_is_left_alone(rooms: Rooms) -> None:
    """The next try comes when the other side wants it."""

    def answer(message: Message) -> None:
        raise Undelivered("HTTP 429", retry_after=timedelta(minutes=3))

    await person(rooms.wiring)
    post = Post(answer)
    async with working(rooms.wiring, post):
        await eventually(lambda: post.tried)
    [record] = await outbox(rooms)
    assert record["last_error"] == "HTTP 429"
    assert timedelta(minutes=2) < record["next_at"] - rooms.wiring.now() <= timedelta(minutes=3)


async def test_transports_are_closed_at_the_end(rooms: Rooms) -> None:
    """Once each, however many channels use one, and whether the worker is stopped or cut off."""
    post = Post()
    for cut in (False, True):
        worker = Worker(rooms.wiring, dict.fromkeys(Channel, post), QUICK)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        if cut:
            running.cancel()
            await asyncio.wait({running})
        else:
            await worker.stop()
            await running
        assert post.closed == 1 + cut


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


async def test_a_bug_in_the_store_does_not_end_the_worker(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a step raises, the next one comes."""
    claim, left = rooms.wiring.outbox.claim, iter(range(3))

    async def failing(*arguments: Any) -> Any:
        if next(left, None) is not None:
            raise LookupError(EMAIL)
        return await claim(*arguments)

    monkeypatch.setattr(rooms.wiring.outbox, "claim", failing)
    await person(rooms.wiring)
    async with working(rooms.wiring, Post()):
        await until(rooms, "sent")
    assert caplog.text.count("unexpected LookupError") == 3
    assert EMAIL not in caplog.text


async def test_an_outcome_that_cannot_be_noted_is_left_to_the_lease(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather twice than never: the message is sent again once its lease has run out."""
    settle = rooms.wiring.outbox.settle

    async def failing(record: Document, state: str, now: datetime, masked: str | None) -> None:
        if record["tries"] == 1:
            raise Unavailable("DATABASE_UNAVAILABLE", "no primary")
        await settle(record, state, now, masked)

    monkeypatch.setattr(rooms.wiring.outbox, "settle", failing)
    await person(rooms.wiring)
    post = Post()
    async with working(rooms.wiring, post, replace(QUICK, lease=0.3)):
        [record] = await until(rooms, "sent")
    assert (len(post.sent), record["tries"]) == (2, 2)


async def test_a_send_without_end_is_cut(rooms: Rooms) -> None:
    """A transport that forgets the time is reminded."""
    await person(rooms.wiring)
    post = Post(lambda _: asyncio.sleep(60))
    async with working(rooms.wiring, post, replace(QUICK, tries=1, send_timeout=0.05)):
        [record] = await until(rooms, "parked")
    assert record["last_error"] == "not sent in time"


async def test_a_worker_that_dies_leaves_its_message_to_another(rooms: Rooms) -> None:
    """Its lease runs out, and the message is sent by whoever is there."""
    await person(rooms.wiring)
    await rooms.wiring.relay.sweep()
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
    await rooms.wiring.relay.sweep()
    await rooms.database.collection("outbox").update_all({}, {"$set": {"tries": QUICK.tries}})
    post = Post()
    async with working(rooms.wiring, post):
        [record] = await until(rooms, "parked")
    assert not post.tried
    assert record["last_error"] == "every try was cut off"


async def test_what_was_sent_is_noted_through_an_outage(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover between sending and noting sends nothing twice."""
    settle, left = rooms.wiring.outbox.settle, iter(range(3))

    async def failing(record: Document, state: str, now: datetime, masked: str | None) -> None:
        if next(left, None) is not None:
            raise Unavailable("DATABASE_UNAVAILABLE", "no primary")
        await settle(record, state, now, masked)

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
