"""Rate limits that three processes share, each of which counts for itself."""

from __future__ import annotations

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from tests.conftest import Server, fresh_uri
from tests.faults.load import http_of
from tests.faults.test_server import serving
from tests.wire.test_many_processes import Line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LIMIT: Final = 640
_MOST_LOST: Final = 2 * _LIMIT // 16
"""What two processes can hold when the third one has no more."""


@pytest.fixture(scope="module")
def three(short_dir: Path, mongod_uri: str) -> Iterator[Server]:
    """One server of three processes with limits for a day, so that no test meets the end of a span."""
    environment = {
        "SCHEMA_USER_MONGODB_URI": fresh_uri(mongod_uri),
        "SCHEMA_USER_SECRET_KEY": "a secret of three processes and long enough",
        "SCHEMA_USER_PROCESSES": "3",
        "SCHEMA_USER_RATE_LIMIT_TOKEN": f"{_LIMIT}/1d",
    }
    with serving(short_dir / "limits", environment=environment) as server:
        yield server
        assert server.stop() == 0
        assert "unexpected" not in server.log(), server.log()


@pytest.fixture
def lines(three: Server) -> Iterator[list[Line]]:
    """One connection to each process."""
    with contextlib.ExitStack() as stack:
        found: dict[int, Line] = {}
        while len(found) < 3:
            line = Line(three)
            stack.callback(line.close)
            line.ok("GET", "/health/live")
            found.setdefault(_holder(three, line), line)
        yield list(found.values())


def _holder(server: Server, line: Line) -> int:
    """Find out which process has a connection."""
    return next(
        process.pid
        for process in http_of(server)
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED and each.raddr.port == line.port
    )


def token(server: Server) -> str:
    """Make a token that nobody has used."""
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": "default"}]
    # The first token has a limit as well, which a few of these don't use up.
    with server.client() as admin:
        return str(admin.ok("POST", "/v3alpha/tokens", {"name": "limited", "roles": roles})["token"])


def passed(line: Line, secret: str, requests: int) -> int:
    """Send requests one after the other; how many were let through."""
    statuses = [line.call("GET", "/v3alpha/users/1", token=secret).status for _ in range(requests)]
    assert set(statuses) <= {404, 429}
    return statuses.count(404)


@pytest.mark.soak
class TestThreeProcesses:
    def test_one_is_busy(self, three: Server, lines: list[Line]) -> None:
        """A client whose requests all go to one process gets all of its limit there, and nothing elsewhere."""
        secret = token(three)
        assert passed(lines[0], secret, _LIMIT + 10) == _LIMIT
        assert [passed(line, secret, 3) for line in lines] == [0, 0, 0]

    def test_all_are_busy(self, three: Server, lines: list[Line]) -> None:
        """Over all of them together never more than the limit is let through, and nearly as much."""
        secret = token(three)
        with ThreadPoolExecutor(3) as pool:
            taken = sum(pool.map(lambda line: passed(line, secret, _LIMIT), lines))
        assert _LIMIT - _MOST_LOST <= taken <= _LIMIT
        assert all(line.call("GET", "/v3alpha/users/1", token=secret).status == 429 for line in lines)

    def test_what_is_told(self, three: Server, lines: list[Line]) -> None:
        """Each process tells what it knows to be left: less with every request, and what others drew before."""
        secret = token(three)
        told = []
        for line in [lines[0]] * 3 + lines:
            answer = line.call("GET", "/v3alpha/users/1", token=secret)
            assert answer.headers["ratelimit-policy"] == f'"token";q={_LIMIT};w=86400'
            match = re.fullmatch(r'"token";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
            assert match is not None
            told.append(int(match[1]))
        assert told[:4] == [_LIMIT - 1, _LIMIT - 2, _LIMIT - 3, _LIMIT - 4]
        assert all(_LIMIT - 40 <= left < _LIMIT - 4 for left in told[4:])
