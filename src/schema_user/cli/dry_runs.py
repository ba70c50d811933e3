"""``schema-user schema dry-run``: what another text of a schema would mean for the users that are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from schema_user.cli import transformations
from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from schema_user.api.v3alpha.dry_runs import DryRunView
    from schema_user.api.v3alpha.revisions import DifferenceView
    from schema_user.domain.comparison import Difference
    from schema_user.domain.job import Job
    from schema_user.settings import Settings
    from schema_user.wiring import Wiring

_LOOK: Final = 0.25
"""Seconds between two looks at how far the job is."""

_ENDING: Final = 3.0
"""Seconds in which a job that was cancelled may end."""

_NAMED: Final = 3
"""Users that the table names for a violation."""


def add_to(schema: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action to those of ``schema-user schema``."""
    dry_run = schema.add_parser(
        "dry-run", help="judge the stored users by a JSON Schema; status 1 if any of them would not pass"
    )
    dry_run.add_argument("file", type=Path, metavar="FILE")
    dry_run.add_argument(
        "--schema", metavar="ID|TYPE", help="the schema that it is to be a revision of; absent: the type is FILE's name"
    )
    transformations.add_to(dry_run)
    dry_run.add_argument("--json", action="store_true", help="answer as GET /v3alpha/user_schemas/{id}/dry_run/{jobId}")
    dry_run.set_defaults(run=_dry_run)


def _dry_run(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    import msgspec

    from schema_user.api.v3alpha.dry_runs import dry_run_view
    from schema_user.api.v3alpha.jobs import JobStateName

    view = dry_run_view(asyncio.run(_judged(options, settings)))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
    else:
        _show(view)
    return 0 if view.state is JobStateName.DONE and not view.failed else 1


async def _judged(options: argparse.Namespace, settings: Settings) -> Job:
    from schema_user.api.body import decode
    from schema_user.api.v3alpha.dry_runs import DryRunBody
    from schema_user.cli.rooms import rooms
    from schema_user.cli.schemas import json_file
    from schema_user.commands.dry_runs import start_dry_run
    from schema_user.commands.tokens import OPERATOR

    body = decode(b'{"schema":%s}' % json_file(options.file), DryRunBody, settings.body_max_depth)
    asked = transformations.transformation_of(options)
    async with rooms(settings) as opened:
        hint = "" if options.schema else "; name one by --schema"
        schema_id = await found_schema(opened.wiring, options.schema or options.file.stem, hint)
        started = await start_dry_run(opened.wiring, OPERATOR, schema_id, body.schema, asked if asked.changes else None)
        return await followed(opened.wiring, started.job, "judging users")


async def found_schema(wiring: Wiring, wanted: str, hint: str = "") -> str:
    """Find a schema by its id or its type; ``hint`` is added if there is none."""
    from schema_user.domain.search import Text, TextMethod

    if await wiring.schemas.find(wanted) is not None:
        return wanted
    found = await wiring.schemas.ids_of(Text("type", wanted, TextMethod.EQUALS))
    if len(found) != 1:
        ids = f"; several have it, name one by its id: {', '.join(sorted(found))}" if found else hint
        raise SettingsError([f"there is not one user schema with the id or type {wanted}{ids}."])
    return found[0]


async def followed(wiring: Wiring, job: Job, words: str) -> Job:
    """Run a job here, unless a server does already, and show how far it is until it ends; Ctrl-C cancels it."""
    import asyncio

    from rich.progress import Progress

    from schema_user.cli.terminal import OUT
    from schema_user.commands.jobs import cancel_job
    from schema_user.jobs.kinds import KINDS
    from schema_user.jobs.runner import Runner

    runner = Runner(wiring, KINDS)

    async def work() -> None:
        while (seen := await wiring.jobs.find(job.job_id)) is not None and not seen.state.ended:
            if not await runner.run_next(job.job_id):
                await asyncio.sleep(_LOOK)

    working = asyncio.create_task(work())
    try:
        with Progress(console=OUT, transient=True) as progress:
            bar = progress.add_task(words, total=None)
            while not (job := await wiring.jobs.find(job.job_id) or job).state.ended:
                progress.update(bar, completed=job.progress.done, total=job.progress.total or None)
                await asyncio.sleep(_LOOK)
    except asyncio.CancelledError:
        await cancel_job(wiring, job)
        await asyncio.wait({working}, timeout=_ENDING)
        raise
    finally:
        working.cancel()
        await asyncio.wait({working})
    return job


def show_differences(differences: Sequence[Difference | DifferenceView]) -> None:
    """Print what changes from one schema to another as a table, or nothing."""
    from rich.box import HEAVY_HEAD
    from rich.table import Table
    from rich.text import Text

    from schema_user.cli.terminal import printable, unbroken

    if not differences:
        return
    out = unbroken()
    table = Table("where", "what changes", "", box=HEAVY_HEAD if out.is_terminal else None)
    for each in differences:
        style, word = _MEANINGS[each.breaking]
        table.add_row(Text(printable(each.pointer)), Text(printable(each.description)), Text(word, style))
    out.print(table)


_MEANINGS: Final = {True: ("red", "breaking"), False: ("green", "safe"), None: ("yellow", "unknown")}


def _show(view: DryRunView) -> None:
    """Print what was found, in colours and frames only at a terminal; elsewhere no line is broken."""
    from rich.box import HEAVY_HEAD
    from rich.table import Table
    from rich.text import Text

    from schema_user.cli.terminal import counted, printable, unbroken

    out = unbroken()
    box = HEAVY_HEAD if out.is_terminal else None
    show_differences(view.differences)
    if view.failing:
        table = Table("users", "where", "rule", "what", "such as", box=box)
        for group in view.failing:
            found = group.violation
            cells = [found.field, found.reason, found.description, ", ".join(group.users[:_NAMED])]
            table.add_row(str(group.count), *(Text(printable(each), overflow="fold") for each in cells))
        out.print(table)
    if view.more_violations:
        out.print(f"and {view.more_violations} more, of other violations")
    if view.error:
        out.print(f"the dry run failed: {view.error}", style="red")
    compared = view.verdict or "unknown"
    users = counted(view.done, "user")
    out.print(f"the schemas: {compared}; of {users} {view.passed} would pass, {view.failed} would not")
