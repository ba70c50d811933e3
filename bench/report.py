"""What the service costs, against the driver's own loop on the same database in the same run.

    make bench
    .venv/bin/python -m bench.report --seconds 1 --rounds 3 --at-once 1 32 --json -

What is measured stands in ``rows.py``. Each round measures every side once; a ratio is that of the service to the
driver in one round, and least, median and most are those over the rounds. A goal is met if the median meets it; one
that is not changes no exit status: what a shared machine does to figures is nobody's fault.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from pymongo import MongoClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.measure import Figures, Spread, circumstances, measured, told_in_a_sentence
from bench.rows import ROWS, SCHEMA, Row, Side, Stage, document
from bench.served import served
from bench.wire import Wire
from schema_user.store.embedded import socket_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.rows import One

FIGURES = ("per_second", "p50", "p99")
_NAMES = {"per_second": "per second", "p50": "p50", "p99": "p99"}
_WARM_SECONDS = 0.6
_SHORT_SECONDS = 0.3
"""For what needs no other process: nothing there takes time to settle."""

Results = dict[tuple[str, int], list[Figures]]
"""The rounds of each side, by its name and the number of clients."""


def plan(asked: list[int]) -> list[tuple[Side, int]]:
    """List each side once for each number of clients, those that are compared beside each other."""
    found: dict[tuple[str, int], tuple[Side, int]] = {}
    for number in sorted({*asked, *(each for row in ROWS for each in row.at_once or ())}):
        for row in ROWS:
            if number in clients(row, asked):
                for side in (row.base, row.side):
                    if side is not None:
                        found.setdefault((side.name, number), (side, number))
    return list(found.values())


def clients(row: Row, asked: list[int]) -> list[int]:
    """Give the numbers of clients that a row is measured with."""
    return sorted(set(asked if row.at_once is None else row.at_once))


async def run(stage: Stage, options: argparse.Namespace, say: Callable[[str], None]) -> Results:
    """Measure everything, round by round; ``say`` hears what comes next."""
    results: Results = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        opened: list[tuple[Side, int, One]] = []
        for side, number in plan(options.at_once):
            # The first calls open connections, for which the driver takes a second and more with many clients.
            say(f"warming up: {side.name}, {number} at once")
            one = await stack.enter_async_context(side.opened(stage, number))
            await measured(one, number, _WARM_SECONDS if side.calls == 1 else 0.05)
            opened.append((side, number, one))
        for index in range(options.rounds):
            # Every second round goes backwards, so that a machine that gets slower (or faster) favours no side.
            for side, number, one in opened[:: -1 if index % 2 else 1]:
                say(f"round {index + 1} of {options.rounds}: {side.name}, {number} at once")
                seconds = options.seconds if side.calls == 1 else min(options.seconds, _SHORT_SECONDS)
                results[side.name, number].append(await measured(one, number, seconds, side.calls))
    return results


async def prepared(port: int, token: str, uri: str, most: int) -> Stage:
    """Make a schema and the users."""
    async with Wire(port, token) as wire:
        kind = {"type": f"bench-{time.time_ns()}", "schema": SCHEMA}
        schema = await wire.ok("POST", "/v3alpha/user_schemas", kind)
        body = {"schemaId": schema["id"], "data": document(0)}
        users = [(await wire.ok("POST", "/v3alpha/users", body))["userId"] for _ in range(most)]
    return Stage(port, token, uri, users)


def ratios(results: Results, row: Row, number: int) -> dict[str, Spread]:
    """Give the ratio of each figure to the base's, round by round; empty for a row without a base."""
    if row.base is None:
        return {}
    pairs = list(zip(results[row.side.name, number], results[row.base.name, number], strict=True))
    return {
        figure: Spread.of(getattr(mine, figure) / getattr(other, figure) for mine, other in pairs) for figure in FIGURES
    }


def share(results: Results, row: Row, asked: list[int]) -> Spread | None:
    """Give the share of the time of one of another side (at the most clients) that one of this takes."""
    if not row.share_of:
        return None
    mine, other = results[row.side.name, clients(row, asked)[0]], results[row.share_of, max(asked)]
    return Spread.of(whole.per_second / part.per_second for part, whole in zip(mine, other, strict=True))


def figures_table(results: Results) -> Table:
    """Draw what was measured, a line for each side and number of clients."""
    drawn = Table(title="Measured: least / median / most of the rounds")
    for name in ("what", "at once", "per second", "p50 ms", "p99 ms", "client µs"):
        drawn.add_column(name, justify="left" if name == "what" else "right")
    for (name, number), rounds in sorted(results.items(), key=lambda each: (each[0][0].split(":")[0], each[0][1])):
        spread = {figure: Spread.of(getattr(each, figure) for each in rounds) for figure in (*FIGURES, "client_us")}
        form = ".2f" if spread["p50"].median >= 0.1 else ".4f"
        drawn.add_row(
            name,
            str(number),
            spread["per_second"].text(",.0f"),
            spread["p50"].text(form),
            spread["p99"].text(form),
            f"{spread['client_us'].median:,.1f}",
        )
    return drawn


