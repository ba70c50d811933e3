"""An operator's commands on messages: races with the worker, and what is left in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.commands.change import Target
from schema_user.commands.messages import drop_message, retry_message
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import delete_user
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import ADDRESS_CHANGED
from schema_user.errors import Aborted, Unmet
from schema_user.queries import get_message
from tests.store.post import EMAIL, SECRETS, WOKEN, Post, eventually, outbox, person, until, working

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_user.domain.caller import Caller
    from schema_user.domain.message import Message, SeenMessage
    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

    Command = Callable[[Wiring, Caller, str], Awaitable[SeenMessage]]

LEASE = timedelta(seconds=60)
MASKED = "m••••@example.com"
COMMANDS = pytest.mark.parametrize("command", [retry_message, drop_message])


async def waiting(rooms: Rooms, **changes: Any) -> tuple[User, str]:
    """Make a user and bring its message to the outbox."""
    user = await person(rooms.wiring, **changes)
    await rooms.wiring.relay.sweep()
    return user, user.messages[0].message_id


async def claimed(wiring: Wiring) -> tuple[Document, Message | None]:
    """Lease the next message."""
    found = await wiring.outbox.claim([Channel.EMAIL], wiring.now(), LEASE, "worker")
    assert found is not None
    return found


async def parked(rooms: Rooms, **changes: Any) -> tuple[User, str]:
    """Make a user whose message was parked."""
    user, message_id = await waiting(rooms, **changes)
    record, _ = await claimed(rooms.wiring)
    await rooms.wiring.outbox.park(record, rooms.wiring.now(), "no")
    return user, message_id


class TestRaces:
    @COMMANDS
    async def test_a_claim_before_the_command(self, rooms: Rooms, command: Command) -> None:
        """The message is the worker's until its lease ends; the claim loses nothing."""
        _, message_id = await waiting(rooms)
        record, _ = await claimed(rooms.wiring)
        with pytest.raises(Aborted, match="just now") as caught:
            await command(rooms.wiring, OPERATOR, message_id)
        assert caught.value.retry_after == LEASE.total_seconds()
        await rooms.wiring.outbox.settle(record, "sent", rooms.wiring.now())
        assert [each["state"] for each in await outbox(rooms)] == ["sent"]

    @COMMANDS
    async def test_a_claim_while_the_command_decides(
        self, rooms: Rooms, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The guard finds the claim, and the command looks again."""
        wiring = rooms.wiring
        _, message_id = await waiting(rooms)
        find = wiring.outbox.find
        looks = 0

        async def overtaken(wanted: str) -> SeenMessage | None:
            nonlocal looks
            looks += 1
            seen: SeenMessage | None = await find(wanted)
            if looks == 1:
                await claimed(wiring)
            return seen

        monkeypatch.setattr(wiring.outbox, "find", overtaken)
        with pytest.raises(Aborted, match="just now"):
            await command(wiring, OPERATOR, message_id)
        [record] = await outbox(rooms)
        assert (looks, record["leased_by"], record["tries"]) == (2, "worker", 1)
        assert "sealed" in record

    async def test_a_drop_before_the_claim(self, rooms: Rooms) -> None:
        """Nothing is left to claim, and what was sealed is gone."""
        _, message_id = await waiting(rooms)
        await drop_message(rooms.wiring, OPERATOR, message_id)
        assert await rooms.wiring.outbox.claim([Channel.EMAIL], rooms.wiring.now(), LEASE, "worker") is None
        [record] = await outbox(rooms)
        assert (record["state"], record["masked"], "sealed" in record) == ("dropped", MASKED, False)
        assert not any(secret in str(record) for secret in SECRETS)

    async def test_a_retry_before_the_claim(self, rooms: Rooms) -> None:
        """The message is claimed at once, its tries counted anew."""
        _, message_id = await parked(rooms)
        await retry_message(rooms.wiring, OPERATOR, message_id)
        record, message = await claimed(rooms.wiring)
        assert (record["_id"], record["tries"]) == (message_id, 1)
        assert message is not None

    @COMMANDS
    async def test_a_settled_message_is_done(
        self, rooms: Rooms, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if it was settled after it was read: it is neither sent again nor called dropped."""
        wiring = rooms.wiring
        _, message_id = await waiting(rooms)
        find = wiring.outbox.find

        async def overtaken(wanted: str) -> SeenMessage | None:
            seen: SeenMessage | None = await find(wanted)
            if seen is not None and seen.state == "pending" and not seen.leased:
                record, _ = await claimed(wiring)
                await wiring.outbox.settle(record, "sent", wiring.now(), MASKED)
            return seen

        monkeypatch.setattr(wiring.outbox, "find", overtaken)
        with pytest.raises(Unmet, match="was sent already"):
            await command(wiring, OPERATOR, message_id)
        [record] = await outbox(rooms)
        assert (record["state"], record["tries"]) == ("sent", 1)

    @COMMANDS
    async def test_the_lease_of_a_dead_worker_holds_nobody_up(self, rooms: Rooms, command: Command) -> None:
        """Once it is over; and a worker that wakes from the dead changes nothing any more."""
        wiring = rooms.wiring
        _, message_id = await waiting(rooms)
        late = await wiring.outbox.claim([Channel.EMAIL], wiring.now(), timedelta(0), "dead")
        assert late is not None
        after = await command(wiring, OPERATOR, message_id)
        await wiring.outbox.settle(late[0], "sent", wiring.now())
        [record] = await outbox(rooms)
        assert record["state"] == after.state != "sent"


class TestRetry:
    async def test_the_worker_of_the_process_is_woken(self, rooms: Rooms) -> None:
        """It does not wait for its poll, which is a minute away."""

        def moody(_: Message) -> None:
            if post.tried == 1:
                raise Undelivered("not today", permanent=True)

        post = Post(moody)
        async with working(rooms.wiring, post, WOKEN):
            user = await person(rooms.wiring)
            await rooms.wiring.relay.sweep()
            await until(rooms, "parked")
            tried = await retry_message(rooms.wiring, OPERATOR, user.messages[0].message_id)
            assert (tried.state, tried.tries, tried.last_error) == ("pending", 0, "not today")
            await eventually(lambda: post.sent)
            [record] = await until(rooms, "sent")
        assert (record["tries"], record["masked"]) == (1, MASKED)

    async def test_a_dead_code_is_dropped_instead(self, rooms: Rooms) -> None:
        """A retry brings no code to life."""
        _, message_id = await parked(rooms, code_digest=b"replaced")
        post = Post()
        await retry_message(rooms.wiring, OPERATOR, message_id)
        async with working(rooms.wiring, post):
            await until(rooms, "dropped")
        assert post.tried == 0


class TestErasure:
    async def test_nothing_tells_whom_a_deleted_user_s_messages_went_to(self, rooms: Rooms) -> None:
        """Whether they were sent, dropped, parked or waiting."""
        wiring = rooms.wiring
        user, first = await parked(rooms)
        await drop_message(wiring, OPERATOR, first)
        stored = await wiring.users.find(user.user_id)
        assert stored is not None
        for state in ("sent", "parked", "pending"):
            message = structs.replace(user.messages[0], message_id=f"{user.user_id}:{state}")
            after = structs.replace(stored, version=stored.version + 1, messages=(message,))
            assert await wiring.users.replace(stored, after)
            stored = structs.replace(after, messages=())
            await wiring.relay.sweep()
            if state != "pending":
                record, _ = await claimed(wiring)
                if state == "sent":
                    await wiring.outbox.settle(record, "sent", wiring.now(), MASKED)
                else:
                    await wiring.outbox.park(record, wiring.now(), "no")
        assert len([each for each in await outbox(rooms) if "masked" in each]) == 2
        await delete_user(wiring, Target(OPERATOR, user.user_id))
        records = await outbox(rooms)
        assert sorted(each["state"] for each in records) == ["dropped", "dropped", "dropped", "sent"]
        assert not [each for each in records if each.keys() & {"masked", "sealed"}]
        assert (await get_message(wiring, OPERATOR, first)).recipient is None

    @pytest.mark.parametrize("end", ["sent", "dropped by the worker", "dropped by hand"])
    async def test_a_message_that_comes_after_its_user_s_end_leaves_no_trace(self, rooms: Rooms, end: str) -> None:
        """Another process may relay it late; what becomes of it then tells nobody whom it was for."""
        wiring = rooms.wiring
        state = end.partition(" ")[0]
        user, message_id = await waiting(rooms, kind=ADDRESS_CHANGED if end == "sent" else "verify")
        [late] = await outbox(rooms)
        await delete_user(wiring, Target(OPERATOR, user.user_id))
        collection = rooms.database.collection("outbox")
        assert await collection.delete({"_id": message_id, "user_id": user.user_id})
        await collection.insert(late)
        if end == "dropped by hand":
            await drop_message(wiring, OPERATOR, message_id)
        else:
            async with working(wiring, Post()):
                await until(rooms, state)
        [record] = await outbox(rooms)
        assert record["state"] == state
        assert not record.keys() & {"masked", "sealed"}

    async def test_a_message_under_an_unknown_key_has_no_recipient(self, rooms: Rooms) -> None:
        """It can be found and dropped all the same."""
        _, message_id = await waiting(rooms)
        collection = rooms.database.collection("outbox")
        await collection.update({"_id": message_id}, {"$set": {"sealed": b"under a key that is not set"}})
        assert (await get_message(rooms.wiring, OPERATOR, message_id)).recipient is None
        assert (await drop_message(rooms.wiring, OPERATOR, message_id)).state == "dropped"

    async def test_the_address_is_never_told(self, rooms: Rooms) -> None:
        """What is seen of a waiting message holds its masked recipient only."""
        _, message_id = await waiting(rooms)
        seen = await get_message(rooms.wiring, OPERATOR, message_id)
        assert seen.recipient == MASKED
        assert EMAIL not in str(seen)
        assert "ACDEF3" not in str(seen)
