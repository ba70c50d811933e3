"""Clients that are slow, say nothing, or talk nonsense, beside others that must not notice."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import ANY_TLS
from tests.faults.load import GENEROUS, Load
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Server

_SLOW = 60
_SILENT = 1500
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_ENHANCE_YOUR_CALM = 11


@pytest.fixture(scope="module")
def hasty(short_dir: Path) -> Iterator[Server]:
    """One server that waits for a body for a second."""
    with serving(short_dir / "hasty", environment={"SCHEMA_USER_REQUEST_TIMEOUT": "1s"}) as server:
        yield server


def connected(server: Server) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=GENEROUS)


def head(server: Server, *lines: str) -> bytes:
    """Give the head of an update with further lines."""
    first = ("PUT /v3alpha/users/1 HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}")
    return "\r\n".join([*first, "Content-Type: application/json", *lines, "", ""]).encode()


def to_the_end(connection: socket.socket) -> bytes:
    """Read until the server hangs up."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    return found


class TestSlowBodies:
    def test_beside_others(self, hasty: Server) -> None:
        """Bodies that stop, or never begin, are refused in time, and their connections end; others go on meanwhile."""
        with contextlib.ExitStack() as stack, Load(hasty, 4) as load:
            slow = [stack.enter_context(connected(hasty)) for _ in range(_SLOW)]
            for number, connection in enumerate(slow):
                chunked = number % 2
                lines = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
                connection.sendall(head(hasty, lines) + (b"", b"", b"{", b"5\r\n{")[number % 4])
            load.goes_on()
            assert httpx.get(f"{hasty.url}/health/ready", verify=ANY_TLS).is_success
            answers = [to_the_end(connection) for connection in slow]
            load.goes_on()
        load.kept()
        assert {answer.status for answer in load.answers} == {200}
        assert not load.ends
        for answer in answers:
            top, _, body = answer.partition(b"\r\n\r\n")
            assert top.startswith(b"HTTP/1.1 400 ")
            assert b"connection: close" in top
            told = json.loads(body)
            assert (told["code"], told["details"][0]["reason"]) == (3, "BODY_TIMEOUT")
        assert "unexpected" not in hasty.log()

    def test_drop_by_drop(self, hasty: Server) -> None:
        """The time is for the body as a whole: who sends a byte now and then is not waited for longer."""
        with connected(hasty) as connection:
            connection.sendall(head(hasty, "Content-Length: 1000"))
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - started < GENEROUS:
                    connection.sendall(b" ")
                    time.sleep(0.2)
        assert time.monotonic() - started < GENEROUS


class TestConnections:
    def test_that_say_nothing(self, hasty: Server) -> None:
        """Many that never send a byte keep nobody else out."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2 * _SILENT:
            pytest.skip("the system allows too few files for this")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * _SILENT), hard))
        with contextlib.ExitStack() as stack:
            for _ in range(_SILENT):
                stack.enter_context(connected(hasty))
            assert httpx.get(f"{hasty.url}/health/ready", timeout=GENEROUS, verify=ANY_TLS).is_success

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 300_000 + b"\r\n\r\n", b"431"),
            (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", b"431"),
            (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
            (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff\x16\x03 nonsense\r\n\r\n", b"400"),
        ],
        ids=["long-head", "many-headers", "two-lengths", "pipelined-garbage"],
    )
    def test_that_talk_nonsense(self, hasty: Server, sent: bytes, status: bytes) -> None:
        """The server refuses them in a word and hangs up; what came before on the connection was answered."""
        with connected(hasty) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            answer = to_the_end(connection)
        # A client that still sends when the server hangs up may lose the answer: that is how TCP resets.
        assert not answer or answer.rpartition(b"HTTP/1.1 ")[2].startswith(status)
        assert httpx.get(f"{hasty.url}/health/live", verify=ANY_TLS).is_success


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(server: Server, method: str, *more: tuple[str, str]) -> bytes:
    """Write headers, each one literally and without a table (RFC 7541, 6.2.2)."""
    fixed = [(":method", method), (":path", "/v3alpha/users/1"), (":scheme", "http"), (":authority", "x")]
    pairs = [*fixed, ("authorization", f"Bearer {server.token}"), *more]
    return b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in pair) for pair in pairs)


def frames(raw: bytes) -> list[tuple[int, int, bytes]]:
    """Read frames: of each its kind, flags and payload."""
    found = []
    while len(raw) >= 9:
        length = int.from_bytes(raw[:3], "big")
        found.append((raw[3], raw[4], raw[9 : 9 + length]))
        raw = raw[9 + length :]
    return found


class TestHttp2:
    def test_prior_knowledge(self, hasty: Server) -> None:
        """It is spoken on the same port, without TLS; no header that belongs to HTTP/1 is sent."""
        command = ["curl", "-si", "--http2-prior-knowledge", "-H", f"Authorization: Bearer {hasty.token}"]
        done = subprocess.run(
            [*command, f"{hasty.url}/v3alpha/organizations/default"],
            capture_output=True,
            text=True,
            timeout=GENEROUS,
            check=True,
        )
        assert done.stdout.startswith("HTTP/2 200")
        assert "\nx-content-type-options: nosniff\n" in done.stdout.replace("\r", "")
        assert "\nconnection:" not in done.stdout.lower()

    def test_a_body_that_never_comes(self, hasty: Server) -> None:
        """It is refused in time, and the connection goes on: what was asked on another stream is answered."""
        opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0)
        body = (("content-type", "application/json"), ("content-length", "5"))
        with connected(hasty) as connection:
            connection.sendall(opening + frame(_HEADERS, _END_HEADERS, 1, header_block(hasty, "PUT", *body)))
            connection.sendall(frame(_HEADERS, _END_HEADERS | _END_STREAM, 3, header_block(hasty, "GET")))
            raw, ends = b"", 0
            while ends < 2:
                piece = connection.recv(65536)
                assert piece, "the connection ended"
                raw += piece
                ends = sum(kind == _DATA and flags & _END_STREAM != 0 for kind, flags, _ in frames(raw))
        assert [json.loads(payload)["code"] for kind, _, payload in frames(raw) if kind == _DATA] == [5, 3]

    def test_rapid_reset(self, hasty: Server) -> None:
        """Who opens and resets streams without end is shown the door (CVE-2023-44487); others do not notice."""
        block = header_block(hasty, "GET")
        opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0)
        flood = b"".join(
            frame(_HEADERS, _END_HEADERS | _END_STREAM, number, block) + frame(_RESET, 0, number, struct.pack(">I", 8))
            for number in range(1, 4001, 2)
        )
        with connected(hasty) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(opening + flood)
            raw = to_the_end(connection)
        away = [payload for kind, _, payload in frames(raw) if kind == _GOAWAY]
        assert not away or int.from_bytes(away[0][4:8], "big") == _ENHANCE_YOUR_CALM
        assert httpx.get(f"{hasty.url}/health/ready", verify=ANY_TLS).is_success
