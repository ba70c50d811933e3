"""What webhooks are told, on a real database: written with the change, kept through crashes, sent by a worker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from schema_user.app import relaying
from schema_user.commands import webhooks as commands
from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.commands.events import user_deliveries
from schema_user.commands.imports import ImportUsers, Line, begin_import, import_users
from schema_user.commands.messages import drop_message, retry_message
from schema_user.commands.schemas import (
    CreateSchema,
    SchemaTarget,
    UpdateSchema,
    create_schema,
    delete_schema,
    update_schema,
)
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, delete_user, update_user
from schema_user.commands.webhooks import CreateWebhook, UpdateWebhook, create_webhook, delete_webhook, update_webhook
from schema_user.delivery import webhook as delivery_module
from schema_user.delivery.webhook import RHYTHM, WebhookWorker
from schema_user.delivery.worker import Worker
from schema_user.domain.contact import Channel, IsVerified
from schema_user.domain.keyring import Keyring
from schema_user.domain.user import advanced
from schema_user.domain.webhook import MOST_WEBHOOKS, EventType, Secret, Webhook
from schema_user.errors import Unmet
from schema_user.queries import get_message
from schema_user.store.relay import Relay
from schema_user.store.users import MAX_PENDING, UserStore
from schema_user.store.webhooks import WebhookStore
from tests.conftest import emptied, fresh_uri, prepared, settings_for
from tests.webhook_receiver import HANGS, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from schema_user.delivery.worker import Rhythm
    from schema_user.domain.caller import Caller
    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from schema_user.validation.pool import Pool
    from schema_user.wiring import Wiring
    from tests.conftest import KeptDatabase

ALL = tuple(EventType)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = replace(RHYTHM, poll=0.02, first_retry=0.05, growth=1.0, longest_pause=0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a receiver that takes everything."""
    with receiving() as running:
        yield running


@pytest.fixture
async def rooms(kept_database: KeptDatabase, shared_pool: Pool) -> AsyncIterator[Rooms]:
    """Give everything wired up, where receivers may be on this machine."""
    async with emptied(kept_database, shared_pool, allow_private_addresses=True) as made:
        yield made


async def subscribed(wiring: Wiring, url: str, *types: EventType, owner: str | None = "default") -> Webhook:
    """Make a webhook of an organization."""
    made = await create_webhook(wiring, OPERATOR, CreateWebhook(url, types or ALL, owner))
    return made.webhook


async def schema_of(wiring: Wiring, owner: str | None = "default") -> str:
    """Make a schema that takes everything."""
    command = CreateSchema(f"any {wiring.random_bits(32)}", {}, owner)
    return (await create_schema(wiring, OPERATOR, command)).schema.schema_id


async def person(wiring: Wiring, schema_id: str, **data: Any) -> User:
    """Make a user."""
    return (await create_user(wiring, OPERATOR, CreateUser(schema_id, data, "default"))).user


async def outbox(rooms: Rooms) -> list[Document]:
    """Read the outbox as it is stored."""
    return await rooms.database.collection("outbox").find({}, sort=[("created_at", 1)])


async def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def working(wiring: Wiring, rhythm: Rhythm = QUICK) -> AsyncIterator[WebhookWorker]:
    """Let a worker run, and the relays that wake it."""
    worker = WebhookWorker(wiring, rhythm)
    wiring.relay.wakes(worker.wake)
    wiring.schema_relay.wakes(worker.wake)
    running = asyncio.create_task(worker.run())
    async with relaying(wiring.relay), relaying(wiring.schema_relay):
        try:
            yield worker
        finally:
            await worker.stop()
            await running


