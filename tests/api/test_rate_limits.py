"""Rate limits: counted by token and organization, in shares that processes draw in advance."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from schema_user import rate_limits
from schema_user.app import create_app
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.permission import Role
from schema_user.domain.rate import OwnRates, Rate, enforced, parse_rate
from schema_user.errors import Exhausted, Unavailable
from schema_user.rate_limits import RateLimits
from tests.conftest import fresh_uri, prepared, reason, settings_for, violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.store.quotas import Drawn, QuotaStore
    from schema_user.wiring import Wiring

TOKEN = "a token of the tests, of 32 or more characters".replace(" ", "-")
NOON = 4_102_488_000.0
"""A time in seconds since 1970, far ahead: the database lets go what is counted in spans that are over."""
MINUTE = timedelta(minutes=1)
OWNER = (Grant(Role.ORG_OWNER, "default"),)


@dataclass
class Clock:
    """A clock that stands still."""

    at: float = NOON

    def __call__(self) -> float:
        """Give the time."""
        return self.at


@dataclass
class Spy:
    """Quotas that remember how much was drawn from them, and can go away."""

    quotas: QuotaStore
    drawn: list[int] = field(default_factory=list)
    away: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def draw(self, *arguments: Any) -> Drawn:
        """Draw a share."""
        if self.away:
            raise Unavailable("DATABASE_UNAVAILABLE", "away")
        self.asked.set()
        drawn = await self.quotas.draw(*arguments)
        self.drawn.append(drawn.amount)
        return drawn


@dataclass
class Process:
    """What one process knows of limits."""

    limits: RateLimits
    spy: Spy
    clock: Clock

    async def take(self, caller: Caller, requests: int = 1) -> int:
        """Send requests, one after the other; how many were let through."""
        taken = 0
        for _ in range(requests):
            with contextlib.suppress(Exhausted):
                await self.limits.count(await self.limits.of(caller))
                taken += 1
        return taken


def process(wiring: Wiring, **changes: Any) -> Process:
    """Make another process with settings of its own, whose clock stands still; what it knows, it asks for each time."""
    spy, clock, passing = Spy(wiring.quotas), Clock(), iter(range(10**9))
    settings = replace(wiring.settings, **changes)
    with_spy = replace(wiring, quotas=cast("QuotaStore", spy), settings=settings)
    return Process(RateLimits(with_spy, clock, lambda: float(next(passing))), spy, clock)


async def choose(wiring: Wiring, organization_id: str, **rates: Rate) -> None:
    """Let an organization choose its limits."""
    found = await wiring.organizations.find(organization_id)
    assert found is not None
    settings = replace(found.settings, rate_limits=OwnRates(**rates))
    assert await wiring.organizations.replace(found, replace(found, settings=settings, version=found.version + 1))


class TestRate:
    @pytest.mark.parametrize("text", ["600/1m", "1/1s", "1000000000/1d", " 600/60 "])
    def test_read(self, text: str) -> None:
        """Requests in whole seconds, up to a day; what is shown can be read again."""
        assert parse_rate(str(parse_rate(text))) == parse_rate(text)

    @pytest.mark.parametrize(
        "text",
        ["", "600", "600/", "/1m", "0/1m", "-1/1m", "1.5/1m", "1/0s", "1/2d", "1/1500ms", "1/1m/2", "10000000000/1m"],
    )
    def test_refused(self, text: str) -> None:
        """Anything else is no rate."""
        with pytest.raises(ValueError, match="600/1m"):
            parse_rate(text)

    @pytest.mark.parametrize(
        ("instance", "own", "both"),
        [
            (None, None, ()),
            ("600/1m", None, ("600/1m",)),
            (None, "600/1m", ("600/1m",)),
            ("600/1m", "10/1s", ("10/1s",)),
            ("600/1m", "5/1s", ("5/1s",)),
            ("600/1m", "6000/1h", ("6000/1h", "600/1m")),
            ("60/1m", "600/1m", ("60/1m",)),
        ],
    )
    def test_which_hold(self, instance: str | None, own: str | None, both: tuple[str, ...]) -> None:
        """The own one alone where it implies the instance's; both where it lets more through at once."""
        made = [None if text is None else parse_rate(text) for text in (instance, own)]
        assert enforced(*made) == tuple(map(parse_rate, both))