def ratios_table(results: Results, asked: list[int]) -> Table:
    """Draw the ratios with the goals beside them."""
    drawn = Table(title="Service to driver, by the round")
    for name in ("what", "at once", "figure", "min", "median", "max", "goal", "met"):
        drawn.add_column(name, justify="right" if name in {"at once", "min", "median", "max"} else "left")
    for row in ROWS:
        for number in clients(row, asked):
            for figure, spread in ratios(results, row, number).items():
                goal = next((each for each in row.goals if (each.at_once, each.figure) == (number, figure)), None)
                met = "" if goal is None else "[green]yes[/]" if goal.met(spread.median) else "[red]no[/]"
                least, median, most = (f"{each:.2f}" for each in (spread.min, spread.median, spread.max))
                wanted = "" if goal is None else str(goal)
                name = f"{row.side.name} / driver"
                drawn.add_row(name, str(number), _NAMES[figure], least, median, most, wanted, met)
            drawn.add_section()
        if (part := share(results, row, asked)) is not None:
            shown = [f"{each:.3%}" for each in (part.min, part.median, part.max)]
            drawn.add_row(row.side.name, "", f"of one {row.share_of}", *shown, "", "")
    return drawn


def as_json(results: Results, options: argparse.Namespace, mongod: str) -> dict[str, Any]:
    """Give everything as JSON: per second, milliseconds (p50, p99) and microseconds (client_us)."""
    rows = []
    for row in ROWS:
        for number in clients(row, options.at_once):
            compared = ratios(results, row, number)
            part = share(results, row, options.at_once)
            goals = [
                {"figure": goal.figure, "goal": str(goal), "met": goal.met(compared[goal.figure].median)}
                for goal in row.goals
                if goal.at_once == number
            ]
            rows.append(
                {
                    "row": row.side.name,
                    "base": row.base and row.base.name,
                    "at_once": number,
                    "ratios": {figure: asdict(spread) for figure, spread in compared.items()},
                    "goals": goals,
                    "share": part and {"of": row.share_of, **asdict(part)},
                }
            )
    sides = [
        {
            "side": name,
            "at_once": number,
            **{
                figure: asdict(Spread.of(getattr(each, figure) for each in rounds))
                for figure in (*FIGURES, "client_us")
            },
            "rounds": [asdict(each) for each in rounds],
        }
        for (name, number), rounds in results.items()
    ]
    settings = {"rounds": options.rounds, "seconds": options.seconds, "processes": options.processes}
    return {**circumstances(mongod), **settings, "rows": rows, "sides": sides}


@contextlib.contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Show how far it is, and what comes next whenever ``say`` is called.

    It is drawn between measurements only: drawing takes processor time from what is measured.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun = -1

        def say(what: str) -> None:
            nonlocal begun
            begun += 1
            bar.update(task, completed=begun, description=what, refresh=True)
            if not console.is_terminal:
                console.print(what, markup=False, soft_wrap=True)

        yield say
        bar.update(task, completed=total, refresh=True)


def write_json(made: dict[str, Any], where: str) -> None:
    """Write JSON to a file, or to the standard output for ``-``."""
    text = json.dumps(made, indent=2) + "\n"
    if where == "-":
        sys.stdout.write(text)
    else:
        Path(where).write_text(text, encoding="utf-8")


def mongod_version(uri: str) -> str:
    """Ask the database for its version."""
    with MongoClient[dict[str, Any]](uri) as client:
        return str(client.server_info()["version"])


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at-once", type=_positive, nargs="+", default=[1, 32, 128], help="clients (1 32 128)")
    parser.add_argument("--rounds", type=_positive, default=5, help="of every measurement (5)")
    parser.add_argument("--seconds", type=float, default=2, help="of one measurement (2)")
    parser.add_argument("--processes", type=_positive, default=1, help="of the server that answer HTTP (1)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too; - is the standard output")
    options = parser.parse_args(arguments)
    options.at_once = sorted(set(options.at_once))
    beside = Console(stderr=True)
    console = beside if options.json == "-" else Console(width=None if sys.stdout.isatty() else 160)
    planned = plan(options.at_once)
    with told_in_a_sentence(), tempfile.TemporaryDirectory(prefix="su-", ignore_cleanup_errors=True) as folder:
        beside.print("Starting a server on a fresh database ...")
        uri = socket_uri(Path(folder))
        with served(Path(folder), options.processes) as server:
            most = max(number for _, number in planned)
            stage = asyncio.run(prepared(server.port, server.token, uri, most))
            with progress(beside, len(planned) * (options.rounds + 1)) as say:
                results = uvloop.run(run(stage, options, say))  # faster than asyncio's own loop for both sides
            mongod = mongod_version(uri)
    console.print(figures_table(results))
    console.print(ratios_table(results, options.at_once))
    if options.json:
        write_json(as_json(results, options, mongod), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
