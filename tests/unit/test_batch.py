from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from schema_user.errors import Unavailable
from schema_user.store.batch import Batcher, Bounds

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sender:
    """Notes the batches, and answers each when it is let."""

    def __init__(self, *, opened: bool = True) -> None:
        """Answer at once, or only after ``gate`` is set."""
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.most_at_once = 0
        self._now = 0
        if opened:
            self.gate.set()

    async def __call__(self, items: list[str]) -> Sequence[str | Exception]:
        """Give each item back in capitals; one that begins with ``!`` fails alone, ``!!`` fails the whole batch."""
        self.batches.append(items)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await self.gate.wait()
            if any(item.startswith("!!") for item in items):
                raise LookupError("all")
            return [KeyError(item) if item.startswith("!") else item.upper() for item in items]
        finally:
            self._now -= 1


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def began(
    batcher: Batcher[str, str], *items: str, keys: Sequence[str | None] = (), size: int = 0
) -> list[asyncio.Task[str]]:
    """Hand in items, each by a caller of its own."""
    named = keys or [None] * len(items)
    return [asyncio.create_task(batcher.do(item, key, size)) for item, key in zip(items, named, strict=True)]


async def test_an_item_alone_goes_out_at_once() -> None:
    """It waits for no timer and for no other item."""
    sender = Sender()
    batcher = Batcher(sender, Bounds())
    assert await batcher.do("a") == "A"
    assert await batcher.do("b") == "B"
    assert sender.batches == [["a"], ["b"]]


async def test_items_of_one_moment_share_a_call() -> None:
    """Each caller gets the answer to its own item."""
    sender = Sender()
    batcher = Batcher(sender, Bounds())
    assert await asyncio.gather(*(batcher.do(item) for item in "abc")) == ["A", "B", "C"]
    assert sender.batches == [["a", "b", "c"]]


async def test_what_comes_during_a_call_goes_with_the_next() -> None:
    """Never more calls at once than the bounds say, and nothing is left behind."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds())
    tasks = began(batcher, "a")
    await settled()
    tasks += began(batcher, "b")
    await settled()
    tasks += began(batcher, "c")
    await settled()
    assert sender.batches == [["a"]]
    sender.gate.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert sender.batches == [["a"], ["b", "c"]]
    assert sender.most_at_once == 1


async def test_the_bounds_allow_several_calls_at_once() -> None:
    """With two, the second goes out while the first is under way, the third waits."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds(calls=2))
    tasks = []
    for item in "abc":
        tasks += began(batcher, item)
        await settled()
    assert sender.batches == [["a"], ["b"]]
    sender.gate.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert sender.most_at_once == 2


async def test_two_with_one_key_are_never_in_one_batch() -> None:
    """All get through, in their order, and those with other keys or none do not wait for them."""
    sender = Sender()
    batcher = Batcher(sender, Bounds())
    tasks = began(batcher, "a1", "a2", "b1", "a3", "n1", "n2", "b2", keys=["a", "a", "b", "a", None, None, "b"])
    assert await asyncio.gather(*tasks) == ["A1", "A2", "B1", "A3", "N1", "N2", "B2"]
    assert sender.batches == [["a1", "b1", "n1", "n2"], ["a2", "b2"], ["a3"]]


async def test_a_batch_is_bounded_by_items() -> None:
    """What is over the bound goes with the next call."""
    sender = Sender()
    batcher = Batcher(sender, Bounds(items=2))
    assert await asyncio.gather(*began(batcher, *"abcde")) == list("ABCDE")
    assert sender.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_batch_is_bounded_by_size() -> None:
    """One that has reached the size takes no more; an item that is larger alone goes all the same."""
    sender = Sender()
    batcher = Batcher(sender, Bounds(size=10))
    assert await asyncio.gather(*began(batcher, *"abc", size=5)) == list("ABC")
    assert sender.batches == [["a", "b"], ["c"]]
    assert await batcher.do("d", size=100) == "D"


