"""Validation workers: what they answer, what ends them, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import pytest_asyncio

from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.errors import Unavailable, Unmet, Violation
from schema_user.validation import pool as pool_module
from schema_user.validation import validators as validators_module
from schema_user.validation import worker as worker_module
from schema_user.validation.bound import Bound
from schema_user.validation.breaker import MAX_WAITING, STRIKES, WINDOW, Breaker, Crowded
from schema_user.validation.engines import engine_named
from schema_user.validation.frames import HEADER, Check, Studied, Study, Validate, framed, read_reply
from schema_user.validation.frames import Text as SchemaText
from schema_user.validation.pool import Outcome, Pool, Stopped, WorkerFault
from schema_user.validation.rust import RustValidator, compile_schema
from schema_user.validation.validators import MAX_SHARE, Allowance, Validators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from schema_user.validation.engine import Engine
    from schema_user.validation.frames import Reply
    from schema_user.validation.pool import CheckOutcome

FLAT: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "maxLength": 50}, "age": {"type": "integer"}},
    "additionalProperties": False,
}
TEXT = json.dumps(FLAT)
GOOD = b'{"name":"Minnie"}'
_NOW = datetime(2026, 1, 2, tzinfo=UTC)
SCHEMA = UserSchema("1", "7", "person", 1, TEXT, "2020-12", SchemaState.ACTIVE, (), _NOW, _NOW)
PATIENT = 30


def doubling(levels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema that does twice the work at each level of a document, and a document that makes it do so."""
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"x": data}
    steps = {
        f"a{n}": {"allOf": [{"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}} for _ in range(2)]}
        for n in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {}}}, data


SLOW, SLOW_DATA = doubling(40)


@contextlib.asynccontextmanager
async def opened(size: int, engine: str = "rust", **options: Any) -> AsyncIterator[Pool]:
    """A pool that is closed in the end."""
    pool = Pool(size, engine, **options)
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture(scope="module")
async def pool() -> AsyncIterator[Pool]:
    """Two workers for the tests that they outlive."""
    async with opened(2) as made:
        yield made


async def valid(pool: Pool, data: bytes = GOOD, text: str = TEXT, key: str = "flat") -> Outcome:
    """Validate under the flat schema."""
    return await pool.violations(key, text, "2020-12", data)


async def until(condition: Any) -> None:
    """Wait for something that is to come."""
    async with asyncio.timeout(PATIENT):
        while not condition():  # noqa: ASYNC110 -- other processes are waited for
            await asyncio.sleep(0.01)


def stopped(thread: Path) -> bool:
    """Whether a thread is stopped: SIGSTOP takes a moment to reach each."""
    return (thread / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


async def held(pool: Pool) -> tuple[asyncio.Task[Outcome], psutil.Process]:
    """Stop the one worker of a pool in the middle of a call."""
    await valid(pool)
    (pid,) = pool.pids
    process = psutil.Process(pid)
    process.suspend()
    await until(lambda: all(stopped(path) for path in Path(f"/proc/{pid}/task").iterdir()))
    task = asyncio.create_task(valid(pool))
    await asyncio.sleep(0.05)
    assert not task.done()
    return task, process


class TestCalls:
    async def test_says_what_the_engine_says(self, pool: Pool) -> None:
        """A worker's answer is that of the engine in this process."""
        data = {"name": 3, "shoe": True, "age": "x"}
        outcome = await valid(pool, json.dumps(data).encode())
        assert outcome == Outcome(valid=False, violations=compile_schema(FLAT, "2020-12").violations(data))
        assert await valid(pool) == Outcome(valid=True)

    async def test_another_key_is_another_schema(self, pool: Pool) -> None:
        """A worker that knows one schema asks for the other."""
        assert (await valid(pool)).valid
        assert not (await valid(pool, text='{"maxProperties": 0}', key="none")).valid
        assert (await valid(pool)).valid

    async def test_many_at_once(self, pool: Pool) -> None:
        """More calls than workers wait for their turn, and each gets its own answer."""
        documents = [{"name": "x" * number} for number in range(100)]
        found = await asyncio.gather(*(valid(pool, json.dumps(each).encode()) for each in documents))
        assert [each.valid for each in found] == [number <= 50 for number in range(100)]

    async def test_large(self, pool: Pool) -> None:
        """A document of a megabyte and more comes through."""
        data = json.dumps(["ä" * 100] * 8_000, ensure_ascii=False).encode()
        assert len(data) > 1_500_000
        assert (await valid(pool, data, '{"items": {"maxLength": 100}}', "list")).valid

    async def test_check(self, pool: Pool) -> None:
        """An upload's findings, and those of a document under it."""
        limit = 256 * 1024
        refused = await pool.check(b'{"type": "strnig"}', GOOD, limit)
        assert {each.field for each in refused.gated.violations} == {"schema/type"}
        assert refused.validated is None
        taken = await pool.check(b'{"format": "nope"}', None, limit)
        assert [each.field for each in taken.gated.warnings] == ["schema/format"]
        sampled = await pool.check(TEXT.encode(), b"{}", limit)
        assert sampled.validated is not None
        assert [each.field for each in sampled.validated.violations] == ["data/name"]
        small = await pool.check(TEXT.encode(), None, 20)
        assert [each.reason for each in small.gated.violations] == ["size"]

    async def test_study(self, pool: Pool) -> None:
        """A flat schema has a bound, and compiles in no time."""
        studied = await pool.study(TEXT, "2020-12")
        assert studied.bound is not None
        assert studied.compile_seconds < 1

    async def test_failure(self, pool: Pool) -> None:
        """A schema that never should have been stored is a fault of ours, and the worker goes on."""
        await valid(pool)
        before = sorted(pool.pids)
        with pytest.raises(WorkerFault):
            await valid(pool, text='{"type": "strnig"}', key="broken")
        assert (await valid(pool)).valid
        assert sorted(pool.pids) == before


class TestLimits:
    async def test_time(self, pool: Pool) -> None:
        """A call that takes too long is stopped, and the next one finds a worker."""
        with pytest.raises(Stopped):
            await pool.violations("slow", json.dumps(SLOW), "2020-12", json.dumps(SLOW_DATA).encode())
        assert (await valid(pool)).valid

    async def test_verdict_first(self, pool: Pool) -> None:
        """What is known to be invalid stays so when the listing is stopped."""
        data = json.dumps([1] * 400_000).encode()
        outcome = await valid(pool, data, '{"items": {"type": "string"}}', "wrong")
        assert (outcome.valid, outcome.listed, outcome.violations) == (False, False, ())

    async def test_upload(self, pool: Pool) -> None:
        """An upload whose gate takes too long is stopped; one whose document does says so."""
        patterns = {f"p{number}": {"pattern": f"^(.{{0,900}}x{number})*$"} for number in range(1_000)}
        with pytest.raises(Stopped):
            await pool.check(json.dumps({"properties": patterns}).encode(), None, 256 * 1024)
        found = await pool.check(json.dumps(SLOW).encode(), json.dumps(SLOW_DATA).encode(), 256 * 1024)
        assert (found.stopped, found.validated, found.gated.violations) == (True, None, [])

    async def test_a_worker_that_hangs_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that computes nothing is killed in the end, and the schema is not to blame."""
        monkeypatch.setattr(pool_module, "BY_THE_CLOCK", 1)
        async with opened(1) as pool:
            task, process = await held(pool)
            with pytest.raises(Crowded):
                await task
            assert (await valid(pool)).valid
            assert pool.pids != [process.pid]

    async def test_of_the_process(self, pool: Pool) -> None:
        """Memory is limited, no core is written, the group is its own, and the server's secrets are not there."""
        await valid(pool)
        process = psutil.Process(pool.pids[0])
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_AS)[0] < process.memory_info().vms + 2 * worker_module.CALL_BYTES
        assert os.getpgid(process.pid) == process.pid
        assert not [name for name in process.environ() if name.startswith("SCHEMA_USER_")]

    async def test_signals_are_ignored(self, pool: Pool) -> None:
        """SIGTERM and SIGINT, which reach everybody when a machine stops, end no worker."""
        await valid(pool)
        before = sorted(pool.pids)
        for pid in before:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        await asyncio.gather(*(valid(pool) for _ in range(10)))
        assert sorted(pool.pids) == before


class TestLoss:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
    async def test_in_a_call(self, number: signal.Signals) -> None:
        """A worker that dies of something else during a call: the call is done by another one."""
        async with opened(1) as pool:
            task, process = await held(pool)
            process.send_signal(number)
            process.resume()
            assert (await task).valid
            assert pool.pids != [process.pid]

    async def test_idle(self, pool: Pool) -> None:
        """Workers that are killed while nobody needs them are replaced."""
        await valid(pool)
        before = set(pool.pids)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert (await valid(pool)).valid
        await until(lambda: not before & set(pool.pids) and len(pool.pids) == len(before))

    async def test_cancelled_callers(self) -> None:
        """Whoever goes away leaves the worker to the others, be it during the call or before it."""
        async with opened(1) as pool:
            task, process = await held(pool)
            waiting = asyncio.create_task(valid(pool))
            await asyncio.sleep(0.01)
            for each in (task, waiting):
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each
            process.resume()
            assert (await valid(pool)).valid
            assert pool.pids == [process.pid]

    async def test_nothing_is_left(self) -> None:
        """A pool that is closed leaves no process, no zombie and no descriptor."""
        gc.collect()
        me = psutil.Process()
        before = me.num_fds()
        async with opened(2) as pool:
            pool.start()
            await valid(pool)
            with pytest.raises(Stopped):
                await pool.violations("slow", json.dumps(SLOW), "2020-12", json.dumps(SLOW_DATA).encode())
            children = [psutil.Process(pid) for pid in pool.pids]
        assert not any(child.is_running() for child in children)
        await asyncio.sleep(0)
        assert me.num_fds() <= before

    async def test_closing_under_load(self) -> None:
        """Calls that are under way when a pool is closed are given up, and nothing hangs."""
        pool = Pool(1)
        task, process = await held(pool)
        await pool.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not process.is_running()

    def test_of_the_server(self) -> None:
        """Workers of a server that is killed end by themselves."""
        program = (
            "import asyncio, os, signal\n"
            "from schema_user.validation.pool import Pool\n"
            "async def main():\n"
            "    pool = Pool(2)\n"
            "    pool.start()\n"
            "    await pool.violations('k', '{}', '2020-12', b'1')\n"
            "    print(*pool.pids, flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "asyncio.run(main())\n"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == -signal.SIGKILL, run.stderr
        pids = [int(pid) for pid in run.stdout.split()]
        assert len(pids) == 2
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(PATIENT)


class TestQueue:
    async def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes when too many wait is refused at once; those that wait are served."""
        monkeypatch.setattr(pool_module, "MAX_WAITING", 2)
        async with opened(1) as pool:
            task, process = await held(pool)
            waiting = [asyncio.create_task(valid(pool)) for _ in range(2)]
            await asyncio.sleep(0.01)
            with pytest.raises(Crowded):
                await valid(pool)
            process.resume()
            assert all(each.valid for each in await asyncio.gather(task, *waiting))

    async def test_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who waits for too long is refused, and takes no worker along."""
        async with opened(1) as pool:
            task, process = await held(pool)
            monkeypatch.setattr(pool_module, "PATIENCE", 0.05)
            with pytest.raises(Crowded):
                await valid(pool)
            process.resume()
            assert (await task).valid
            assert (await valid(pool)).valid

    async def test_workers_that_cannot_start(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They are tried again and again, more slowly each time; calls are refused, and the log says why."""
        monkeypatch.setattr(pool_module, "PATIENCE", 3)
        async with opened(1, "nonsense") as pool:
            with pytest.raises(Crowded):
                await valid(pool)
        assert "could not start" in caplog.text


class TestShares:
    async def test_the_last_worker_is_for_others(self) -> None:
        """However many calls one makes, a call of another finds a worker."""
        async with opened(2) as pool:
            pool.start()
            text, data = json.dumps(SLOW), json.dumps(SLOW_DATA).encode()
            slow = [asyncio.create_task(pool.violations("slow", text, "2020-12", data, ("a",))) for _ in range(2)]
            assert (await pool.violations("flat", TEXT, "2020-12", GOOD, ("b",))).valid
            assert not all(task.done() for task in slow)
            assert sum(isinstance(each, Stopped) for each in await asyncio.gather(*slow, return_exceptions=True)) == 2

    async def test_one_cannot_fill_the_queue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of those that may wait are of one payer at most."""
        monkeypatch.setattr(pool_module, "MAX_WAITING", 4)
        async with opened(1) as pool:
            task, process = await held(pool)

            def call(payer: str) -> asyncio.Task[Outcome]:
                return asyncio.create_task(pool.violations("flat", TEXT, "2020-12", GOOD, (payer,)))

            greedy = [call("a") for _ in range(3)]
            modest = call("b")
            await asyncio.sleep(0.05)
            process.resume()
            found = await asyncio.gather(*greedy, modest, task, return_exceptions=True)
            assert [isinstance(each, Crowded) for each in found] == [False, False, True, False, False]


class TestBreaker:
    async def test_trips_and_closes(self) -> None:
        """So many strikes within a minute trip it; a minute after the last it is closed."""
        now = [0.0]
        breaker = Breaker(lambda: now[0])
        for _ in range(STRIKES):
            assert not breaker.tripped(["a"])
            breaker.strike(["a", "b"])
            now[0] += 1
        assert breaker.tripped(["a", "b", "c"]) == ["a", "b"]
        now[0] += WINDOW
        assert not breaker.tripped(["a"])

    async def test_rare_strikes(self) -> None:
        """Strikes that are far apart don't count together."""
        now = [0.0]
        breaker = Breaker(lambda: now[0])
        for _ in range(10):
            breaker.strike(["a"])
            now[0] += WINDOW
            assert not breaker.tripped(["a"])

    async def test_turns(self) -> None:
        """One at a time has the turn of a payer, so many wait, and others are refused."""
        breaker = Breaker()
        inside = most = 0

        async def take(payers: list[str]) -> None:
            nonlocal inside, most
            async with breaker.turn(payers):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        tasks = [asyncio.create_task(take(["b", "a"])) for _ in range(MAX_WAITING + 1)]
        await asyncio.sleep(0)
        with pytest.raises(Crowded):
            await take(["a"])
        await asyncio.gather(*tasks)
        assert most == 1
        await take(["a"])

    async def test_forgets(self) -> None:
        """Payers of long ago don't fill the memory."""
        now = [0.0]
        breaker = Breaker(lambda: now[0])
        for number in range(5_000):
            breaker.strike([f"p{number}"])
            now[0] += 1
        assert len(breaker._records) < 1_100

    async def test_leaves_workers_to_others(self) -> None:
        """Calls that are stopped again and again get one worker at a time, and calls of others are answered."""
        async with opened(2) as pool:
            text, data = json.dumps(SLOW), json.dumps(SLOW_DATA).encode()

            async def hostile() -> bool:
                with contextlib.suppress(Crowded):
                    await pool.violations("slow", text, "2020-12", data, ("schema slow",))
                return True

            flood = [asyncio.create_task(hostile()) for _ in range(30)]
            await asyncio.sleep(2)
            for _ in range(20):
                assert (await valid(pool)).valid
            assert not all(task.done() for task in flood)
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)


class FakePool:
    """A pool that counts; what it answers is set."""

    engine = "rust"
    is_busy = False

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.studies: list[str] = []
        self.bound: Bound | None = Bound(10.0, 1, 0.0)
        self.compile_seconds = 0.0
        self.outcome: Outcome | Exception = Outcome(valid=True)

    async def violations(self, key: str, *_: Any) -> Outcome:
        """Answer as set."""
        self.calls.append(key)
        await asyncio.sleep(0)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def study(self, text: str, *_: Any) -> Studied:
        """Answer as set."""
        self.studies.append(text)
        await asyncio.sleep(0)
        found = self.bound
        fields = None if found is None else (found.ns_per_byte, found.chain, found.fixed_ns)
        return Studied(self.compile_seconds, fields)

    async def check(self, *_: Any) -> CheckOutcome:
        """Raise what is set."""
        assert isinstance(self.outcome, Exception)
        raise self.outcome


@pytest.fixture
def fake() -> FakePool:
    """A pool that counts."""
    return FakePool()


@pytest.fixture
def validators(fake: FakePool) -> Validators:
    """Validators before a pool that counts."""
    return Validators(fake, cache_bytes=10**6, max_schema_bytes=10**6)  # type: ignore[arg-type]


async def learned(validators: Validators, schema: UserSchema, data: Any) -> None:
    """Use a schema for the first time, and wait until it was studied."""
    await validators.violations(schema, data)
    await until(lambda: not validators._studies)


class TestHere:
    async def test_after_the_first_use(self, validators: Validators, fake: FakePool) -> None:
        """The first use of a revision goes to a worker, the others are answered here."""
        data = {"name": "Minnie"}
        await learned(validators, SCHEMA, data)
        for _ in range(10):
            assert list(await validators.violations(SCHEMA, data)) == []
        assert (fake.calls, fake.studies) == (["1/1"], [TEXT])

    async def test_a_burst_compiles_once(
        self, validators: Validators, fake: FakePool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many first uses at the same moment make one study, and one compilation here."""
        compiled: list[Any] = []

        def counting(document: dict[str, Any], dialect: str, **options: bool) -> RustValidator:
            compiled.append(document)
            return compile_schema(document, dialect, **options)

        monkeypatch.setattr(validators_module, "compile_schema", counting)
        await asyncio.gather(*(validators.violations(SCHEMA, {"name": "x"}) for _ in range(50)))
        await until(lambda: not validators._studies)
        await asyncio.gather(*(validators.violations(SCHEMA, {"name": "x"}) for _ in range(50)))
        assert (len(fake.studies), compiled) == (1, [FLAT])

    async def test_another_revision(self, validators: Validators, fake: FakePool) -> None:
        """A new revision is never judged by the old one, and the old one stays what it was."""
        data = {"name": "Minnie"}
        await learned(validators, SCHEMA, data)
        second = replace(SCHEMA, revision=2, text=json.dumps({"required": ["badge"]}))
        wrong = Violation("data/badge", "is required", "required")
        fake.outcome = Outcome(valid=False, violations=[wrong])
        for _ in range(3):
            assert list(await validators.violations(second, data)) == [wrong]
            assert list(await validators.violations(SCHEMA, data)) == []
        assert fake.calls == ["1/1", "1/2", "1/2", "1/2"]

    async def test_errors_are_listed_by_a_worker(self, validators: Validators, fake: FakePool) -> None:
        """What is not valid here goes to a worker."""
        await learned(validators, SCHEMA, {"name": "Minnie"})
        await validators.violations(SCHEMA, {"name": 7})
        assert fake.calls == ["1/1", "1/1"]

    @pytest.mark.parametrize(
        ("bound", "compile_seconds", "data"),
        [
            (None, 0.0, {"name": "x"}),
            (Bound(10.0, 1, 0.0), 0.006, {"name": "x"}),
            (Bound(10**6, 1, 0.0), 0.0, {"name": "x" * 10_000}),
            (Bound(1.0, 200, 0.0), 0.0, {"name": [[[]]]}),
            (Bound(1.0, 600, 0.0), 0.0, {"name": "x"}),
            (Bound(1.0, 1, 1e7), 0.0, {"name": "x"}),
        ],
        ids=["no-bound", "slow-to-compile", "too-long", "too-deep", "too-much-in-place", "too-much-once"],
    )
    async def test_not_here(
        self, validators: Validators, fake: FakePool, bound: Bound | None, compile_seconds: float, data: Any
    ) -> None:
        """What has no bound, or one beyond what is allowed, is validated by workers only, and studied once."""
        fake.bound, fake.compile_seconds = bound, compile_seconds
        schema = replace(SCHEMA, text="{}")
        await learned(validators, schema, data)
        await validators.violations(schema, data)
        assert (len(fake.calls), len(fake.studies)) == (2, 1)

    async def test_no_study_while_workers_are_needed(self, validators: Validators, fake: FakePool) -> None:
        """A study takes no worker from those who wait, and comes later."""
        fake.is_busy = True
        await learned(validators, SCHEMA, {"name": "x"})
        assert fake.studies == []
        fake.is_busy = False
        await learned(validators, SCHEMA, {"name": "x"})
        assert len(fake.studies) == 1

    async def test_faults(self, validators: Validators, fake: FakePool) -> None:
        """A stop is 400 by its kind and names the schema; a full queue says when to come again."""
        fake.outcome = Stopped()
        with pytest.raises(Unmet) as stopped:
            await validators.violations(SCHEMA, {"name": "x"})
        assert (stopped.value.reason, stopped.value.metadata["schemaId"]) == ("VALIDATION_BUDGET", "1")
        judged = await validators.check({})
        assert [(each.field, each.reason) for each in judged.violations] == [("schema", "budget")]
        fake.outcome = Crowded()
        for call in (validators.violations(SCHEMA, {}), validators.check({})):
            with pytest.raises(Unavailable) as full:
                await call
            assert (full.value.reason, full.value.retry_after) == ("QUEUE_FULL", 1)

    async def test_stopped_listing(self, validators: Validators, fake: FakePool) -> None:
        """Known to be invalid, and not known why, is one violation of the whole."""
        fake.outcome = Outcome(valid=False, listed=False)
        (violation,) = await validators.violations(SCHEMA, {"name": "x"})
        assert (violation.field, violation.reason) == ("data", "truncated")

    async def test_surrogates(self, validators: Validators, fake: FakePool) -> None:
        """A lone surrogate, which no JSON can carry to a worker, is a violation."""
        (violation,) = await validators.violations(SCHEMA, {"name": "\ud800"})
        assert (violation.field, violation.reason, fake.calls) == ("data/name", "surrogate", [])


def test_allowance() -> None:
    """What is let in in one window never takes more than its share, whatever the bounds; the next begins anew."""
    now = [100.0]
    allowance = Allowance(lambda: now[0])
    taken = 0
    while allowance.admits(0.005):
        allowance.charge(0.001)
        taken += 1
    assert 0.001 * taken <= MAX_SHARE < 0.001 * taken + 0.005 + 1e-9
    assert not allowance.admits(0.005)
    now[0] += 2 * validators_module.WINDOW
    assert allowance.admits(0.005)


class TestWorkerAlone:
    """The worker's own loop, in a thread of this process: what it keeps, and what it answers to the unexpected."""

    @pytest.fixture
    def line(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
        """The server's end of a worker that keeps 50,000 bytes and has no timer."""
        monkeypatch.setattr(worker_module, "_allow", lambda _: None)
        monkeypatch.setattr(worker_module, "_memory", contextlib.nullcontext)
        engine: Engine = engine_named("rust")
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=worker_module.Worker(engine, theirs, held_bytes=50_000).serve)
        thread.start()
        ours.settimeout(PATIENT)
        try:
            assert type(receive(ours)).__name__ == "Ready"
            yield ours
        finally:
            ours.close()
            thread.join()
            theirs.close()

    def test_keeps_what_fits(self, line: socket.socket) -> None:
        """The least recently used schema is asked for again, the others are not."""
        for key, needed in (("a", True), ("b", True), ("a", False), ("c", True), ("a", False), ("b", True)):
            line.sendall(framed(Validate(key, "2020-12", b"1")))
            answer = receive(line)
            assert (type(answer).__name__ == "Need") is needed, key
            if needed:
                line.sendall(framed(SchemaText("{}")))
                answer = receive(line)
            assert type(answer).__name__ == "Verdict"

    def test_unexpected(self, line: socket.socket) -> None:
        """What is out of order is a failure that is told; the worker goes on."""
        line.sendall(framed(SchemaText("{}")))
        assert type(receive(line)).__name__ == "Failed"
        line.sendall(framed(Validate("a", "2020-12", b"1")))
        receive(line)
        line.sendall(framed(Validate("b", "2020-12", b"1")))
        assert type(receive(line)).__name__ == "Failed"
        line.sendall(framed(Check(TEXT.encode(), b"{}", 10_000)))
        assert [type(receive(line)).__name__ for _ in range(3)] == ["Gated", "Verdict", "Listed"]
        line.sendall(framed(Study("2020-12", "{}")))
        assert type(receive(line)).__name__ == "Studied"


def receive(line: socket.socket) -> Reply:
    """Read one frame."""
    size = int(HEADER.unpack(line.recv(HEADER.size, socket.MSG_WAITALL))[0])
    reply: Reply = read_reply(line.recv(size, socket.MSG_WAITALL))
    return reply
