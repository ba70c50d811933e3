"""The serving process under what happens to it: signals, kill -9 of each part, a second server, a busy port."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import httpx
import psutil
import pytest

from schema_user.app import create_app
from tests.conftest import ANY_TLS, Server, free_port, fresh_uri, settings_for
from tests.faults.load import (
    GENEROUS,
    Load,
    eventually,
    gone,
    http_of,
    make_users,
    mongod_of,
    stored_counts,
    tree,
    update_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS = 16


@contextlib.contextmanager
def serving(data_dir: Path, **options: Any) -> Iterator[Server]:
    """A server in a directory of its own; what is left of it in the end is killed."""
    server = Server(data_dir, **options)
    left: list[psutil.Process] = []
    try:
        server.start()
        left = tree(server)
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            left = tree(server)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        bury(server)


def bury(server: Server) -> None:
    """Wait for a process that was killed."""
    if server.process is not None:
        server.process.wait()
        if server.process.stdout is not None:
            server.process.stdout.close()


@pytest.fixture(scope="module")
def steady(short_dir: Path) -> Iterator[Server]:
    """One server for the tests that it outlives."""
    with serving(short_dir / "steady") as server:
        yield server


def command(server: Server, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a ``schema-user`` command with the server's settings, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "schema_user.cli", *arguments],
        env=server.env() | changes,
        capture_output=True,
        text=True,
        timeout=GENEROUS,
        check=False,
    )


def answers(server: Server) -> bool:
    """Whether it answers that it is ready, asked over a new connection."""
    try:
        return httpx.get(f"{server.url}/health/ready", verify=ANY_TLS).is_success
    except httpx.TransportError:
        return False


@pytest.mark.soak
class TestSecondServer:
    def test_same_directory(self, steady: Server) -> None:
        """A second server on the same data directory is refused in one sentence, and the first goes on."""
        refused = command(steady, "serve", SCHEMA_USER_PORT=str(free_port()))
        assert refused.returncode == 1
        holder = steady.process.pid if steady.process else None
        assert refused.stderr == f"schema-user: the data directory {steady.data_dir} is in use by process {holder}\n"
        assert refused.stdout == ""
        assert answers(steady)

    def test_busy_port(self, short_dir: Path) -> None:
        """A port that is in use, even by one who would share it, is named in one sentence; the database is stopped."""
        server = Server(short_dir / "busy")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", server.port))
            other.listen()
            refused = command(server, "serve")
        assert refused.returncode == 1
        sentence = f"schema-user: cannot listen on port {server.port} of 127.0.0.1: it is in use"
        assert refused.stderr.splitlines()[-1] == sentence
        assert "Traceback" not in refused.stderr
        assert refused.stdout == ""
        assert (server.data_dir / "db/mongod.lock").read_bytes() == b""


class TestKilled:
    def test_everything(self, steady: Server) -> None:
        """After kill -9 of everything under load the next start needs no hand, and holds what was acknowledged."""
        with Load(steady, CLIENTS) as load:
            time.sleep(0.5)
            for process in tree(steady):
                process.kill()
        bury(steady)
        steady.start()
        load.kept()
        with Load(steady, 1):
            pass

    @pytest.mark.soak
    def test_supervisor(self, steady: Server) -> None:
        """After kill -9 of the first process the one that answers ends by itself, and a restart works at once."""
        with Load(steady, 2) as load:
            answering = http_of(steady)
            assert steady.process is not None
            steady.process.kill()
            bury(steady)
            steady.start()
            load.goes_on()
        load.kept()
        eventually(lambda: all(gone(process) for process in answering), "the end of the old process")

    @pytest.mark.soak
    def test_http_process(self, steady: Server) -> None:
        """The process that answers is replaced after each kill -9, however soon the next one comes."""
        with Load(steady, 2) as load:
            for _ in range(3):
                (process,) = http_of(steady)
                process.kill()
                eventually(functools.partial(gone, process), "its end")
                eventually(lambda: http_of(steady), "another process")
                load.goes_on()
        load.kept()
        assert "Traceback" not in steady.log()


class TestStopped:
    @pytest.mark.parametrize(
        ("whole_group", "numbers"),
        [
            (False, [signal.SIGTERM]),
            pytest.param(True, [signal.SIGINT, signal.SIGTERM, signal.SIGINT], marks=pytest.mark.soak),
        ],
        ids=["once", "whole-group-thrice"],
    )
    def test_under_load(self, short_dir: Path, whole_group: bool, numbers: list[signal.Signals]) -> None:
        """What has begun is answered, what comes later is refused, the database stops last, nothing is left over."""
        with serving(short_dir / f"stop-{whole_group}-{len(numbers)}") as server, Load(server, CLIENTS) as load:
            everything, (http,), mongod = tree(server), http_of(server), mongod_of(server)
            (user,) = make_users(server, 1)
            request = update_request(server, user, {"count": 7})
            with socket.create_connection(("127.0.0.1", server.port), timeout=GENEROUS) as slow:
                slow.sendall(request[:-5])
                time.sleep(0.2)
                signalled_at = time.monotonic()
                for number in numbers:
                    (os.killpg if whole_group else os.kill)(everything[0].pid, number)
                    time.sleep(0.2)
                eventually(lambda: not answers(server), "a refusal")
                slow.sendall(request[-5:])
                assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
            http_was_gone = False
            while not gone(mongod):
                http_was_gone = gone(http)
                time.sleep(0.005)
            assert http_was_gone
            assert server.process is not None
            assert server.process.wait(GENEROUS) == 0
            assert all(gone(process) for process in everything)
        assert load.ends["cut"] == 0
        assert all(sent_at > signalled_at for sent_at in load.dropped)
        assert {answer.status for answer in load.answers} == {200}
        assert (server.data_dir / "db/mongod.lock").read_bytes() == b""
        assert "Traceback" not in server.log()
        assert stored_counts(server.data_dir, [*load.tried, user]) == {**load.acknowledged, user: 7}

    async def test_last_answers(self, mongod_uri: str) -> None:
        """From the signal on it is alive but not ready, and each answer tells the client to come no more this way."""
        async with (
            create_app(settings_for(fresh_uri(mongod_uri))) as door,
            httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", door)), base_url="http://127.0.0.1") as client,
        ):
            before = await client.get("/health/ready")
            door.close_soon()
            ready, live = await client.get("/health/ready"), await client.get("/health/live")
        assert (before.status_code, before.headers.get("connection")) == (200, None)
        assert (ready.status_code, ready.json()["reason"]) == (503, "SERVER_STOPPING")
        assert live.status_code == 200
        assert ready.headers["connection"] == live.headers["connection"] == "close"

    @pytest.mark.parametrize(
        "number",
        [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)],
        ids=lambda number: number.name,
    )
    def test_while_starting(self, short_dir: Path, number: signal.Signals) -> None:
        """A signal before it is ready ends it just as well, and leaves no database running."""
        server = Server(short_dir / f"starting-{number.name}")
        process = subprocess.Popen(
            [sys.executable, "-m", "schema_user.cli", "serve"],
            env=server.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            note = server.data_dir / "mongod.pid"
            eventually(note.exists, "the database's process")
            eventually(note.read_text, "its number")
            mongod = psutil.Process(int(note.read_text()))
            os.killpg(process.pid, number)
            output, errors = process.communicate(timeout=GENEROUS)
        assert process.returncode == 0
        assert output == b""
        assert b"Traceback" not in errors
        assert gone(mongod)


class TestFirstStart:
    def test_token_in_file(self, short_dir: Path) -> None:
        """Without a terminal the first token lies in a private file; a later start shows none and takes no other."""
        unset = {"SCHEMA_USER_BOOTSTRAP_TOKEN": ""}
        with serving(short_dir / "file", environment=unset) as server:
            path = server.data_dir / "admin-token"
            assert server.said == [f"admin token: in {path}", f"schema-user ready on {server.url}"]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            token = path.read_text(encoding="ascii").strip()
            with server.client(token) as admin:
                admin.ok("POST", "/v3alpha/users/search", {})
            assert server.stop() == 0
            server.environment.clear()
            server.start()
            assert server.said == [f"schema-user ready on {server.url}"]
            with server.client(token) as admin, server.client() as late:
                admin.ok("POST", "/v3alpha/users/search", {})
                assert late.post("/v3alpha/users/search", json={}).status_code == 401
            assert token not in server.log()
            assert server.token not in server.log()

    @pytest.mark.soak
    def test_token_on_terminal(self, short_dir: Path) -> None:
        """At a terminal the first token is shown there, once, and kept nowhere."""
        server = Server(short_dir / "terminal", environment={"SCHEMA_USER_BOOTSTRAP_TOKEN": ""})
        terminal, end = os.openpty()
        with os.fdopen(terminal, "rb", buffering=0) as screen:
            process = subprocess.Popen(
                [sys.executable, "-m", "schema_user.cli", "serve"],
                env=server.env(),
                stdin=end,
                stdout=end,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            os.close(end)
            shown = b""
            while b"ready on" not in shown:
                shown += screen.read(1000)
            found = re.search(rb"admin token \(shown this once\): (\S+)", shown)
            assert found is not None
            token = found[1].decode()
            with server.client(token) as admin:
                admin.ok("POST", "/v3alpha/users/search", {})
            process.terminate()
            _, errors = process.communicate(timeout=GENEROUS)
        assert process.returncode == 0
        assert found[1] not in errors
        assert not (server.data_dir / "admin-token").exists()


class TestSeveralProcesses:
    def test_as_one(self, short_dir: Path) -> None:
        """Three processes answer as one: a changed schema, a revoked token and the metrics hold in all of them."""
        with (
            serving(short_dir / "three", environment={"SCHEMA_USER_PROCESSES": "3"}) as server,
            server.client() as admin,
            contextlib.ExitStack() as stack,
        ):
            schema = admin.ok("POST", "/v3alpha/user_schemas", {"type": "grows", "schema": {"maxProperties": 1}})["id"]
            user = admin.ok("POST", "/v3alpha/users", {"schemaId": schema, "data": {"a": 1}})["userId"]
            role = {"role": "ORG_USER_MANAGER", "organizationId": "default"}
            made = admin.ok("POST", "/v3alpha/tokens", {"name": "revoked", "roles": [role]})
            clients = [stack.enter_context(server.client()) for _ in range(30)]
            revoked = {"Authorization": f"Bearer {made['token']}"}
            for client in clients:
                client.ok("GET", f"/v3alpha/users/{user}", headers=revoked)
            connections = [
                sum(found.status == psutil.CONN_ESTABLISHED for found in process.net_connections("tcp"))
                for process in http_of(server)
            ]
            assert len(connections) == 3
            assert all(connections)
            for client in clients[:3]:
                shown = client.get("/metrics").text
                counted = re.search(r'requests_total{operation="get_user",status="200"} (\S+)', shown)
                assert counted is not None
                assert float(counted[1]) == len(clients)

            admin.ok("DELETE", f"/v3alpha/tokens/{made['tokenId']}")
            revoked_at = time.monotonic()
            admin.ok("PUT", f"/v3alpha/user_schemas/{schema}", {"schema": {"minProperties": 2}})
            time.sleep(1)
            for number, client in enumerate(clients):
                client.ok("PUT", f"/v3alpha/users/{user}", {"data": {"a": 1, "b": number}})
            while clients:
                asked_at = time.monotonic()
                clients = [each for each in clients if each.get(f"/v3alpha/users/{user}", headers=revoked).is_success]
                assert not clients or asked_at < revoked_at + 5


class TestCommands:
    @pytest.mark.parametrize(
        "running",
        [pytest.param(True, id="server-runs"), pytest.param(False, id="server-rests", marks=pytest.mark.soak)],
    )
    def test_tokens_and_doctor(self, request: pytest.FixtureRequest, short_dir: Path, running: bool) -> None:
        """Tokens are made, listed and revoked, and the doctor examines, whether the server runs or not."""
        server: Server = request.getfixturevalue("steady") if running else Server(short_dir / "rests")
        created = command(server, "token", "create", "by hand", "--role", "INSTANCE_VIEWER", "--expires-in", "1h")
        assert created.returncode == 0
        secret = created.stdout.strip()
        said = re.search(r"token id (\d+);", created.stderr)
        assert said is not None
        listed = command(server, "token", "list")
        assert said[1] in listed.stdout
        assert secret not in listed.stdout
        with server.client(secret) as viewer:
            search = "/v3alpha/users/search"
            if running:
                viewer.ok("POST", search, {})
            assert command(server, "token", "revoke", said[1]).returncode == 0
            if running:
                eventually(lambda: viewer.post(search, json={}).status_code == 401, "a refusal")
        examined = command(server, "doctor")
        assert examined.returncode == 0
        assert "a primary that answers" in examined.stdout

    def test_wrong_settings(self, tmp_path: Path) -> None:
        """Settings that are wrong are all named at once, without a traceback and without their values."""
        wrong = {
            "SCHEMA_USER_PORT": "http",
            "SCHEMA_USER_BOOTSTRAP_TOKEN": "too short",
            "SCHEMA_USER_MONGODB_URI": "mongodb://elsewhere/",
        }
        refused = command(Server(tmp_path / "wrong"), "serve", **wrong)
        assert refused.returncode == 1
        assert refused.stderr.splitlines() == [
            "schema-user: SCHEMA_USER_PORT must be a port between 1 and 65535.",
            "SCHEMA_USER_BOOTSTRAP_TOKEN must be 32 printable characters or more.",
            "SCHEMA_USER_SECRET_KEY is required with SCHEMA_USER_MONGODB_URI.",
        ]

    @pytest.mark.soak
    def test_directory_that_cannot_be(self, tmp_path: Path) -> None:
        """A data directory that cannot be made is named in one sentence."""
        (tmp_path / "file").touch()
        refused = command(Server(tmp_path / "file" / "var"), "serve")
        assert refused.returncode == 1
        assert refused.stderr == f"schema-user: [Errno 20] Not a directory: '{tmp_path}/file/var'\n"
