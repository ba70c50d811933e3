"""``schema-user schema``: work with JSON Schemas, beside a server or without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schema_user.cli import dry_runs, migrations
from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse

    from schema_user.api.v3alpha.schemas import CheckBody, CheckedView
    from schema_user.settings import Settings
    from schema_user.validation.validators import Judged


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its action."""
    schema = commands.add_parser("schema", help="work with JSON Schemas").add_subparsers(
        required=True, metavar="ACTION"
    )
    check = schema.add_parser("check", help="check a JSON Schema as an upload would; status 1 if it is refused")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--data", type=Path, metavar="FILE", help="a document to validate under it")
    check.add_argument("--json", action="store_true", help="answer as POST /v3alpha/user_schemas/check does")
    check.set_defaults(run=_check)
    dry_runs.add_to(schema)
    migrations.add_to(schema)


def _check(options: argparse.Namespace, settings: Settings) -> int:
    """Check a schema, and data under it, as ``POST /v3alpha/user_schemas/check`` does, without a server."""
    import msgspec

    from schema_user.api.v3alpha.schemas import CheckedView
    from schema_user.api.v3alpha.users import violation_views
    from schema_user.validation.engines import engine_named

    engine_named(settings.validator)  # says what is missing, if something is
    judged = _judged(settings, _body(options))
    view = CheckedView(
        valid=not judged.violations,
        violations=violation_views(judged.violations),
        warnings=violation_views(judged.warnings),
    )
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
    else:
        _show(view, taken=bool(judged.dialect), with_data=options.data is not None)
    return 0 if view.valid else 1


def _body(options: argparse.Namespace) -> bytes:
    """Write what the files hold as the body of a request."""
    parts = {"schema": json_file(options.file)}
    if options.data is not None:
        parts["data"] = json_file(options.data)
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), part) for name, part in parts.items()) + b"}"


def json_file(path: Path) -> bytes:
    """Read a file that must hold JSON."""
    import json

    try:
        raw = path.read_bytes()
        json.loads(raw.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError([f"{path} cannot be read as JSON: {error}"]) from None
    return raw


def _judged(settings: Settings, raw: bytes) -> Judged:
    """Judge the body of a request; what even the decoding refuses is a judgement too."""
    import asyncio

    from schema_user.api.body import decode
    from schema_user.api.v3alpha.schemas import CheckBody
    from schema_user.errors import Malformed
    from schema_user.validation.validators import Judged

    try:
        body = decode(raw, CheckBody, settings.body_max_depth)
    except Malformed as fault:
        return Judged(fault.violations, (), "")
    return asyncio.run(_judge(settings, body))


async def _judge(settings: Settings, body: CheckBody) -> Judged:
    from schema_user.validation.pool import Pool
    from schema_user.validation.validators import Validators

    pool = Pool(1, settings.validator)
    try:
        validators = Validators(pool, cache_bytes=0, max_schema_bytes=settings.schema_max_bytes)
        return await validators.check(body.schema, body.data)
    finally:
        await pool.close()


def _show(view: CheckedView, *, taken: bool, with_data: bool) -> None:
    """Print what was found as a table, in colours and a frame only at a terminal; elsewhere no line is broken."""
    from rich.box import HEAVY_HEAD
    from rich.table import Table
    from rich.text import Text

    from schema_user.cli.terminal import printable, unbroken

    out = unbroken()
    table = Table("", "where", "rule", "what", box=HEAVY_HEAD if out.is_terminal else None)
    for kind, style, found in (("refused", "red", view.violations), ("warning", "yellow", view.warnings)):
        for each in found:
            cells = map(printable, (each.field, each.reason, each.description))
            table.add_row(Text(kind, style), *(Text(cell, overflow="fold") for cell in cells))
    if table.row_count:
        out.print(table)
    if not taken or any(each.field.split("/")[0] == "schema" for each in view.violations):
        out.print("refused", style="red")
    elif view.violations:
        out.print("the schema would be taken, but the data does not match it", style="red")
    else:
        out.print("would be taken, and the data matches it" if with_data else "would be taken", style="green")
