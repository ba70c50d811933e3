"""Measuring one side of a row, and the machine it was measured on."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.served import ServedError
from bench.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.rows import One


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one side.

    ``p50`` and ``p99`` are milliseconds of one call; ``client_us`` are microseconds of this process's processor time
    for each, which with the driver is the driver's own work.
    """

    per_second: float
    p50: float
    p99: float
    client_us: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the median and the most of some rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Spread over values, one at least."""
        listed = list(values)
        return cls(min(listed), statistics.median(listed), max(listed))

    def text(self, form: str) -> str:
        """Write the three numbers, each in a form such as ``,.0f``."""
        return " / ".join(format(each, form) for each in (self.min, self.median, self.max))


async def measured(one: One, at_once: int, seconds: float, calls: int = 1) -> Figures:
    """Do it over and over from ``at_once`` clients for some seconds; each call does it ``calls`` times."""
    latencies: list[float] = []
    clock = time.perf_counter
    cpu, begun = time.process_time(), clock()
    end = begun + seconds

    async def client(index: int) -> None:
        before = clock()
        while before < end:
            await one(index)
            after = clock()
            latencies.append(after - before)
            before = after

    try:
        async with asyncio.TaskGroup() as group:
            for index in range(at_once):
                group.create_task(client(index))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first tells what the others were
    took, spent = clock() - begun, time.process_time() - cpu
    latencies.sort()
    p50, p99 = (latencies[len(latencies) * share // 100] * 1000 / calls for share in (50, 99))
    done = len(latencies) * calls
    return Figures(done / took, p50, p99, spent / done * 1e6)


def circumstances(mongod: str) -> dict[str, Any]:
    """Say on what, when and with which versions a run was made; memory in bytes."""
    packages = ("pymongo", "litestar", "granian", "uvloop", "jsonschema-rs", "msgspec")
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages} | {"mongod": mongod},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


@contextlib.contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """End the program, with one sentence and a status, where a server or the person at the keyboard ends a run."""
    try:
        yield
    except (ServedError, WireError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
