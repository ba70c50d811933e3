"""Quotas: what may happen a limited number of times in a span."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest_asyncio

from schema_user.store.quotas import QuotaStore

if TYPE_CHECKING:
    from schema_user.store.connection import Database

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def quotas(database: Database) -> QuotaStore:
    """Give quotas that nobody has used."""
    made = QuotaStore(database, b"k" * 32)
    await made.prepare()
    return made


async def test_a_span_begins_with_the_first_use_and_ends_by_itself(quotas: QuotaStore) -> None:
    """What is used up says when there is room again, and there is."""
    assert await quotas.take("mail", 2, DAY, NOW) is None
    assert await quotas.take("mail", 2, DAY, NOW + DAY / 2) is None
    assert await quotas.take("mail", 2, DAY, NOW + DAY / 2) == NOW + DAY
    assert await quotas.room("mail", 2, NOW + DAY / 2) == NOW + DAY
    assert await quotas.room("mail", 2, NOW + DAY) is None
    assert await quotas.take("mail", 2, DAY, NOW + DAY) is None
    assert await quotas.take("other", 2, DAY, NOW) is None


async def test_of_many_at_once_exactly_the_limit_is_taken(quotas: QuotaStore) -> None:
    """Whoever races, no use is counted twice and none is lost, at the beginning of a span and at its renewal."""
    for now in (NOW, NOW + 2 * DAY):
        taken = await asyncio.gather(*(quotas.take("mail", 7, DAY, now) for _ in range(40)))
        assert taken.count(None) == 7


async def test_all_of_an_amount_is_taken_or_nothing(quotas: QuotaStore) -> None:
    """An amount that does not fit leaves the rest for smaller ones; what is given back can be taken again."""
    assert await quotas.take("mail", 5, DAY, NOW, 4) is None
    assert await quotas.take("mail", 5, DAY, NOW, 2) == NOW + DAY
    assert await quotas.take("mail", 5, DAY, NOW, 1) is None
    await quotas.give_back("mail", 4)
    assert await quotas.take("mail", 5, DAY, NOW, 4) is None
    assert await quotas.take("never", 0, DAY, NOW) == NOW + DAY


async def test_what_is_left_is_drawn_by_the_clock(quotas: QuotaStore) -> None:
    """As much as there is comes at once; the next period begins anew, and who lags behind draws from it too."""
    end = NOW + DAY
    assert await quotas.draw("mail", 5, 7, end, 3) == (3, 2)
    assert await quotas.draw("mail", 5, 7, end, 3) == (2, 0)
    assert await quotas.draw("mail", 5, 7, end, 3) == (0, 0)
    assert await quotas.draw("mail", 5, 8, end, 4) == (4, 1)
    assert await quotas.draw("mail", 5, 7, end, 3) == (1, 0)
    assert await quotas.draw("mail", 2, 8, end, 3) == (0, 0), "the limit shrank"
    assert await quotas.draw("mail", 7, 8, end, 3) == (2, 0), "what was used before stays used"


async def test_of_many_who_draw_at_once_exactly_the_limit_is_drawn(quotas: QuotaStore) -> None:
    """Whoever races, also for the first count of all."""
    for period in (1, 2):
        drawn = await asyncio.gather(*(quotas.draw("mail", 100, period, NOW + DAY, 7) for _ in range(40)))
        assert sum(each.amount for each in drawn) == 100
