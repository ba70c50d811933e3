"""The local database frozen and killed under load: answers in time, no acknowledged update lost, back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.load import Load, eventually, http_of, mongod_of
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Api, Server

TIMEOUT = 2.0  # seconds, as the server is told; a hasty machine's share comes on top
MARGIN = 3.0


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    """A server that waits for its database no longer than two seconds."""
    with serving(short_dir / "away", environment={"SCHEMA_USER_MONGODB_TIMEOUT": "2s"}) as made:
        yield made


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """Calls with the first token."""
    with server.client() as made:
        yield made


def unavailable_in_time(load: Load) -> None:
    """Assert that whatever was not a 200 was the answer for a database that is away, in time."""
    for answer in list(load.answers):
        if answer.status != 200:
            assert (answer.status, answer.body["code"]) == (503, 14)
            assert answer.body["details"][0]["reason"] == "DATABASE_UNAVAILABLE"
            assert int(answer.headers["retry-after"]) > 0
            assert answer.seconds < TIMEOUT + MARGIN


class TestFrozen:
    def test_under_load(self, server: Server, api: Api) -> None:
        """While it is frozen: 503 in time, alive but not ready; once it goes on, so does everything."""
        answering = http_of(server)
        with Load(server, 8) as load:
            mongod = mongod_of(server)
            mongod.suspend()
            try:
                eventually(lambda: load.counts(503) >= 8, "a refusal")
                assert api.get("/health/live").status_code == 200
                assert api.get("/health/ready").status_code == 503
            finally:
                mongod.resume()
            load.goes_on()
            eventually(lambda: api.get("/health/ready").status_code == 200, "readiness")
        load.kept()
        unavailable_in_time(load)
        assert not load.ends
        assert http_of(server) == answering


class TestKilled:
    def test_under_load(self, server: Server, api: Api) -> None:
        """After kill -9 another takes its place; nothing acknowledged is lost, nothing is answered with a 500."""
        answering = http_of(server)
        with Load(server, 8) as load:
            for _ in range(2):
                killed = mongod_of(server)
                killed.kill()
                load.goes_on()
                eventually(lambda: api.get("/health/ready").status_code == 200, "readiness")
                assert mongod_of(server) != killed
        load.kept()
        unavailable_in_time(load)
        assert not load.ends
        assert http_of(server) == answering
        assert '"level":"ERROR"' in server.log()
        assert "unexpected" not in server.log().replace("ended unexpectedly", "")
