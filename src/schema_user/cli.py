"""The command ``schema-user``: serve, worker, token, schema, doctor."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from schema_user.api.body import decode
from schema_user.api.v3alpha.schemas import CheckBody, CheckedView
from schema_user.api.v3alpha.users import violation_views
from schema_user.app import wired
from schema_user.commands.tokens import OPERATOR, CreateToken, create_token, revoke_token
from schema_user.delivery.email import parse_sender, parse_smtp_url
from schema_user.domain.caller import Grant
from schema_user.domain.duration import parse_duration
from schema_user.domain.keyring import SealError
from schema_user.domain.permission import Role
from schema_user.domain.search import AllOf, Page
from schema_user.errors import Fault, Malformed
from schema_user.logs import configure_logging
from schema_user.queries import search_tokens
from schema_user.settings import PREFIX, Settings, SettingsError, read_settings
from schema_user.store.embedded import LocalDatabaseFault, connect_or_start
from schema_user.validation.engines import engine_named
from schema_user.validation.pool import Pool
from schema_user.validation.validators import Judged, Validators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from schema_user.app import Rooms

_OUT = Console(highlight=False)
_NO_TERMINAL = 10_000
"""Columns of a pipe or a file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; what goes wrong is said in a sentence, and the exit status is 1."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        engine_named(settings.validator)  # says what is missing, if something is
        return int(options.run(options, settings) or 0)
    except (SettingsError, LocalDatabaseFault, Fault, SealError, OSError, ModuleNotFoundError) as error:
        print(f"schema-user: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="schema-user", description="A user-data service for your own user types.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve HTTP; settings come from SCHEMA_USER_* variables")
    serve.set_defaults(run=_serve)
    worker = commands.add_parser("worker", help="deliver messages, beside servers that run elsewhere")
    worker.set_defaults(run=_worker)
    doctor = commands.add_parser("doctor", help="show what is set, what is wrong and what would be better")
    doctor.set_defaults(run=_doctor)

    token = commands.add_parser("token", help="create, list and revoke bearer tokens").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = token.add_parser("create", help="create a token and print it once")
    create.add_argument("name", help="what the token is for")
    create.add_argument(
        "--role", action="append", default=[], metavar="ROLE[@ORGANIZATION]", help="may be given several times"
    )
    create.add_argument("--user", help="the id of the user that the token acts as")
    create.add_argument("--expires-in", metavar="DURATION", help="such as 12h or 90d; absent: never")
    create.set_defaults(run=_token_create)
    token.add_parser("list", help="list the tokens").set_defaults(run=_token_list)
    revoke = token.add_parser("revoke", help="revoke a token; it is refused everywhere within five seconds")
    revoke.add_argument("token_id", metavar="TOKEN_ID")
    revoke.set_defaults(run=_token_revoke)

    schema = commands.add_parser("schema", help="work with JSON Schemas").add_subparsers(
        required=True, metavar="ACTION"
    )
    check = schema.add_parser("check", help="check a JSON Schema as an upload would; status 1 if it is refused")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--data", type=Path, metavar="FILE", help="a document to validate under it")
    check.add_argument("--json", action="store_true", help="answer as POST /v3alpha/user_schemas/check does")
    check.set_defaults(run=_schema_check)
    return parser


def _require_mail(settings: Settings) -> None:
    """Raise SettingsError for what the mail of this deployment could not be sent from or through."""
    try:
        parse_sender(settings.mail_from)
        if settings.smtp_url is not None:
            parse_smtp_url(settings.smtp_url)
    except ValueError as error:
        raise SettingsError([f"{error}."]) from None


def _serve(_options: argparse.Namespace, settings: Settings) -> None:
    _require_mail(settings)
    from schema_user.server import serve  # noqa: PLC0415 -- the HTTP server is loaded only to serve

    serve(settings)


def _worker(_options: argparse.Namespace, settings: Settings) -> None:
    _require_mail(settings)
    from schema_user.app import run_worker  # noqa: PLC0415 -- as above

    with _database(settings):
        asyncio.run(run_worker(settings))


def _database(settings: Settings) -> contextlib.AbstractContextManager[object]:
    """Give the running local database, or start it for this command; nothing if another one is set."""
    return connect_or_start(settings.data_dir) if settings.embedded else contextlib.nullcontext()


@contextlib.asynccontextmanager
async def _rooms(settings: Settings) -> AsyncIterator[Rooms]:
    with _database(settings):
        async with wired(settings) as rooms:
            yield rooms


def _grant(text: str) -> Grant:
    name, _, organization_id = text.partition("@")
    if name not in Role.__members__:
        raise SettingsError([f"{name} is not a role; roles are {', '.join(Role)}."])
    return Grant(Role(name), organization_id or None)


def _token_create(options: argparse.Namespace, settings: Settings) -> None:
    expires_at = None
    if options.expires_in:
        try:
            expires_at = datetime.now(UTC) + parse_duration(options.expires_in)
        except ValueError:
            raise SettingsError(["--expires-in must be a duration such as 12h or 90d."]) from None
    command = CreateToken(options.name, tuple(map(_grant, options.role)), options.user, expires_at)

    async def run() -> None:
        async with _rooms(settings) as rooms:
            made = await create_token(rooms.wiring, OPERATOR, command)
            print(made.secret)
            print(f"token id {made.token.token_id}; the token is shown this once", file=sys.stderr)

    asyncio.run(run())


def _token_list(_options: argparse.Namespace, settings: Settings) -> None:
    async def run() -> None:
        # An id that is broken over two lines, as in a narrow pipe, cannot be copied or found.
        table = Table(Column("token id", min_width=19), "name", "roles", "user", "created", "expires")
        page: Page | None = Page("creation_date", ascending=True, limit=1000)
        async with _rooms(settings) as rooms:
            while page is not None:
                found = await search_tokens(rooms.wiring, OPERATOR, AllOf(()), page)
                for token in found.items:
                    roles = ", ".join(
                        grant.role.value + (f"@{grant.organization_id}" if grant.organization_id else "")
                        for grant in token.grants
                    )
                    expires = "" if token.expires_at is None else f"{token.expires_at:%Y-%m-%d %H:%M}"
                    table.add_row(
                        token.token_id, token.name, roles, token.user_id, f"{token.created_at:%Y-%m-%d %H:%M}", expires
                    )
                onward = found.next_token
                page = None if onward is None else Page("creation_date", ascending=True, limit=1000, token=onward)
        _OUT.print(table)

    asyncio.run(run())


def _token_revoke(options: argparse.Namespace, settings: Settings) -> None:
    async def run() -> None:
        async with _rooms(settings) as rooms:
            token = await revoke_token(rooms.wiring, OPERATOR, options.token_id)
            _OUT.print(f"revoked {token.token_id} ({token.name})")

    asyncio.run(run())


def _schema_check(options: argparse.Namespace, settings: Settings) -> int:
    """Check a schema, and data under it, as ``POST /v3alpha/user_schemas/check`` does, without a server."""
    parts = {"schema": _json_file(options.file)}
    if options.data is not None:
        parts["data"] = _json_file(options.data)
    raw = b"{" + b",".join(b'"%s":%s' % (name.encode(), part) for name, part in parts.items()) + b"}"
    try:
        body = decode(raw, CheckBody, settings.body_max_depth)
    except Malformed as fault:
        judged = Judged(fault.violations, (), "")
    else:
        judged = asyncio.run(_judge(settings, body))
    view = CheckedView(
        valid=not judged.violations,
        violations=violation_views(judged.violations),
        warnings=violation_views(judged.warnings),
    )
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
    else:
        _show_checked(view, taken=bool(judged.dialect), with_data=options.data is not None)
    return 0 if view.valid else 1


def _json_file(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        json.loads(raw.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError([f"{path} cannot be read as JSON: {error}"]) from None
    return raw


async def _judge(settings: Settings, body: CheckBody) -> Judged:
    pool = Pool(1, settings.validator)
    try:
        validators = Validators(pool, cache_bytes=0, max_schema_bytes=settings.schema_max_bytes)
        return await validators.check(body.schema, body.data)
    finally:
        await pool.close()


def _show_checked(view: CheckedView, *, taken: bool, with_data: bool) -> None:
    """Print what was found as a table, in colours and a frame only at a terminal; elsewhere no line is broken."""
    terminal = _OUT.is_terminal
    out = _OUT if terminal else Console(highlight=False, width=_NO_TERMINAL)
    table = Table("", "where", "rule", "what", box=HEAVY_HEAD if terminal else None)
    for kind, style, found in (("refused", "red", view.violations), ("warning", "yellow", view.warnings)):
        for each in found:
            cells = map(_printable, (each.field, each.reason, each.description))
            table.add_row(Text(kind, style), *(Text(cell, overflow="fold") for cell in cells))
    if table.row_count:
        out.print(table)
    if not taken or any(each.field.split("/")[0] == "schema" for each in view.violations):
        out.print("refused", style="red")
    elif view.violations:
        out.print("the schema would be taken, but the data does not match it", style="red")
    else:
        out.print("would be taken, and the data matches it" if with_data else "would be taken", style="green")


def _printable(text: str) -> str:
    """Show what would move the cursor or colour the screen: names of properties are whatever the file says."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _doctor(_options: argparse.Namespace, settings: Settings) -> int:
    _require_mail(settings)
    table = Table("setting", "value", "from")
    for each in fields(settings):
        if not each.repr:
            value = "(set)" if getattr(settings, each.name) else "(unset)"
        else:
            value = str(getattr(settings, each.name))
        name = PREFIX + ("SECRET_KEY" if each.name == "secret_keys" else each.name.upper())
        source = "environment" if name in os.environ or name + "_FILE" in os.environ else "default"
        table.add_row(name, value, source)
    _OUT.print(table)
    known = {PREFIX + each.name.upper() for each in fields(settings)} | {PREFIX + "SECRET_KEY"}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known]
    for name in sorted(unknown):
        _OUT.print(f"[yellow]{name} is not a setting; it is ignored.[/]")
    return asyncio.run(_examine(settings)) or (1 if unknown else 0)


async def _examine(settings: Settings) -> int:
    async with _rooms(settings) as rooms:
        await rooms.database.ping()
        _OUT.print("[green]the database has a primary that answers[/]")
        waiting = await rooms.wiring.outbox.waiting()
        _OUT.print(f"messages waiting: {waiting['pending']}, parked: {waiting['parked']}")
    if not settings.embedded and settings.smtp_url is None:
        _OUT.print(f"[yellow]{PREFIX}SMTP_URL is not set: mail stays encrypted in the outbox until it is.[/]")
    if not settings.embedded and not settings.url_template_hosts:
        _OUT.print(f"[yellow]{PREFIX}URL_TEMPLATE_HOSTS is not set: links may lead to {settings.public_url} only.[/]")
    if settings.embedded:
        _OUT.print("the database is the local one, and links in messages may lead to every host: for trying out only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
