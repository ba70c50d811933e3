"""``schema-user schema diff`` and ``schema-user schema migrate``: what changed between revisions, and moving users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schema_user.cli import transformations
from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse

    from schema_user.api.v3alpha.migrations import MigrationView
    from schema_user.domain.comparison import Comparison
    from schema_user.domain.job import Job
    from schema_user.domain.schema import UserSchema
    from schema_user.settings import Settings

_NAMED: Final = 20
"""Users that the table names."""

_EXAMPLES: Final = 3

_TWO: Final = 2


def add_to(schema: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the actions to those of ``schema-user schema``."""
    diff = schema.add_parser("diff", help="say what changed between two JSON Schemas; status 1 unless that is safe")
    diff.add_argument("files", type=Path, nargs="*", metavar="FILE", help="two files; absent: revisions of --schema")
    diff.add_argument("--schema", metavar="ID|TYPE", help="a user schema")
    diff.add_argument("--from", dest="before", type=int, metavar="N", help="its revision before; absent: before --to")
    diff.add_argument("--to", dest="after", type=int, metavar="N", help="its revision after; absent: the current one")
    diff.set_defaults(run=_diff)
    migrate = schema.add_parser("migrate", help="move users to a schema's current revision; status 1 if any fails")
    migrate.add_argument("schema", metavar="ID|TYPE")
    migrate.add_argument("--from-schema", metavar="ID|TYPE", help="move the users of this schema instead of its own")
    transformations.add_to(migrate)
    migrate.add_argument("--dry-run", action="store_true", help="write nothing, and say what would become of the users")
    migrate.add_argument("--json", action="store_true", help="answer as GET …/migrations/{jobId}")
    migrate.set_defaults(run=_migrate)


def _diff(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from schema_user.domain.comparison import Verdict

    if len(options.files) not in {0, _TWO} or bool(options.files) == bool(options.schema):
        raise SettingsError(["Name two files, or a user schema by --schema."])
    compared = asyncio.run(_of_files(options, settings) if options.files else _of_revisions(options, settings))
    _show_differences(compared)
    return 0 if compared.verdict is Verdict.SAFE else 1


async def _of_files(options: argparse.Namespace, settings: Settings) -> Comparison:
    from schema_user.validation.pool import Pool
    from schema_user.validation.validators import Validators

    pool = Pool(1, settings.validator)
    try:
        validators = Validators(pool, cache_bytes=0, max_schema_bytes=settings.schema_max_bytes)
        old, new = [await _taken(validators, path) for path in options.files]
        return await validators.compare(old, new)
    finally:
        await pool.close()


async def _taken(validators: Any, path: Path) -> UserSchema:
    """Read a schema that the gate takes."""
    import json
    from datetime import UTC, datetime

    from schema_user.cli.schemas import json_file
    from schema_user.domain.schema import SchemaState, UserSchema

    raw = json_file(path)
    judged = await validators.check(json.loads(raw))
    if judged.violations:
        first = judged.violations[0]
        raise SettingsError([f"{path} is not taken: {first.field} {first.description}"])
    now = datetime.now(UTC)
    return UserSchema(
        schema_id=path.name,
        organization_id=None,
        type=path.stem,
        revision=1,
        text=raw.decode(),
        dialect=judged.dialect,
        state=SchemaState.ACTIVE,
        authenticators=(),
        created_at=now,
        changed_at=now,
    )


async def _of_revisions(options: argparse.Namespace, settings: Settings) -> Comparison:
    from schema_user.cli.dry_runs import found_schema
    from schema_user.cli.rooms import rooms
    from schema_user.commands.tokens import OPERATOR
    from schema_user.queries import compare_revisions

    async with rooms(settings) as opened:
        schema_id = await found_schema(opened.wiring, options.schema)
        compared = await compare_revisions(opened.wiring, OPERATOR, schema_id, options.before, options.after)
        return compared.comparison


def _show_differences(compared: Comparison) -> None:
    from schema_user.cli.dry_runs import show_differences
    from schema_user.cli.terminal import unbroken

    show_differences(compared.differences)
    style = {"safe": "green", "breaking": "red"}.get(compared.verdict.value, "yellow")
    unbroken().print(compared.verdict.value, style=style)


def _migrate(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    import msgspec

    from schema_user.api.v3alpha.jobs import JobStateName
    from schema_user.api.v3alpha.migrations import migration_view

    view = migration_view(asyncio.run(_moved(options, settings)))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
    else:
        _show(view)
    return 0 if view.state is JobStateName.DONE and not view.failed else 1


async def _moved(options: argparse.Namespace, settings: Settings) -> Job:
    import msgspec

    from schema_user.cli.dry_runs import followed, found_schema
    from schema_user.cli.rooms import rooms
    from schema_user.commands.migrations import start_migration
    from schema_user.commands.tokens import OPERATOR
    from schema_user.domain.migration import Migration

    async with rooms(settings) as opened:
        wiring = opened.wiring
        schema_id = await found_schema(wiring, options.schema)
        head = await wiring.schemas.find(schema_id)
        migration = Migration(
            **msgspec.structs.asdict(transformations.transformation_of(options)),
            to_revision=head.revision if head else 0,
            from_schema_id=await found_schema(wiring, options.from_schema) if options.from_schema else None,
            rehearsed=options.dry_run,
        )
        started = await start_migration(wiring, OPERATOR, schema_id, migration)
        return await followed(wiring, started.job, "trying users" if options.dry_run else "moving users")


def _show(view: MigrationView) -> None:
    """Print who failed, in colours and a frame only at a terminal; elsewhere no line is broken."""
    from rich.box import HEAVY_HEAD
    from rich.table import Table
    from rich.text import Text

    from schema_user.cli.terminal import counted, printable, unbroken

    out = unbroken()
    if view.failures:
        table = Table("user", "why", "where", "what", box=HEAVY_HEAD if out.is_terminal else None)
        for each in view.failures[:_NAMED]:
            first = each.violations[0] if each.violations else None
            cells = [each.user_id, each.reason, first.field if first else "", first.description if first else ""]
            table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
        out.print(table)
    if view.error:
        out.print(f"the migration failed: {view.error}", style="red")
    style = "red" if view.failed or view.error else "green"
    if view.dry_run:
        examples = f" (such as {', '.join(map(printable, view.examples[:_EXAMPLES]))})" if view.examples else ""
        moved = f"{counted(view.moved, 'user')} would be moved{examples}"
        out.print(f"{moved}, {view.skipped} left alone, {view.failed} would fail; nothing was written", style=style)
    else:
        out.print(f"{counted(view.moved, 'user')} moved, {view.skipped} left alone, {view.failed} failed", style=style)
