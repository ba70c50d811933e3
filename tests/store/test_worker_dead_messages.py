"""Messages that wait or were parked, and that nobody can use any more: what was sealed in them goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.delivery import worker as worker_module
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Worker
from schema_user.domain.contact import Channel, Contact
from schema_user.domain.keyring import Keyring
from schema_user.domain.message import ADDRESS_CHANGED
from schema_user.store.users import UserStore
from tests.store.post import PHONE, QUICK, SECRETS, Post, outbox, person, until, working

if TYPE_CHECKING:
    from schema_user.domain.message import Message
    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

LOOKING = replace(QUICK, look=0.02)
HOUR = timedelta(hours=1)


def later(wiring: Wiring, span: timedelta) -> Wiring:
    """Give the same wiring with a clock that is ahead."""
    return replace(wiring, now=lambda: wiring.now() + span)


async def parked(rooms: Rooms, count: int = 1, **changes: Any) -> list[User]:
    """Store users whose messages were refused for good."""

    def refuse(_: Message) -> None:
        raise Undelivered("SMTPRecipientRefused 550", permanent=True)

    users = [await person(rooms.wiring, f"user{number}@example.com", **changes) for number in range(count)]
    async with working(rooms.wiring, Post(refuse)):
        await until(rooms, "parked", count)
    return users


async def looked(rooms: Rooms, span: timedelta) -> list[Document]:
    """Let a worker without transports look at what is due so much later, and give the outbox."""
    worker = Worker(later(rooms.wiring, span), {}, LOOKING)
    while await worker._bury():
        pass
    return await outbox(rooms)


def emptied(record: Document) -> bool:
    """Whether nothing of a message is left but what support may read."""
    return "sealed" not in record and not any(secret in repr(record) for secret in SECRETS)


async def test_a_parked_code_goes_with_its_time(rooms: Rooms) -> None:
    """Until then it stays as it is, for somebody to send it after all."""
    await parked(rooms)
    [record] = await looked(rooms, HOUR / 2)
    assert record["state"] == "parked"
    assert "sealed" in record
    [record] = await looked(rooms, HOUR + timedelta(minutes=1))
    assert (record["state"], record["last_error"]) == ("dropped", "SMTPRecipientRefused 550")
    assert emptied(record)
    assert "look_at" not in record


async def test_a_parked_code_that_was_replaced_goes(rooms: Rooms) -> None:
    """However long it would have been good."""
    [user] = await parked(rooms)
    before = await rooms.wiring.users.find(user.user_id)
    assert before
    after = structs.replace(before, contact=Contact(), version=before.version + 1)
    assert await rooms.wiring.users.replace(before, after)
    [record] = await looked(rooms, timedelta(minutes=6))
    assert record["state"] == "dropped"
    assert emptied(record)


async def test_what_was_looked_at_is_left_alone_for_a_while(rooms: Rooms) -> None:
    """A backlog that is alive costs a look every few minutes."""
    await parked(rooms)
    [before] = await looked(rooms, timedelta(minutes=4))
    [after] = await looked(rooms, timedelta(minutes=6))
    assert before["look_at"] < after["look_at"]
    assert await looked(rooms, timedelta(minutes=7)) == [after]


async def test_a_code_without_transport_goes_with_its_time(rooms: Rooms) -> None:
    """It is pending for ever, and its next try never comes."""
    await person(rooms.wiring, channel=Channel.PHONE, recipient=PHONE)
    await rooms.wiring.relay.sweep()
    [record] = await looked(rooms, HOUR * 2)
    assert record["state"] == "dropped"
    assert emptied(record)


async def test_a_warning_goes_after_thirty_days(rooms: Rooms) -> None:
    """That an address was changed may be worth sending for longer than a code is good."""
    await parked(rooms, kind=ADDRESS_CHANGED, expires_at=None, code=None, code_digest=None)
    [record] = await looked(rooms, timedelta(days=29))
    assert record["state"] == "parked"
    assert "sealed" in record
    [record] = await looked(rooms, timedelta(days=31))
    assert record["state"] == "dropped"
    assert emptied(record)


async def test_what_a_worker_has_in_hand_is_left_to_it(rooms: Rooms) -> None:
    """A message that is being sent just now is noted by whoever sends it; one that was left behind goes."""
    await person(rooms.wiring)
    await rooms.wiring.relay.sweep()
    in_hand = {"leased_by": "somebody", "next_at": rooms.wiring.now() + HOUR * 3}
    await rooms.database.collection("outbox").update_all({}, {"$set": in_hand})
    [record] = await looked(rooms, HOUR * 2)
    assert (record["state"], record["leased_by"]) == ("pending", "somebody")
    [record] = await looked(rooms, HOUR * 4)
    assert record["state"] == "dropped"


async def test_whoever_comes_between_wins(rooms: Rooms) -> None:
    """What was claimed or retried after the look is not dropped by it."""
    await parked(rooms)
    now = rooms.wiring.now() + HOUR * 2
    [(record, _)] = await rooms.wiring.outbox.unwatched(now, 10)
    seen = await rooms.wiring.outbox.find(record["_id"])
    assert seen
    assert await rooms.wiring.outbox.retry(seen, rooms.wiring.now())
    await rooms.wiring.outbox.bury(record, now, None)
    [after] = await outbox(rooms)
    assert after["state"] == "pending"
    assert "sealed" in after


@pytest.mark.parametrize(("span", "state"), [(HOUR / 2, "pending"), (HOUR * 2, "dropped")], ids=["good", "expired"])
async def test_a_message_that_no_key_opens_goes_with_its_time(rooms: Rooms, span: timedelta, state: str) -> None:
    """When its code expires is no secret; before that the key may come back."""
    other = Keyring(["another secret of the tests, long enough too"])
    await person(replace(rooms.wiring, users=UserStore(rooms.database, other)))
    await rooms.wiring.relay.sweep()
    [record] = await looked(rooms, span)
    assert record["state"] == state
    assert ("sealed" in record) == (state == "pending")


async def test_many_go_batch_by_batch(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with nothing to send over looks after them by itself."""
    monkeypatch.setattr(worker_module, "_LOOKED_AT", 3)
    await parked(rooms, 7)
    worker = Worker(later(rooms.wiring, HOUR * 2), {}, LOOKING)
    running = asyncio.create_task(worker.run())
    records = await until(rooms, "dropped", 7)
    await worker.stop()
    await running
    assert all(map(emptied, records))


async def test_what_was_sent_is_looked_at_no_more(rooms: Rooms) -> None:
    """Its record has left the index of those that wait."""
    await person(rooms.wiring)
    async with working(rooms.wiring, Post(), LOOKING):
        [record] = await until(rooms, "sent")
    assert "look_at" not in record


async def test_a_user_that_is_erased_takes_them_along(rooms: Rooms) -> None:
    """Nothing is left to look at."""
    [user] = await parked(rooms)
    await rooms.wiring.outbox.erase_user(user.user_id, rooms.wiring.now())
    [record] = await outbox(rooms)
    assert record["state"] == "dropped"
    assert "look_at" not in record
