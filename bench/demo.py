"""Show what an update of a user is worth, on a real server and a real resume.

    make demo
    .venv/bin/python -m bench.demo --updates 10000 --clients 32 --users 100 --processes 2

A server is started on a fresh database and given JSON Resume as a user schema and its sample person as a user. Then
many clients update that one user at once, half of the time with data that the schema forbids, and the answers are held
against the service's promises; then as many updates go to many users. The exit status is 1 if a promise was broken.

Two HTTP processes serve: within one, the writers of a user wait for their turn, and only between two does the guard of
the write in the database decide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.ledger import Promise, UserLedger
from bench.load import MEBIBYTE, Load, Phase
from bench.resume import ResumeError, fetch
from bench.served import Served, ServedError, served
from bench.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from bench.resume import Resume

_INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended, as shells know it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and give its exit status."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        console.print("Fetching JSON Resume through npm ...")
        resume = fetch()
        with tempfile.TemporaryDirectory(prefix="su-", ignore_cleanup_errors=True) as folder:
            console.print("Starting a server on a fresh database ...")
            with served(Path(folder), options.processes) as server:
                phases = asyncio.run(_phases(server, resume, options, console))
                broken = _report(console, phases)
                if broken:
                    console.print(f"The end of the server's log:\n{server.tail()}", markup=False, soft_wrap=True)
    except (ResumeError, ServedError, WireError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return _INTERRUPTED
    return 1 if broken else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description="Update users from many clients at once.")
    parser.add_argument("--updates", type=_positive, default=10_000, help="in each of the two loads (10000)")
    parser.add_argument("--clients", type=_positive, default=32, help="at once (32)")
    parser.add_argument("--processes", type=_positive, default=2, help="of the server that answer HTTP (2)")
    parser.add_argument("--users", type=int, default=100, help="of the second load; 0: leave it out (100)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM, which make hands on, as a Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


async def _phases(server: Served, resume: Resume, options: argparse.Namespace, console: Console) -> list[Phase]:
    async with Wire(server.port, server.token) as wire:
        schema = await wire.ok("POST", "/v3alpha/user_schemas", {"type": "resume", "schema": resume.schema})
        for warning in schema.get("warnings", ()):
            console.print(f"Warning about the schema: {warning['field']} {warning['description']}", markup=False)

        async def ledgers(count: int) -> list[UserLedger]:
            body = {"schemaId": schema["id"], "data": resume.sample}
            return [UserLedger((await wire.ok("POST", "/v3alpha/users", body))["userId"]) for _ in range(count)]

        phases = [Phase("one user", await ledgers(1))]
        if options.users > 0:
            phases.append(Phase(f"{options.users} users", await ledgers(options.users)))
    for phase in phases:
        with _progress(console, phase.name, options.updates) as advance:
            await Load(server, resume, phase, advance).run(options.updates, options.clients)
    return phases


@contextlib.contextmanager
def _progress(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how far a load is: a bar on a terminal, else a line at each tenth."""
    title = f"Updating {name}"
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * 10 // total > (done - 1) * 10 // total:
            console.print(f"{title}: {done} of {total}")

    yield advance


def _report(console: Console, phases: list[Phase]) -> bool:
    """Print the figures and the verdicts; True if a promise was broken."""
    figures = Table("", *(phase.name for phase in phases), title="What was measured")
    columns = [_figures(phase) for phase in phases]
    for name in columns[0]:
        figures.add_row(name, *(column[name] for column in columns))
    console.print(figures)
    verdicts = Table("promise", "verdict", title="What was promised")
    broken = 0
    for promise in Promise:
        count = sum(phase.breaches.count[promise] for phase in phases)
        broken += count
        verdicts.add_row(promise, f"[red]broken ({count})[/]" if count else "[green]kept[/]")
    console.print(verdicts)
    for phase in phases:
        for promise, shown in phase.breaches.shown.items():
            for what in shown:
                console.print(f"{phase.name}: {promise.name}: {what}", markup=False, soft_wrap=True)
    return broken > 0


def _figures(phase: Phase) -> dict[str, str]:
    before, after = (each / MEBIBYTE for each in phase.growth())
    done = len(phase.valid) + len(phase.invalid)
    return {
        "updates": f"{done}",
        "valid, answered 200": f"{len(phase.valid)}",
        "invalid, refused": f"{len(phase.invalid)}",
        "409, sent again": f"{phase.lost}",
        "updates per second": f"{done / phase.seconds:.0f}",
        "valid: p50 / p99": _times(phase.valid),
        "invalid: p50 / p99": _times(phase.invalid),
        "connections by process": " + ".join(map(str, phase.spread)) or "-",
        "memory, second fifth": f"{before:.1f} MiB",
        "memory, last fifth": f"{after:.1f} MiB ({after - before:+.1f})",
    }


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000 for share in (50, 99))
    return f"{p50:.1f} / {p99:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
