"""The demo in small: it keeps its promises in the default tests, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.ledger import Breaches, Promise, UserLedger, check_refusal, marked, race_lost
from bench.load import MEBIBYTE, Phase
from bench.resume import DAMAGES, ResumeError, fetch
from bench.wire import Answer, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_RESUME = {"meta": {"version": "v1.0.0"}}


@contextlib.contextmanager
def _demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo; a test that fails leaves neither it nor its server behind."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.demo", *arguments],
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a directory with a short path for all that the demo makes; it must be empty in the end."""
    path = Path(tempfile.mkdtemp(prefix="sd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.soak
def test_the_promises_are_kept_with_eight_clients(folder: Path) -> None:
    """300 updates of one user and 300 of ten by 8 clients break no promise."""
    assert shutil.which("npm"), "npm is missing: the demo fetches JSON Resume with it, so install Node.js."
    with _demo(folder, "--updates", "300", "--clients", "8", "--users", "10") as demo:
        output, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, output
    assert "broken" not in output
    assert output.count("kept") == len(Promise)
    assert not list(folder.iterdir())


@pytest.mark.soak
def test_an_interrupt_ends_everything(folder: Path) -> None:
    """Ctrl-C in the middle of the load stops demo, server and database, and removes their files."""
    with _demo(folder, "--updates", "100000", "--clients", "4", "--users", "0") as demo:
        family = _when_serving(demo)
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, output
    assert output.endswith("Stopped.\n")
    assert not [each for each in family if each.is_running()]
    assert not list(folder.iterdir())


def _when_serving(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until clients are connected, and give the processes that must go."""
    deadline = time.monotonic() + 60
    process = psutil.Process(demo.pid)
    while time.monotonic() < deadline and demo.poll() is None:
        if [each for each in process.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]:
            time.sleep(0.5)
            return process.children(recursive=True)
        time.sleep(0.05)
    pytest.fail("the demo came to no load")


def test_without_npm_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without npm learns what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ResumeError, match=r"^npm is missing: install Node\.js, .*\.$"):
        fetch()


def test_another_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What npm brings is used only if it is what was published."""
    monkeypatch.setattr("bench.resume._packed", lambda _: b"something else")
    with pytest.raises(ResumeError, match="SHA-512 differs"):
        fetch()


class TestBreaches:
    """The demo would notice: each promise has an answer that breaks it."""

    @staticmethod
    def _closed(answers: list[tuple[int, str, int]], last: int, stored: str) -> set[Promise]:
        """Acknowledge sequence and marker of each answer, after the sequence seen; then compare with what is stored."""
        ledger, breaches = UserLedger("1"), Breaches()
        for sequence, marker, seen in answers:
            body = b'{"details": {"sequence": "%d"}}' % sequence
            ledger.acknowledge(Answer(200, {"etag": f'"{sequence}"'}, body, 0), marker, seen, breaches)
        user = {"details": {"sequence": str(last)}, "data": marked(_RESUME, stored)}
        ledger.close(user, _RESUME, breaches)
        return set(breaches.count)

    def test_none(self) -> None:
        """Answers out of turn are fine as long as each has its own sequence."""
        assert not self._closed([(3, "b", 1), (2, "a", 1)], 3, "b")

    def test_a_lost_update(self) -> None:
        """An update that another overwrote is missing in the sequence, or its sequence is there twice."""
        assert self._closed([(2, "a", 1), (3, "b", 1)], 2, "b") == {Promise.COUNTED}
        assert self._closed([(2, "a", 1), (2, "b", 1)], 2, "b") == {Promise.COUNTED, Promise.UNIQUE}

    def test_an_update_out_of_order(self) -> None:
        """A later update must not be numbered before an answered one."""
        assert self._closed([(3, "a", 1), (2, "b", 3)], 3, "a") == {Promise.ORDERED}

    def test_another_document(self) -> None:
        """A stored document that was not acknowledged last breaks a promise."""
        assert self._closed([(2, "a", 1), (3, "b", 2)], 3, "a") == {Promise.STORED}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"code": 9, "details": [{"reason": "DATA_INVALID"}, {"fieldViolations": []}]}',
            b'{"code": 3, "details": [{"reason": "DATA_INVALID"}, {"fieldViolations": [@]}]}',
        ],
        ids=["nothing", "no object", "no pointer", "another code"],
    )
    def test_a_wrong_refusal(self, body: bytes) -> None:
        """A refusal counts only with its code, pointers and reasons."""
        breaches = Breaches()
        violation = b'{"field": "data/basics/name", "reason": "type"}'
        check_refusal(Answer(400, {}, body.replace(b"@", violation), 0), DAMAGES[0], breaches)
        assert set(breaches.count) == {Promise.REFUSED}

    def test_the_right_refusal(self) -> None:
        """The expected refusal breaks nothing."""
        breaches = Breaches()
        violations = b'[{"field": "data/basics/name", "reason": "type"}]'
        body = b'{"code": 9, "details": [{"reason": "DATA_INVALID"}, {"fieldViolations": %s}]}' % violations
        check_refusal(Answer(400, {}, body, 0), DAMAGES[0], breaches)
        assert not breaches.count

    def test_growing_memory(self) -> None:
        """Memory that grows with the updates breaks a promise; the warming up at the start does not."""
        steady, growing = Phase("", []), Phase("", [])
        steady.memory = [10 * MEBIBYTE] * 10 + [90 * MEBIBYTE] * 40
        growing.memory = [each * MEBIBYTE for each in range(50)]
        for phase in (steady, growing):
            phase.check_memory()
        assert not steady.breaches.count
        assert set(growing.breaches.count) == {Promise.FLAT}


def test_only_a_lost_race_is_tried_again() -> None:
    """A 409 is retried if it is of code 10 and says when."""
    assert race_lost(Answer(409, {"retry-after": "1"}, b'{"code": 10}', 0)) == 1
    assert race_lost(Answer(409, {}, b'{"code": 10}', 0)) is None
    assert race_lost(Answer(409, {"retry-after": "1"}, b'{"code": 6}', 0)) is None
    assert race_lost(Answer(503, {"retry-after": "1"}, b'{"code": 10}', 0)) is None


async def test_half_an_answer_is_none() -> None:
    """A connection that ends within an answer is an error, not a short body; the next request opens another."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server, Wire(server.sockets[0].getsockname()[1], "token") as wire:
        for _ in range(2):
            with pytest.raises(WireError, match="IncompleteReadError"):
                await wire.call("GET", "/")
