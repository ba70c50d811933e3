"""One validation worker: a process that can be ended in the middle of a call, and ends itself when one is too long.

``pool.py`` starts it, with a socket as its standard input and the engine's name as its argument. Nothing else can
interrupt an engine: it holds the interpreter's lock, and may recurse or allocate without end. So here

- timers of the kernel end the process by SIGPROF or SIGALRM when a call has taken too long, wherever it is by then:
  what it computed counts, and the clock only where that goes eight times as far, so that calls that are honest are not
  stopped on a machine that has other things to do;
- ``RLIMIT_AS`` leaves calls 256 MiB beyond what the process has mapped once it has started;
- calls run on a stack of 256 MiB;
- the verdict is sent before errors are listed: a document is known to be invalid even if the listing is stopped.

The process is in a group of its own and ignores SIGTERM and SIGINT: it ends when its socket does, as that of a server
that stopped or was killed. It imports only what validation needs, since it is started anew after each stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from schema_user.domain.comparison import Verdict as ComparisonVerdict
from schema_user.validation.dialect import Dialect
from schema_user.validation.engines import engine_named
from schema_user.validation.frames import (
    HEADER,
    Check,
    Compare,
    Compared,
    Failed,
    Gated,
    Listed,
    ListedMany,
    Need,
    Ready,
    Reply,
    Request,
    Studied,
    Study,
    Text,
    Transform,
    Transformed,
    Validate,
    ValidateMany,
    Verdict,
    framed,
    read_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.errors import Violation
    from schema_user.validation.engine import Compiled, Engine
    from schema_user.validation.gate import Findings

CALL_SECONDS: Final = 0.25
"""What validating one document may take of a core, listing its errors included."""

MANY_SECONDS: Final = 0.05
"""What validating several documents may take before those that are left are given back; each has its own time too."""

UPLOAD_SECONDS: Final = 1.0
"""What judging or studying a schema may take, and compiling one before a document is validated under it."""

PROOF_SECONDS: Final = 0.5
"""What may be spent on a proof that one schema takes all that another takes."""

BY_THE_CLOCK: Final = 8
"""So many times as long a call may take by the clock."""

OVERDUE: Final = signal.SIGALRM
STOPS: Final = (signal.SIGPROF, OVERDUE)
"""The signals that end a worker whose call has taken too long: what it computed, or the time by the clock."""

CALL_BYTES: Final = 256 * 1024 * 1024
UPLOAD_BYTES: Final = 128 * 1024 * 1024
"""What an uploaded schema may take: less than a call may, so that what was taken once can be compiled beside others."""

STACK_BYTES: Final = 256 * 1024 * 1024
HELD_BYTES: Final = 64 * 1024 * 1024
"""Compiled schemas that a worker keeps, as they estimate themselves."""

_RECURSION: Final = 20_000
_MAX_MADE: Final = 16 * 1024 * 1024
"""Bytes that an expression may make of a document; what is taken is far smaller."""
_MAX_ERROR: Final = 300


class Worker:
    """Answers one request after the other."""

    def __init__(self, engine: Engine, connection: socket.socket, held_bytes: int = HELD_BYTES) -> None:
        self._engine = engine
        self._connection = connection
        self._stream: BinaryIO = connection.makefile("rb")
        self._room = held_bytes
        self._held: OrderedDict[str, Compiled] = OrderedDict()

    def serve(self) -> None:
        """Answer until the server hangs up."""
        self._send(Ready())
        # Only compiling needs it, and it takes as long to import as everything before; no call is to pay for it.
        import_module("schema_user.validation.formats")
        while (request := self._receive()) is not None:
            try:
                reply = self._answer(request)
            except MemoryError:
                os._exit(os.EX_UNAVAILABLE)  # whatever is left could fail in turn; the next one begins afresh
            except Exception as error:  # noqa: BLE001 -- the server decides what it means
                reply = Failed(type(error).__name__)
            _allow(0)
            self._send(reply)

    def _answer(self, request: Request) -> Reply:
        match request:
            case Validate(key, dialect, data):
                held = self._known(key, dialect)
                _allow(CALL_SECONDS)
                return self._validate(held, data)
            case ValidateMany(key, dialect, documents):
                return _validate_many(self._known(key, dialect), documents)
            case Check(document, data, max_bytes):
                from schema_user.validation import gate  # noqa: PLC0415 -- most workers never need it

                _allow(UPLOAD_SECONDS)
                with _memory(UPLOAD_BYTES):
                    schema = msgspec.json.decode(document)
                    found = gate.check(schema, max_bytes=max_bytes, engine=self._engine)
                    return self._gated(schema, found, data)
            case Study(dialect, text):
                return _study(text, Dialect(dialect))
            case Compare():
                return self._compared(request)
            case Transform(expression, data):
                return _transformed(expression, data)
            case Text():
                raise TypeError

    def _known(self, key: str, dialect: str) -> Compiled:
        held = self._held.get(key)
        if held is None:
            self._send(Need())
            return self._compile(key, dialect, self._expect_text())
        self._held.move_to_end(key)
        return held

    def _compile(self, key: str, dialect: str, text: str) -> Compiled:
        _allow(UPLOAD_SECONDS)
        compiled = self._held[key] = self._engine.compile(msgspec.json.decode(text), Dialect(dialect))
        self._room -= compiled.size
        while self._room < 0:
            self._room += self._held.popitem(last=False)[1].size
        return compiled

    def _validate(self, compiled: Compiled, data: bytes) -> Reply:
        value = msgspec.json.decode(data)
        if compiled.is_valid(value):
            return Verdict(valid=True, last=True)
        self._send(Verdict(valid=False, last=False))
        return Listed(compiled.violations(value))

    def _gated(self, schema: Any, found: Findings, data: bytes | None) -> Reply:
        last = bool(found.violations) or data is None
        gated = Gated(list(found.violations), list(found.warnings), found.dialect, last)
        if last or data is None:
            return gated
        self._send(gated)
        return self._validate(self._engine.compile(schema, Dialect(found.dialect)), data)

    def _compared(self, request: Compare) -> Compared:
        """Say first what is known in bounded time: looking for a proof may take too long."""
        from schema_user.validation.compatibility import compare  # noqa: PLC0415 -- most workers never need it

        texts = (request.old, request.old_dialect, request.new, request.new_dialect)
        _allow(UPLOAD_SECONDS)
        with _memory(UPLOAD_BYTES):
            found = compare(*texts, prove=False)
            if found.verdict is ComparisonVerdict.SAFE:
                return Compared(found, last=True)
            self._send(Compared(found, last=False))
            _allow(PROOF_SECONDS)
            return Compared(compare(*texts, prove=True), last=True)

    def _expect_text(self) -> str:
        answer = self._receive()
        if not isinstance(answer, Text):
            raise TypeError
        return answer.text

    def _receive(self) -> Request | None:
        header = self._stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        (size,) = HEADER.unpack(header)
        body = self._stream.read(size)
        return read_request(body) if len(body) == size else None

    def _send(self, reply: Reply) -> None:
        self._connection.sendall(framed(reply))


def _validate_many(compiled: Compiled, documents: list[bytes]) -> ListedMany:
    """Validate one document after the other, and stop between two when enough time is used up."""
    found: list[list[Violation]] = []
    began = time.process_time()
    for data in documents:
        _allow(CALL_SECONDS)
        value = msgspec.json.decode(data)
        found.append([] if compiled.is_valid(value) else compiled.violations(value))
        if time.process_time() - began > MANY_SECONDS:
            break
    return ListedMany(found)


def _transformed(expression: str, data: bytes) -> Transformed:
    """Apply an expression; what it makes must not be larger than any document that is taken could be."""
    from schema_user.validation.expression import ExpressionError, applied  # noqa: PLC0415 -- only migrations need it

    _allow(CALL_SECONDS)
    try:
        made = applied(expression, msgspec.json.decode(data))
        # Not by msgspec, which writes null for what is no finite number.
        text = json.dumps(made, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except ExpressionError as error:
        return Transformed(b"", str(error)[:_MAX_ERROR], error.always)
    except (TypeError, ValueError, RecursionError):
        return Transformed(b"", "makes something that is no JSON")
    return Transformed(text) if len(text) <= _MAX_MADE else Transformed(b"", f"makes more than {_MAX_MADE} bytes")


def _study(text: str, dialect: Dialect) -> Studied:
    """Do what the server would have to do, and say how long it took."""
    from schema_user.validation.bound import bound, ordered  # noqa: PLC0415 -- once for each schema
    from schema_user.validation.rust import compile_schema  # noqa: PLC0415 -- perhaps not the engine of this worker

    _allow(UPLOAD_SECONDS)
    document = msgspec.json.decode(text)
    began = time.perf_counter()
    document = ordered(document, dialect)
    compile_schema(document, dialect, quick=True)
    seconds = time.perf_counter() - began
    found = bound(document, dialect)
    return Studied(seconds, None if found is None else (found.ns_per_byte, found.chain, found.fixed_ns))


def _allow(seconds: float) -> None:
    """Let the process live for so long from now; 0 is for ever."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * BY_THE_CLOCK)


def _mapped() -> int | None:
    """Give the size of the address space, or None where the kernel doesn't tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- pathlib takes longer to import
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


@contextlib.contextmanager
def _memory(size: int) -> Iterator[None]:
    """Leave room for so many bytes beyond what is mapped now, but never for more than around the block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = _mapped()
    if mapped is not None:
        soft = min([mapped + size, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_AS, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> int:
    """Serve what comes over standard input, and give the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(_RECURSION)
    threading.stack_size(STACK_BYTES)
    serving = threading.Thread(target=_serve, args=(engine_named(sys.argv[1]),))
    serving.start()
    serving.join()
    return 0


def _serve(engine: Engine) -> None:
    with socket.socket(fileno=0) as connection, _memory(CALL_BYTES), contextlib.suppress(ConnectionError):
        Worker(engine, connection).serve()


if __name__ == "__main__":
    sys.exit(main())
