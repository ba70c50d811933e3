"""Passwords when there is no room to hash them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from schema_user.commands.change import Target
from schema_user.commands.passwords import PasswordWish, set_password, verify_password
from schema_user.commands.tokens import OPERATOR
from schema_user.errors import Unavailable
from schema_user.hashing.hasher import Hasher
from tests.store.post import person

if TYPE_CHECKING:
    from schema_user.wiring import Wiring

GOOD = "Secr3tP4ssw0rd!"


async def test_a_try_that_was_never_compared_does_not_count(wiring: Wiring) -> None:
    """Who comes when the queue is full is told so, and is no nearer to being locked out."""
    user = await person(wiring, "queue@example.com")
    target = Target(OPERATOR, user.user_id)
    await set_password(wiring, target, PasswordWish("newPassword/password", plain=GOOD))
    full, leave = Hasher(threads=1, max_waiting=0), threading.Event()
    busy = full._threads.submit(leave.wait)
    assert full._room.acquire(blocking=False)
    try:
        with pytest.raises(Unavailable) as refused:
            await verify_password(replace(wiring, hasher=full), target, GOOD)
        assert refused.value.reason == "QUEUE_FULL"
    finally:
        leave.set()
        busy.result()
        await full.close()
    found = await wiring.users.find(user.user_id)
    assert found
    assert found.credential
    assert found.credential.failed == 0
    await verify_password(wiring, target, GOOD)