class TestCounting:
    async def test_off(self, wiring: Wiring) -> None:
        """Without limits nothing is counted, told or asked for."""
        here = process(wiring)
        assert (await here.limits.of(Caller("t", OWNER))).meters == ()
        assert await here.take(Caller("t", OWNER), 100) == 100
        assert here.spy.drawn == []

    async def test_one_busy_process_reaches_all_of_the_limit(self, wiring: Wiring) -> None:
        """It asks the database for a share now and then, and lets through exactly the limit, then again."""
        here = process(wiring, rate_limit_token=Rate(6400, MINUTE))
        assert await here.take(Caller("t", OWNER), 6500) == 6400
        assert sum(here.spy.drawn) == 6400
        assert len(here.spy.drawn) < 30
        here.clock.at += 60
        assert await here.take(Caller("t", OWNER), 6500) == 6400

    async def test_of_several_processes_the_sum_is_never_above_the_limit(self, wiring: Wiring) -> None:
        """And not much below it, as a process draws little more than it needs."""
        here = [process(wiring, rate_limit_token=Rate(640, MINUTE)) for _ in range(3)]
        taken = [await each.take(Caller("t", OWNER)) for _ in range(400) for each in here]
        assert 640 - 2 * 40 <= sum(taken) <= 640

    async def test_what_is_left_is_lost(self, wiring: Wiring) -> None:
        """A share that was drawn in one span is not used in the next one."""
        here = process(wiring, rate_limit_token=Rate(640, MINUTE))
        assert await here.take(Caller("t", OWNER)) == 1
        here.clock.at += 60
        assert await here.take(Caller("t", OWNER), 700) == 640

    async def test_a_slow_clock_does_not_count_twice(self, wiring: Wiring) -> None:
        """A process that is still in the span before draws from the later one."""
        here, slow = (process(wiring, rate_limit_token=Rate(10, MINUTE)) for _ in range(2))
        here.clock.at += 60
        assert await here.take(Caller("t", OWNER), 8) + await slow.take(Caller("t", OWNER), 8) == 10

    async def test_many_at_once(self, wiring: Wiring) -> None:
        """Of requests in the same moment exactly the limit is let through; those who wait share a call."""
        here = process(wiring, rate_limit_token=Rate(64, MINUTE))
        taken = await asyncio.gather(*(here.take(Caller("t", OWNER)) for _ in range(100)))
        assert sum(taken) == 64
        assert sum(here.spy.drawn) == 64

    async def test_who_is_cut_off_takes_nobody_along(self, wiring: Wiring) -> None:
        """A request that is cancelled while a share is drawn leaves the share to the others."""
        here = process(wiring, rate_limit_token=Rate(1, MINUTE))
        first = asyncio.create_task(here.take(Caller("t", OWNER)))
        second = asyncio.create_task(here.take(Caller("t", OWNER)))
        await here.spy.asked.wait()
        first.cancel()
        assert await second == 1
        assert here.spy.drawn == [1]

    async def test_a_refusal_counts_for_nothing(self, wiring: Wiring) -> None:
        """What the token's limit refuses, its organization does not pay."""
        here = process(wiring, rate_limit_token=Rate(2, MINUTE), rate_limit_organization=Rate(6, MINUTE))
        assert [await here.take(Caller(name, OWNER), 10) for name in "abcd"] == [2, 2, 2, 0]

    async def test_a_span_without_database(self, wiring: Wiring) -> None:
        """While the database is away, the share that is left is used up; then it is away for the client too."""
        here = process(wiring, rate_limit_token=Rate(640, MINUTE))
        assert await here.take(Caller("t", OWNER)) == 1
        here.spy.away = True
        assert await here.take(Caller("t", OWNER), here.spy.drawn[0] - 1) == here.spy.drawn[0] - 1
        with pytest.raises(Unavailable):
            await here.take(Caller("t", OWNER))
        here.spy.away = False
        assert await here.take(Caller("t", OWNER), 700) == 640 - here.spy.drawn[0]

    async def test_memory_is_bounded(self, wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of more tokens than are kept the oldest are forgotten, with what they held; still nobody gets more."""
        monkeypatch.setattr(rate_limits, "_KEPT", 10)
        here = process(wiring, rate_limit_token=Rate(3, MINUTE))
        for number in range(30):
            await here.take(Caller(str(number), OWNER))
        gc.collect()
        assert len(here.limits._believed) == 10
        assert len(here.limits._meters) <= 10
        assert await here.take(Caller("0", OWNER), 10) <= 2


class TestWhomItCountsFor:
    async def test_the_tokens_own_organization(self, wiring: Wiring) -> None:
        """That of its user, else each in which it has a role; what the operator's tokens do counts for none."""
        here = process(wiring, rate_limit_organization=Rate(5, MINUTE))
        owner = Grant(Role.ORG_OWNER, "a")
        other = Grant(Role.ORG_OWNER, "b")
        assert await here.take(Caller("1", (owner,)), 2) == 2
        assert await here.take(Caller("2", (owner, other)), 2) == 2
        assert await here.take(Caller("3", (other,), "minnie", "a"), 2) == 1
        assert await here.take(Caller("4", (owner,)), 2) == 0
        assert await here.take(Caller("5", (other,)), 10) == 3
        assert await here.take(Caller("6", (Grant(Role.INSTANCE_OWNER), owner)), 100) == 100

    async def test_limits_of_the_organization(self, wiring: Wiring) -> None:
        """Its own limits hold for its tokens, whether the instance has any or not, and change without a restart."""
        here = process(wiring)
        await choose(wiring, "default", per_token=Rate(2, MINUTE), per_organization=Rate(3, MINUTE))
        assert [await here.take(Caller(name, OWNER), 5) for name in "ab"] == [2, 1]
        assert await here.take(Caller("c", (Grant(Role.ORG_OWNER, "a"),)), 5) == 5
        await choose(wiring, "default", per_token=Rate(4, MINUTE))
        assert await here.take(Caller("a", OWNER), 5) == 2

    async def test_both_limits(self, wiring: Wiring) -> None:
        """An own rate over a longer span does not lift what the instance lets through at once."""
        here = process(wiring, rate_limit_token=Rate(5, MINUTE))
        await choose(wiring, "default", per_token=Rate(8, timedelta(hours=1)))
        assert await here.take(Caller("t", OWNER), 10) == 5
        here.clock.at += 60
        assert await here.take(Caller("t", OWNER), 10) == 3


@contextlib.asynccontextmanager
async def answering(uri: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client, with the first token, of an application that lives in this process."""
    settings = settings_for(uri, bootstrap_token=TOKEN, worker=False, **changes)
    async with (
        prepared(settings),
        create_app(settings) as door,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(cast("Any", door)),
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client,
    ):
        yield client


class TestOnTheWire:
    async def test_answers(self, mongod_uri: str) -> None:
        """Each answer tells what is left; the one too many is 429 with the reason, and says when to come again."""
        async with answering(fresh_uri(mongod_uri), rate_limit_token=Rate(3, timedelta(days=1))) as client:
            answers = [await client.get("/v3alpha/users/1") for _ in range(4)]
            unknown = await client.get("/v3alpha/users/1", headers={"Authorization": "Bearer wrong"})
            public = await client.get("/health/live")
        assert [each.status_code for each in answers] == [404, 404, 404, 429]
        assert {each.headers["ratelimit-policy"] for each in answers} == {'"token";q=3;w=86400'}
        told = [re.fullmatch(r'"token";r=(\d+);t=(\d+)', each.headers["ratelimit"]) for each in answers]
        assert [match and int(match[1]) for match in told] == [2, 1, 0, 0]
        refused = answers[-1]
        assert (refused.json()["code"], reason(refused)) == (8, "RATE_LIMITED")
        assert refused.json()["details"][0]["metadata"] == {"policy": "token", "limit": "3/86400s"}
        assert told[-1] is not None
        assert 0 < int(told[-1][2]) <= int(refused.headers["retry-after"]) <= 86400
        assert unknown.status_code == 401, "who calls comes first"
        assert "ratelimit" not in unknown.headers.keys() | public.headers.keys()

    async def test_off(self, mongod_uri: str) -> None:
        """Without limits no answer speaks of them."""
        async with answering(fresh_uri(mongod_uri)) as client:
            answer = await client.get("/v3alpha/users/1")
        assert not [name for name in answer.headers if name.startswith("ratelimit")]

    async def test_a_header_changes_nothing(self, mongod_uri: str) -> None:
        """Neither the organization in which a request acts nor where it says to come from makes it another client's."""
        async with answering(
            fresh_uri(mongod_uri), rate_limit_token=Rate(2, timedelta(days=1)), rate_limit_organization=Rate(1, MINUTE)
        ) as client:
            statuses = [
                (await client.get("/v3alpha/users/1", headers={name: "default"})).status_code
                for name in ("x-zitadel-orgid", "x-forwarded-for", "x-request-id")
            ]
        assert statuses == [404, 404, 429]

    async def test_settings_of_an_organization(self, mongod_uri: str) -> None:
        """They are at most the instance's by requests a second, come back, and hold for the organization's tokens."""
        path = "/v3alpha/organizations/default"
        async with answering(fresh_uri(mongod_uri), rate_limit_token=Rate(600, MINUTE)) as client:

            async def put(**rates: Any) -> httpx.Response:
                return await client.put(path, json={"settings": {"rateLimits": rates}})

            above = await put(perToken="11/1s", perOrganization="100000/1s")
            wrong = await put(perToken="many", perOrganization="5/1w")
            stored = await put(perToken="6000/1h", perOrganization="7/1d")
            shown = (await client.get(path)).json()["organization"]["settings"]
            roles = [{"role": "ORG_OWNER", "organizationId": "default"}]
            made = (await client.post("/v3alpha/tokens", json={"name": "t", "roles": roles})).json()["token"]
            answer = await client.get(path, headers={"Authorization": f"Bearer {made}"})
            gone = await put()
        assert (above.status_code, violations(above)) == (400, {"settings/rateLimits/perToken": "maximum"})
        assert violations(wrong) == dict.fromkeys(
            ("settings/rateLimits/perToken", "settings/rateLimits/perOrganization"), "format"
        )
        assert (stored.status_code, gone.status_code) == (200, 200)
        assert shown == {"rateLimits": {"perToken": "6000/3600s", "perOrganization": "7/86400s"}}
        assert answer.headers["ratelimit-policy"] == (
            '"token";q=6000;w=3600, "token-of-instance";q=600;w=60, "organization";q=7;w=86400'
        )
