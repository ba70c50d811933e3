"""A stand-in for the world outside, and users whose messages wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import structs

from schema_user.app import relaying
from schema_user.delivery.worker import Rhythm, Worker
from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.user import User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schema_user.delivery.transports import Transport
    from schema_user.domain.wording import Voice
    from schema_user.rooms import Rooms
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
    closed: int = 0

    async def send(self, message: Message, _voice: Voice) -> None:
        """Take a message."""
        self.tried += 1
        answered = self.answer(message)
        if asyncio.iscoroutine(answered):
            await answered
        self.sent.append(message)

    async def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1


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
    user = structs.replace(user, messages=(structs.replace(code_message(wiring, user), **changes),))
    assert await wiring.users.insert(user)
    return user


@contextlib.asynccontextmanager
async def working(wiring: Wiring, post: Transport, rhythm: Rhythm = QUICK) -> AsyncIterator[Worker]:
    """Let a worker run that sends email only, and a relay that wakes it."""
    worker = Worker(wiring, {Channel.EMAIL: post}, rhythm)
    wiring.relay.wakes(worker.wake)
    running = asyncio.create_task(worker.run())
    async with relaying(wiring.relay):
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