class TestBirth:
    async def test_imported_users_are_told_of_at_once(self, rooms: Rooms) -> None:
        """What is told of them is in the outbox with them, and the worker hears of it; nothing waits in the users."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        await subscribed(wiring, "https://a.example.invalid/")
        woken: list[None] = []
        wiring.relay.wakes(lambda: woken.append(None))

        async def caller() -> Caller:
            return OPERATOR

        async def given() -> AsyncIterator[list[Line]]:
            yield [Line(number, CreateUser(schema_id, {}, "default", f"u{number}")) for number in (1, 2)]

        command = ImportUsers(await begin_import(wiring, None))
        outcomes = [each async for some in import_users(wiring, command, caller, given()) for each in some]
        assert [each.error for each in outcomes] == [None, None]
        told = [(each["user_id"], *each["types"], each["relayed"]) for each in await outbox(rooms)]
        assert sorted(told) == [("u1", EventType.USER_CREATED, True), ("u2", EventType.USER_CREATED, True)]
        assert woken
        assert await rooms.database.collection("users").count({"pending": {"$exists": True}}) == 0

    async def test_what_is_told_is_written_with_the_change(self, rooms: Rooms) -> None:
        """It waits in the user's document, one record for each webhook; a sweep brings it to the outbox."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        made = {(await subscribed(wiring, f"https://{n}.example.invalid/")).webhook_id for n in "abc"}
        await subscribed(wiring, "https://d.example.invalid/", EventType.USER_DELETED)
        user = await person(wiring, schema_id)
        [document] = await rooms.database.collection("users").find({"_id": user.user_id})
        waiting = [each["record"] for each in document["pending"] if each["to"] == "outbox"]
        assert {each["webhook_id"] for each in waiting} == made
        await wiring.relay.sweep()
        assert {each["_id"] for each in await outbox(rooms)} == {each["_id"] for each in waiting}
        [document] = await rooms.database.collection("users").find({"_id": user.user_id})
        assert "pending" not in document

    async def test_a_write_that_loses_its_race_tells_nothing(self, rooms: Rooms) -> None:
        """Many writers at once: one event for each sequence, as of users so of schemas."""
        wiring = rooms.wiring
        await subscribed(wiring, "https://a.example.invalid/", EventType.USER_UPDATED, EventType.SCHEMA_UPDATED)
        schema_id = await schema_of(wiring)
        user = await person(wiring, schema_id)

        async def turn(number: int) -> None:
            before = await wiring.users.find(user.user_id)
            assert before is not None
            after = advanced(before, structs.replace(before, data={"n": number}), wiring.now())
            assert after is not None
            told = await user_deliveries(wiring, before, after, "r")
            await wiring.users.replace(before, after, deliveries=told)

        async def revise(number: int) -> None:
            with contextlib.suppress(Exception):
                target = SchemaTarget(OPERATOR, schema_id)
                await update_schema(wiring, target, UpdateSchema(document={"title": str(number)}))

        await asyncio.gather(*map(turn, range(20)), *map(revise, range(6)))
        await wiring.relay.sweep()
        await wiring.schema_relay.sweep()
        [user_document] = await rooms.database.collection("users").find({"_id": user.user_id})
        [head] = await rooms.database.collection("schemas").find({"_id": schema_id})
        told = [each["told"] for each in await outbox(rooms)]
        sequences = sorted(each["sequence"] for each in told if "user_id" in each)
        assert sequences == list(range(2, user_document["sequence"] + 1))
        revised = sorted(each["sequence"] for each in told if "schema_id" in each)
        assert revised == list(range(2, head["sequence"] + 1))

    async def test_a_deletion_keeps_what_is_told(self, rooms: Rooms) -> None:
        """Messages to the person are erased, what waits for webhooks is not, and the deletion comes to it.

        Whether it was relayed before, or lies in the document still, because the process that wrote it died.
        """
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        webhook = await subscribed(wiring, "https://a.example.invalid/")
        user = await person(wiring, schema_id)
        dead = replace(wiring, users=UserStore(rooms.database, wiring.keyring, Relay(rooms.database)))
        await update_user(dead, Target(OPERATOR, user.user_id), UpdateUser(data={"n": 1}))
        await delete_user(wiring, Target(OPERATOR, user.user_id))
        await wiring.relay.sweep()
        records = await outbox(rooms)
        assert sorted(kind for each in records for kind in each["types"]) == [
            "user.created",
            "user.deleted",
            "user.updated",
        ]
        assert {(each["state"], each["masked"], each["webhook_id"]) for each in records} == {
            ("pending", "a.example.invalid", webhook.webhook_id)
        }

    async def test_a_schema_carries_what_is_told_of_it(self, rooms: Rooms) -> None:
        """In its head, from the same write, until it is relayed; also once it is deleted. Its head does not grow."""
        wiring = rooms.wiring
        await subscribed(wiring, "https://a.example.invalid/")
        schema_id = await schema_of(wiring)
        heads = rooms.database.collection("schemas")
        [head] = await heads.find({"_id": schema_id})
        assert [each["record"]["types"] for each in head["pending"]] == [["schema.created"]]
        for number in range(3):
            target = SchemaTarget(OPERATOR, schema_id, request_id="r")
            await update_schema(wiring, target, UpdateSchema(document={"title": str(number)}))
            [head] = await heads.find({"_id": schema_id})
            assert len(head["pending"]) == 1
        await delete_schema(wiring, SchemaTarget(OPERATOR, schema_id))
        await wiring.schema_relay.sweep()
        [head] = await heads.find({"_id": schema_id})
        assert not {"pending", "pending_since"} & head.keys()
        records = await outbox(rooms)
        assert [each["types"] for each in records] == [
            ["schema.created"],
            *[["schema.updated"]] * 3,
            ["schema.deleted"],
        ]
        assert [each["told"]["sequence"] for each in records] == [1, 2, 3, 4, 5]
        seen = await get_message(wiring, OPERATOR, records[0]["_id"])
        assert (seen.user_id, seen.organization_id, seen.kind) == (None, "default", "webhook")

    async def test_many_webhooks_do_not_burst_a_document(self, rooms: Rooms) -> None:
        """What waits is moved before it is too much, and everything arrives."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        for number in range(MOST_WEBHOOKS):
            await subscribed(wiring, f"https://{number}.example.invalid/", EventType.USER_UPDATED)
        user = await person(wiring, schema_id)
        users = rooms.database.collection("users")
        for number in range(5):
            await update_user(wiring, Target(OPERATOR, user.user_id), UpdateUser(data={"n": number}))
            [document] = await users.find({"_id": user.user_id})
            assert len(document["pending"]) <= MAX_PENDING
        await wiring.relay.sweep()
        assert len(await outbox(rooms)) == 5 * MOST_WEBHOOKS

    async def test_nobody_asks_twice(self, rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
        """An organization without webhooks costs one look in two seconds; a new one counts at once in this process."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        now, asked = [0.0], []
        store = WebhookStore(rooms.database, wiring.keyring, lambda: now[0])
        listening = store._listening

        async def counted(owner: str | None, known: Any) -> Any:
            asked.append(owner)
            return await listening(owner, known)

        monkeypatch.setattr(store._known, "_fetch", counted)
        wiring = replace(wiring, webhooks=store)
        user = await person(wiring, schema_id)
        for number in range(5):
            await update_user(wiring, Target(OPERATOR, user.user_id), UpdateUser(data={"n": number}))
        assert sorted(asked, key=str) == [None, "default"]
        now[0] = 2.1
        await update_user(wiring, Target(OPERATOR, user.user_id), UpdateUser(data={"n": "later"}))
        assert len(asked) == 4
        await subscribed(wiring, "https://a.example.invalid/")
        await update_user(wiring, Target(OPERATOR, user.user_id), UpdateUser(data={"n": "now"}))
        await wiring.relay.sweep()
        assert [each["told"]["sequence"] for each in await outbox(rooms)] == [8]


