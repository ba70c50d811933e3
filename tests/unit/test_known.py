from __future__ import annotations

import asyncio

import pytest

from schema_user.store.known import Known


class Source:
    """A clock, and values that are numbered as they are fetched."""

    def __init__(self, *, most: int = 10) -> None:
        """Fetch at once; ``gate`` can be cleared to hold fetches up."""
        self.now = 100.0
        self.asked: list[tuple[str, str | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.known: Known[str, str] = Known(self.fetch, 5.0, most, lambda: self.now)

    async def fetch(self, key: str, before: str | None) -> str:
        """Give the key and the number of this fetch."""
        self.asked.append((key, before))
        value = f"{key}{len(self.asked)}"
        error = self.error
        await self.gate.wait()
        if error is not None:
            raise error
        return value

    def getting(self, key: str) -> asyncio.Task[str]:
        """Need a value, as a caller of its own."""
        return asyncio.create_task(self.known.get(key))


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_who_need_a_value_at_once_share_a_fetch() -> None:
    """One for each key."""
    source = Source()
    source.gate.clear()
    tasks = [source.getting(key) for key in "aabab"]
    await settled()
    source.gate.set()
    assert await asyncio.gather(*tasks) == ["a1", "a1", "b2", "a1", "b2"]
    assert source.asked == [("a", None), ("b", None)]


async def test_a_value_is_used_until_its_time_is_over() -> None:
    """The fetch after that gets the value of before."""
    source = Source()
    assert await source.known.get("a") == "a1"
    source.now += 4.9
    assert await source.known.get("a") == "a1"
    source.now += 0.1
    assert await source.known.get("a") == "a2"
    assert source.asked == [("a", None), ("a", "a1")]


async def test_the_time_of_a_value_begins_when_it_was_asked_for() -> None:
    """A slow answer is not younger for it."""
    source = Source()
    source.gate.clear()
    task = source.getting("a")
    await settled()
    source.now += 4
    source.gate.set()
    assert await task == "a1"
    source.now += 1
    assert await source.known.get("a") == "a2"


async def test_a_fetch_that_takes_too_long_is_not_joined() -> None:
    """Its value would be too old for those who come now, and it does not take the place of the newer one."""
    source = Source()
    source.gate.clear()
    slow = source.getting("a")
    await settled()
    source.now += 5
    later = source.getting("a")
    await settled()
    source.gate.set()
    assert [await slow, await later] == ["a1", "a2"]
    assert await source.known.get("a") == "a2"
    assert len(source.asked) == 2


async def test_what_is_forgotten_is_fetched_anew() -> None:
    """Long before its time is over, and without the value of before."""
    source = Source()
    assert await source.known.get("a") == "a1"
    source.known.forget("a")
    source.known.forget("never seen")
    assert await source.known.get("a") == "a2"
    assert source.asked == [("a", None), ("a", None)]


@pytest.mark.parametrize("old_first", [True, False], ids=["old lands first", "new lands first"])
async def test_a_fetch_under_way_is_not_believed_once_forgotten(old_first: bool) -> None:
    """Those who come afterwards have their own fetch, and its result is the one that is kept."""
    gates = [asyncio.Event(), asyncio.Event()]
    asked = 0

    async def fetch(key: str, before: str | None) -> str:
        nonlocal asked
        asked += 1
        number = asked
        await gates[number - 1].wait()
        return f"{key}{number}"

    known: Known[str, str] = Known(fetch, 5.0, 10, lambda: 0.0)
    old = asyncio.create_task(known.get("a"))
    await settled()
    known.forget("a")
    new = asyncio.create_task(known.get("a"))
    await settled()
    for gate in gates if old_first else gates[::-1]:
        gate.set()
        await settled()
    assert [await old, await new] == ["a1", "a2"]
    assert await known.get("a") == "a2"
    assert asked == 2


async def test_what_was_forgotten_under_way_is_not_kept() -> None:
    """Even if nobody asked in between."""
    source = Source()
    source.gate.clear()
    old = source.getting("a")
    await settled()
    source.known.forget("a")
    source.gate.set()
    assert await old == "a1"
    await settled()
    assert await source.known.get("a") == "a2"


async def test_a_cancelled_first_caller_cancels_no_other() -> None:
    """The fetch goes on for those who wait with it, and its value is kept."""
    source = Source()
    source.gate.clear()
    first, second = source.getting("a"), source.getting("a")
    await settled()
    first.cancel()
    await settled()
    source.gate.set()
    assert await second == "a1"
    assert first.cancelled()
    assert await source.known.get("a") == "a1"


async def test_an_error_is_told_to_all_who_waited_and_not_kept() -> None:
    """The next need asks again."""
    source = Source()
    source.error = LookupError("away")
    outcomes = await asyncio.gather(source.getting("a"), source.getting("a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError, LookupError]
    assert len(source.asked) == 1
    source.error = None
    assert await source.known.get("a") == "a2"


async def test_an_error_does_not_prolong_an_old_value() -> None:
    """Who asks after its time gets the error, not the value."""
    source = Source()
    assert await source.known.get("a") == "a1"
    source.now += 5
    source.error = LookupError("away")
    with pytest.raises(LookupError):
        await source.known.get("a")
    source.error = None
    assert await source.known.get("a") == "a3"


async def test_a_bounded_number_of_values_is_kept() -> None:
    """However many keys are asked for."""
    source = Source(most=3)
    for number in range(20):
        await source.known.get(f"k{number}-")
        await settled()
        assert len(source.known._values) <= 3
    assert not source.known._flights


async def test_who_peeks_never_waits_and_what_grows_old_is_asked_for_meanwhile() -> None:
    """Nothing is asked for of which nothing is known; after half of its time a value is asked for once."""
    source = Source()
    assert source.known.peek("a") is None
    await settled()
    assert source.asked == []
    await source.known.get("a")
    source.now += 2.4
    assert source.known.peek("a") == "a1"
    assert len(source.asked) == 1
    source.now += 0.1
    assert [source.known.peek("a"), source.known.peek("a")] == ["a1", "a1"]
    await settled()
    assert len(source.asked) == 2
    assert source.known.peek("a") == "a2"
    source.now += 5.0
    assert source.known.peek("a") is None