async def test_a_full_queue_refuses() -> None:
    """By the number of those that wait; there is room again when they went out."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds(waiting=2))
    tasks = began(batcher, "a")
    await settled()
    tasks += began(batcher, "b", "c")
    await settled()
    with pytest.raises(Unavailable) as refused:
        await batcher.do("d")
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after
    sender.gate.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert await batcher.do("e") == "E"
    assert "d" not in {item for batch in sender.batches for item in batch}


async def test_a_queue_full_by_bytes_refuses() -> None:
    """What went out, or was given up, counts no more."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds(waiting_size=10))
    tasks = began(batcher, "a", size=6)
    await settled()
    given_up, kept = began(batcher, "b", "c", size=5)
    await settled()
    with pytest.raises(Unavailable) as refused:
        await batcher.do("d", size=1)
    assert refused.value.reason == "QUEUE_FULL"
    given_up.cancel()
    sender.gate.set()
    assert await asyncio.gather(*tasks, kept) == ["A", "C"]
    assert await batcher.do("e", size=10) == "E"


async def test_a_cancelled_caller_cancels_nobody_else() -> None:
    """Its batch is under way; the others of that batch get their answers."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds())
    first, second = began(batcher, "a", "b")
    await settled()
    first.cancel()
    await settled()
    sender.gate.set()
    assert await second == "B"
    assert first.cancelled()
    assert await batcher.do("c") == "C"
    assert sender.batches == [["a", "b"], ["c"]]


async def test_what_nobody_waits_for_is_not_sent() -> None:
    """A caller that gives up while its item is queued takes it away."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds())
    (first,) = began(batcher, "a")
    await settled()
    second, third = began(batcher, "b", "c", keys=["k", "k"])
    (fourth,) = began(batcher, "d")
    await settled()
    second.cancel()
    fourth.cancel()
    await settled()
    sender.gate.set()
    assert [await first, await third] == ["A", "C"]
    assert sender.batches == [["a"], ["c"]]


async def test_a_queue_of_cancelled_callers_sends_nothing_and_goes_on() -> None:
    """The next item finds the way free."""
    sender = Sender(opened=False)
    batcher = Batcher(sender, Bounds())
    (first,) = began(batcher, "a")
    await settled()
    (second,) = began(batcher, "b")
    await settled()
    second.cancel()
    sender.gate.set()
    assert await first == "A"
    await settled()
    assert await batcher.do("c") == "C"
    assert sender.batches == [["a"], ["c"]]


async def test_what_send_raises_reaches_all_of_the_batch() -> None:
    """And only that batch: the next one goes out."""
    sender = Sender()
    batcher = Batcher(sender, Bounds(items=2))
    outcomes = await asyncio.gather(*began(batcher, "a", "!!", "c"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError, LookupError, str]
    assert outcomes[2] == "C"


async def test_an_exception_of_one_item_reaches_its_own_caller() -> None:
    """The others of the batch get their results."""
    sender = Sender()
    batcher = Batcher(sender, Bounds())
    outcomes = await asyncio.gather(*began(batcher, "a", "!b", "c"), return_exceptions=True)
    assert outcomes[0] == "A"
    assert isinstance(outcomes[1], KeyError)
    assert outcomes[2] == "C"
    assert sender.batches == [["a", "!b", "c"]]


async def test_who_waits_behind_a_database_that_is_away_is_refused_with_it() -> None:
    """Nobody waits for the same time limit twice; who comes afterwards is sent."""
    gate = asyncio.Event()
    batches: list[list[str]] = []

    async def send(items: list[str]) -> list[str | Exception]:
        batches.append(items)
        if len(batches) == 1:
            await gate.wait()
            raise Unavailable("DATABASE_UNAVAILABLE", "away")
        return list(items)

    batcher: Batcher[str, str] = Batcher(send, Bounds())
    tasks = began(batcher, "a")
    await settled()
    tasks += began(batcher, "b", "c", size=5)
    await settled()
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["DATABASE_UNAVAILABLE"] * 3
    assert await batcher.do("d") == "d"
    assert batches == [["a"], ["d"]]
    assert batcher._queued == 0