class TestSending:
    async def test_a_receiver_that_hangs_delays_no_other(
        self, rooms: Rooms, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It keeps two slots; with a few of them free, others hear at once, and it hears everything in the end."""
        monkeypatch.setattr(delivery_module, "TIMEOUT", 1.0)
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        hanging = True
        receiver.answer = lambda told: HANGS if hanging and told.path == "/slow" else 200
        await subscribed(wiring, receiver.url("/slow"), EventType.USER_CREATED)
        for _ in range(12):
            await person(wiring, schema_id)
        async with working(wiring, replace(QUICK, at_once=4)):
            await eventually(lambda: receiver.events("/slow"))
            await subscribed(wiring, receiver.url("/quick"), EventType.USER_UPDATED)
            for user_id in {each["told"]["user_id"] for each in await outbox(rooms)}:
                await update_user(wiring, Target(OPERATOR, user_id), UpdateUser(data={"n": 1}))
            began = asyncio.get_running_loop().time()
            await eventually(lambda: len(receiver.events("/quick")) == 12)
            assert asyncio.get_running_loop().time() - began < 10
            assert len(receiver.events("/slow")) < 12
            hanging = False
            receiver.released.set()
            await eventually(lambda: len({each["userId"] for each in receiver.events("/slow")}) == 12, 60)

    async def test_what_always_fails_is_parked_and_can_be_told_later(self, rooms: Rooms, receiver: Receiver) -> None:
        """After 8 tries; a retry begins anew, and so does one of what was told."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        receiver.answer = lambda _: 500
        await subscribed(wiring, receiver.url(), EventType.USER_CREATED)
        await person(wiring, schema_id)
        quick = replace(QUICK, poll=0.001)
        async with working(wiring, quick):

            async def ended(state: str) -> Document | None:
                records = await outbox(rooms)
                return records[0] if records and records[0]["state"] == state else None

            record = await eventually(lambda: ended("parked"))
            assert (record["tries"], record["last_error"], len(receiver.told)) == (8, "HTTP 500", 8)
            receiver.answer = lambda _: 200
            await retry_message(wiring, OPERATOR, record["_id"])
            record = await eventually(lambda: ended("sent"))
            assert record["forget_at"] == record["done_at"] + timedelta(days=7)
            await retry_message(wiring, OPERATOR, record["_id"])
            await eventually(lambda: len(receiver.told) == 10)
            await eventually(lambda: ended("sent"))
        assert len({each.headers["webhook-id"] for each in receiver.told}) == 1
        with pytest.raises(Unmet, match="sent already"):
            await drop_message(wiring, OPERATOR, record["_id"])

    async def test_the_events_of_one_change_go_together(self, rooms: Rooms, receiver: Receiver) -> None:
        """Each under an id of its own; if one fails, all come again under the same ones."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        made = await create_webhook(wiring, OPERATOR, CreateWebhook(receiver.url(), ALL, "default"))
        failed: list[str] = []

        def once(told: Any) -> int:
            if told.event["type"] == "user.email.verified" and not failed:
                failed.append(told.event["id"])
                return 500
            return 200

        receiver.answer = once
        wish = AddressWish(Channel.EMAIL, "minnie@example.com", IsVerified(), "contact/email")
        user = await person(wiring, schema_id)
        async with working(wiring):
            await eventually(receiver.events)
            await update_user(wiring, Target(OPERATOR, user.user_id), UpdateUser(data={"n": 1}, wishes=(wish,)))
            await eventually(lambda: len(receiver.told) == 7)
        ids = [each["id"] for each in receiver.events() if each["sequence"] == "2"]
        assert sorted(ids[:3]) == sorted(ids[3:])
        assert {each.rpartition(".")[2] for each in ids} == {"1", "2", "3"}
        assert all(each.signed_by(made.secret or "") for each in receiver.told)

    async def test_a_name_that_turns_to_a_private_address_gets_nothing(
        self, mongod_uri: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each delivery looks again, and what it finds is parked."""
        async with prepared(settings_for(fresh_uri(mongod_uri), allow_private_addresses=False)) as rooms:
            wiring = rooms.wiring
            schema_id = await schema_of(wiring)
            real, address = socket.getaddrinfo, ["192.0.43.8"]

            def resolve(host: Any, *rest: Any, **more: Any) -> Any:
                return real(address[0] if host == "rebinding.example.com" else host, *rest, **more)

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            await subscribed(wiring, f"https://rebinding.example.com:{receiver.port}/", EventType.USER_CREATED)
            address[0] = "127.0.0.1"
            await person(wiring, schema_id)

            async def parked() -> bool:
                return [each["state"] for each in await outbox(rooms)] == ["parked"]

            async with working(wiring):
                await eventually(parked)
            [record] = await outbox(rooms)
            assert record["last_error"] == "the host has an address that is not public"
            assert (record["tries"], receiver.told) == (1, [])

    async def test_what_waits_for_a_deleted_webhook_is_dropped(self, rooms: Rooms, receiver: Receiver) -> None:
        """Also what another process, which still knows the webhook, writes a moment later."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        webhook = await subscribed(wiring, receiver.url(), EventType.USER_CREATED)
        other = WebhookStore(rooms.database, wiring.keyring)
        assert len(await other.hearing("default")) == 1
        await person(wiring, schema_id)
        await wiring.relay.sweep()
        await delete_webhook(wiring, OPERATOR, webhook.webhook_id)
        assert [each["state"] for each in await outbox(rooms)] == ["dropped"]
        await person(replace(wiring, webhooks=other), schema_id)

        async def dropped() -> bool:
            return [each["state"] for each in await outbox(rooms)] == ["dropped", "dropped"]

        async with working(wiring):
            await eventually(dropped)
        assert receiver.told == []

    async def test_a_worker_that_is_killed_leaves_what_it_had(self, rooms: Rooms, receiver: Receiver) -> None:
        """Its lease ends, and another one tells it."""
        wiring = rooms.wiring
        schema_id = await schema_of(wiring)
        await subscribed(wiring, receiver.url(), EventType.USER_CREATED)
        await person(wiring, schema_id)
        await wiring.relay.sweep()
        claimed = await wiring.outbox.claim(["webhook"], wiring.now(), timedelta(seconds=0.3), "killed")
        assert claimed is not None
        async with working(wiring):
            await eventually(lambda: receiver.told)


class TestKeeping:
    async def test_secrets_are_sealed(self, rooms: Rooms) -> None:
        """The database alone does not sign; without the key that sealed them, what is told waits."""
        wiring = rooms.wiring
        made = await create_webhook(wiring, OPERATOR, CreateWebhook("https://a.example.invalid/", ALL, "default"))
        held = await wiring.webhooks.with_secrets(made.webhook.webhook_id)
        assert held is not None
        assert made.secret == commands.shown(held.secrets[0].key)
        [document] = await rooms.database.collection("webhooks").find({})
        assert held.secrets[0].key not in document["secrets"][0]["sealed"]
        assert str(held.secrets[0].key) not in repr(held)
        foreign = Keyring(["another secret that is long enough for it"])
        other = replace(wiring, webhooks=WebhookStore(rooms.database, foreign))
        schema_id = await schema_of(wiring)
        await person(wiring, schema_id)

        async def failed() -> bool:
            return [each.get("last_error") for each in await outbox(rooms)][-1:] == [
                "sealed under a key that is not set"
            ]

        async with working(other):
            await eventually(failed)
        renewed = await update_webhook(other, OPERATOR, made.webhook.webhook_id, UpdateWebhook(rotate_secret=True))
        assert renewed.secret != made.secret

    async def test_a_key_can_be_taken_away_after_a_start_with_the_next(self, rooms: Rooms) -> None:
        """What the old key sealed is sealed anew; of a key that was never set nothing is lost."""
        wiring = rooms.wiring
        made = await create_webhook(wiring, OPERATOR, CreateWebhook("https://a.example.invalid/", ALL, "default"))
        old, new = wiring.settings.secret_keys[0], "another secret that is long enough for it"
        await WebhookStore(rooms.database, Keyring([new])).prepare()
        await WebhookStore(rooms.database, Keyring([new, old])).prepare()
        held = await WebhookStore(rooms.database, Keyring([new])).with_secrets(made.webhook.webhook_id)
        assert held is not None
        assert commands.shown(held.secrets[0].key) == made.secret

    def test_a_replaced_secret_ends(self) -> None:
        """It signs until its time is over."""
        keys = (Secret(b"new"), Secret(b"old", NOW + timedelta(hours=24)))
        webhook = Webhook("w", "o", "https://example.com/", ALL, keys, NOW, NOW)
        assert webhook.keys(NOW + timedelta(hours=23)) == [b"new", b"old"]
        assert webhook.keys(NOW + timedelta(hours=24)) == [b"new"]

    async def test_what_was_parked_for_long_is_dropped(self, rooms: Rooms) -> None:
        """After 30 days nobody will tell it any more; the worker that writes to people clears it away."""
        wiring = rooms.wiring
        await subscribed(wiring, "https://a.example.invalid/", EventType.SCHEMA_CREATED)
        await schema_of(wiring)
        await wiring.schema_relay.sweep()
        claimed = await wiring.outbox.claim(["webhook"], wiring.now(), timedelta(minutes=1), "worker")
        assert claimed is not None
        await wiring.outbox.park(claimed[0], wiring.now() - timedelta(days=31), "no")
        worker = Worker(wiring, {})
        assert not await worker._bury()
        [record] = await outbox(rooms)
        assert (record["state"], record["masked"]) == ("dropped", "a.example.invalid")
        assert record["forget_at"] > wiring.now()

    async def test_no_race_makes_too_many(self, rooms: Rooms) -> None:
        """However many are made at once."""
        made = await asyncio.gather(
            *(subscribed(rooms.wiring, "https://a.example.invalid/") for _ in range(MOST_WEBHOOKS + 15)),
            return_exceptions=True,
        )
        kept = [each for each in made if isinstance(each, Webhook)]
        assert all(isinstance(each, (Webhook, Unmet)) for each in made)
        assert await rooms.database.collection("webhooks").count({}) == len(kept) <= MOST_WEBHOOKS

    async def test_changes_at_once_lose_none(self, rooms: Rooms) -> None:
        """Each is applied to what the others made of it."""
        wiring = rooms.wiring
        webhook_id = (await subscribed(wiring, "https://a.example.invalid/")).webhook_id
        wishes = (
            UpdateWebhook(url="https://b.example.invalid/"),
            UpdateWebhook(event_types=(EventType.USER_DELETED,)),
            UpdateWebhook(active=False),
        )
        await asyncio.gather(*(update_webhook(wiring, OPERATOR, webhook_id, wish) for wish in wishes))
        found = await wiring.webhooks.find(webhook_id)
        assert found is not None
        assert (found.url, found.event_types, found.active, found.version) == (
            "https://b.example.invalid/",
            (EventType.USER_DELETED,),
            False,
            4,
        )
