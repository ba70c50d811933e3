"""The keys of an issuer: when they are fetched, how long they are good, and what a check costs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from schema_user.authentication import Gatekeeper
from schema_user.domain.caller import Grant
from schema_user.domain.issuer import ClaimNames, Issuer
from schema_user.domain.permission import Role
from schema_user.errors import Unauthenticated, Unavailable
from schema_user.issuers import keys as keys_module
from schema_user.issuers.keys import FIRST_PAUSE, PAUSE, REFRESH, IssuerKeys
from schema_user.issuers.verifier import Issuers
from tests.api.issuer_server import AUDIENCE, Key, new_rsa
from tests.api.issuer_server import Issuer as Published

if TYPE_CHECKING:
    from schema_user.wiring import Wiring

URL = "https://id.example"
ISSUER = Issuer(URL, AUDIENCE, ("RS256",), "default", ClaimNames("sub", "roles"))
KEPT = 86400.0
ONE, TWO = new_rsa("one"), new_rsa("two")


@dataclasses.dataclass
class Away:
    """An issuer's documents without a network, and a clock."""

    published: list[Key]
    now: float = 1000.0
    fetches: int = 0
    down: bool = False
    gate: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def fetch(self, url: str, most: int) -> bytes:
        """Give a document."""
        assert most
        await self.gate.wait()
        if self.down:
            raise OSError("down")
        if url.endswith("/jwks"):
            self.fetches += 1
            return json.dumps({"keys": [key.as_dict(private=False) for key in self.published]}).encode()
        return json.dumps({"issuer": URL, "jwks_uri": URL + "/jwks"}).encode()

    def keys(self) -> IssuerKeys:
        """Give the keys under test."""
        return IssuerKeys(ISSUER, self.fetch, KEPT, lambda: self.now)


@pytest.fixture
def away() -> Away:
    """Give an issuer with one key."""
    return Away([ONE])


