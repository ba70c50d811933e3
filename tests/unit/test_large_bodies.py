from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from schema_user.api import operation
from schema_user.api.body import decode
from schema_user.api.openapi import operation_of
from schema_user.api.v3alpha.users import SearchUsersBody, update_user
from schema_user.errors import Malformed, Unavailable
from schema_user.wiring import Turns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from schema_user.wiring import Wiring

_HEADERS = {b"content-length": b"1", b"content-type": b"application/json"}
_LARGE = b'{"data": {"a": "' + b"x" * operation._LARGE + b'"}}'


def stub(patience: timedelta = timedelta(seconds=5)) -> Wiring:
    """Give what reading a body needs of the wiring."""
    settings = SimpleNamespace(body_max_depth=64, mongodb_timeout=patience)
    return cast("Wiring", SimpleNamespace(settings=settings, turns=Turns()))


def described() -> operation.Operation:
    """Give the operation that takes the largest bodies."""
    found = operation_of(update_user)
    assert found is not None
    return found


def read(raw: bytes, wiring: Wiring) -> Coroutine[None, None, Any]:
    """Read a body as a request does."""
    return operation._body(raw, _HEADERS, described(), wiring)


async def test_others_go_between_two_large_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large bodies that come at once are decoded one after the other, and whatever waits goes in between."""
    order: list[str] = []

    def noted(*arguments: Any) -> Any:
        order.append("large")
        return decode(*arguments)

    async def other() -> None:
        while order.count("large") < 3:
            order.append("other")
            await asyncio.sleep(0)

    monkeypatch.setattr(operation, "decode", noted)
    wiring = stub()
    *bodies, _ = await asyncio.gather(*(read(_LARGE, wiring) for _ in range(3)), other())
    assert [body.data for body in bodies] == [{"a": "x" * operation._LARGE}] * 3
    assert "".join(each[0] for each in order).count("ll") == 0


async def test_small_bodies_wait_for_nothing() -> None:
    """While a large body has its turn, a small one is decoded without going round the event loop."""
    wiring = stub()
    async with wiring.turns.of(operation._LARGE_BODIES, 1):
        body = read(b'{"data": {}}', wiring)
        with pytest.raises(StopIteration) as done:
            body.send(None)
        assert done.value.value.data == {}


async def test_whoever_waits_too_long_is_told_when_to_come_again() -> None:
    """The wait for a turn has an end, and the answer to it is 503."""
    wiring = stub(timedelta(milliseconds=10))
    async with wiring.turns.of(operation._LARGE_BODIES, 1):
        with pytest.raises(Unavailable) as caught:
            await read(_LARGE, wiring)
    assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 1)
    assert (await read(_LARGE, wiring)).data


@pytest.mark.parametrize("wrong", [b'{"x":1}', b'{"userIdQuery":{"id":1}}', b"[]", b'{"userIdQuery":{"id":null}}'])
def test_a_body_that_is_wrong_everywhere_is_refused_soon(wrong: bytes) -> None:
    """As many as a body has room for: 100 are told, and that there are more; before, it took minutes."""
    raw = b'{"queries":[' + b",".join([wrong] * (operation._LARGE * 15 // len(wrong))) + b"]}"
    began = time.process_time()
    with pytest.raises(Malformed) as caught:
        decode(raw, SearchUsersBody, 64)
    assert time.process_time() - began < 10
    *told, last = caught.value.violations
    assert len(told) == 100
    assert (last.description, last.reason) == ("and at least 100 more", "truncated")