class TestKeys:
    async def test_a_hundred_at_once_share_one_fetch(self, away: Away) -> None:
        """All who need the first keys wait for the same fetch."""
        keys = away.keys()
        found = await asyncio.gather(*(keys.find("one") for _ in range(100)))
        assert {key.kid for key in found if key is not None} == {"one"}
        assert away.fetches == 1

    async def test_unknown_ids_fetch_once_in_thirty_seconds(self, away: Away) -> None:
        """However many ids nobody knows, the keys are fetched once; after the pause a rotation is noticed."""
        keys = away.keys()
        await keys.find("one")
        away.now += 1
        for n in range(50):
            assert await keys.find(f"k{n}") is None
        assert away.fetches == 2
        away.published.append(TWO)
        away.now += PAUSE - 2
        assert await keys.find("two") is None
        away.now += 2
        assert await keys.find("two") is not None
        assert away.fetches == 3

    async def test_keys_in_use_are_looked_at_again_beside_the_request(self, away: Away) -> None:
        """After five minutes a known key is given at once, and a fetch drops it if it was withdrawn."""
        keys = away.keys()
        await keys.find("one")
        away.gate.clear()
        away.published[:] = [TWO]
        away.now += REFRESH + 1
        async with asyncio.timeout(2):
            assert await keys.find("one") is not None
        away.gate.set()
        await asyncio.sleep(0.01)
        assert await keys.find("one") is None
        assert await keys.find("two") is not None

    async def test_known_keys_are_good_for_a_day(self, away: Away) -> None:
        """While the issuer is down its keys are good as long as is set, and not a second longer."""
        keys = away.keys()
        await keys.find("one")
        away.down = True
        began = away.now
        for passed in range(0, int(KEPT), 3600):
            away.now = began + passed
            assert await keys.find("one") is not None
            await asyncio.sleep(0)
        away.now = began + KEPT - 1
        assert await keys.find("one") is not None
        away.now = began + KEPT
        with pytest.raises(Unavailable):
            await keys.find("one")

    async def test_without_keys_the_issuer_is_asked_every_five_seconds(self, away: Away) -> None:
        """An issuer that was down at the start is found within seconds of its return."""
        away.down = True
        keys = away.keys()
        with pytest.raises(Unavailable):
            await keys.find("one")
        away.down = False
        with pytest.raises(Unavailable):
            await keys.find("one")
        away.now += FIRST_PAUSE
        assert await keys.find("one") is not None

    async def test_a_request_waits_for_its_share_only(self, away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever waits for a slow issuer gives up, or is cancelled, without ending the fetch for the others."""
        monkeypatch.setattr(keys_module, "PATIENCE", 0.05)
        keys = away.keys()
        away.gate.clear()
        with pytest.raises(Unavailable):
            await keys.find("one")
        waiting = asyncio.create_task(keys.find("one"))
        await asyncio.sleep(0.01)
        waiting.cancel()
        away.gate.set()
        await asyncio.sleep(0.01)
        assert await keys.find("one") is not None
        assert away.fetches == 1

    async def test_stopping_ends_a_fetch(self, away: Away) -> None:
        """A fetch that hangs does not outlast the server."""
        keys = away.keys()
        away.gate.clear()
        keys.begin()
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await keys.stop()

    @pytest.mark.parametrize(
        "answers",
        [
            {"": b"[]"},
            {"": b"{"},
            {"": json.dumps({"issuer": URL}).encode()},
            {"": json.dumps({"issuer": URL + "/", "jwks_uri": URL + "/jwks"}).encode()},
            {"": json.dumps({"issuer": URL, "jwks_uri": "http://127.0.0.1/jwks"}).encode()},
            {"": json.dumps({"issuer": URL, "jwks_uri": "http://id.example/jwks"}).encode()},
            {"jwks": b"{}"},
            {"jwks": b'{"keys": {}}'},
            {"jwks": b'{"keys":' + b"[" * 100_000},
            {"jwks": b"\xff"},
        ],
        ids=lambda answers: next(iter(answers.values()))[:60].decode("latin-1"),
    )
    async def test_documents_that_are_none_give_no_keys(self, away: Away, answers: dict[str, bytes]) -> None:
        """Whatever an issuer answers, it ends in no keys and never in an error."""

        async def fetch(url: str, most: int) -> bytes:
            found = [answer for end, answer in answers.items() if url.endswith(end or "configuration")]
            return found[0] if found else await away.fetch(url, most)

        with pytest.raises(Unavailable):
            await IssuerKeys(ISSUER, fetch, KEPT).find("one")


class TestCaller:
    async def test_the_check_asks_the_database_once(self, wiring: Wiring, away: Away) -> None:
        """Warm, a token costs no read; its expiry is told by the clock all the same."""
        published = Published(URL, keys=[ONE], always={"roles": ["ORG_OWNER"]})
        clock = [datetime.now(UTC)]
        reads = 0

        class Counting:
            async def read(self, user_id: str) -> None:
                nonlocal reads
                reads += 1

        counted = dataclasses.replace(wiring, now=lambda: clock[0], users=Counting())  # type: ignore[arg-type]
        door = Gatekeeper(counted, issuers=Issuers({URL: (ISSUER, away.keys())}))
        token = published.token(exp=int(clock[0].timestamp()) + 10)
        for _ in range(20):
            assert (await door.caller(token)).grants == (Grant(Role.ORG_OWNER, "default"),)
        assert reads == 1
        clock[0] += timedelta(seconds=10 + 61)
        with pytest.raises(Unauthenticated):
            await door.caller(token)

    async def test_a_withdrawn_key_ends_a_token_that_is_remembered(self, wiring: Wiring, away: Away) -> None:
        """Two seconds after a key is gone a token of it is checked again, and refused."""
        published = Published(URL, keys=[ONE], always={"roles": ["ORG_OWNER"]})
        door = Gatekeeper(wiring, issuers=Issuers({URL: (ISSUER, away.keys())}, lambda: away.now))
        token = published.token()
        await door.caller(token)
        away.published[:] = [TWO]
        away.now += REFRESH + 1
        await door.caller(token)
        await asyncio.sleep(0.01)
        away.now += 2
        with pytest.raises(Unauthenticated):
            await door.caller(token)
