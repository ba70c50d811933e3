"""``schema-user users``: import and export users as the operator, and convert what other services export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from schema_user.cli import access
from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from typing import Any, BinaryIO

    from rich.progress import Progress, TaskID

    from schema_user.commands.imports import Line, Outcome
    from schema_user.domain.caller import Caller
    from schema_user.moving.line import Moved
    from schema_user.settings import Settings
    from schema_user.wiring import Wiring

_PIECE = 256 * 1024


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    users = commands.add_parser("users", help="import, export, convert users").add_subparsers(
        required=True, metavar="ACTION"
    )
    taken = users.add_parser("import", help="import users, one JSON object a line; status 1 if a line fails")
    taken.add_argument("file", type=Path, metavar="FILE")
    taken.add_argument("--mode", choices=("create", "replace"), default="create", help="what to do with ids in use")
    taken.add_argument("--schema", metavar="ID", help="the user schema of lines that name none")
    taken.add_argument("--organization", metavar="ID", help="the organization of lines that name none")
    taken.add_argument("--validate-only", action="store_true", help="check every line, store nothing")
    taken.add_argument(
        "--resume", metavar="KEY", help="a name for this import: the same file under it goes on where it stopped"
    )
    taken.add_argument("--results", type=Path, metavar="FILE", help="write the result of every line there")
    taken.set_defaults(run=_import)
    given = users.add_parser("export", help="export users, as an import takes them")
    given.add_argument("--schema", metavar="ID", help="only users of this schema")
    given.add_argument("--organization", metavar="ID", help="only users of this organization")
    given.add_argument("--output", type=Path, metavar="FILE", help="write there, and go on behind what is there")
    given.add_argument(
        "--with-password-hashes", action="store_true", help="with the hashes of passwords: keep that file safe"
    )
    given.set_defaults(run=_export)
    access.add_to(users)
    _add_converters(users)


def _add_converters(users: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    zitadel = users.add_parser("convert-zitadel", help="make lines of what ZITADEL exports")
    zitadel.add_argument("file", type=Path, metavar="FILE")
    zitadel.add_argument("--schema", required=True, metavar="ID", help="the id of the user schema human here")
    zitadel.add_argument("--output", type=Path, required=True, metavar="FILE")
    zitadel.set_defaults(run=_convert_zitadel)
    kratos = users.add_parser("convert-kratos", help="make lines of what Ory Kratos lists")
    kratos.add_argument("file", type=Path, metavar="FILE")
    kratos.add_argument(
        "--schema", action="append", default=[], metavar="[NAME=]ID", help="the user schema of an identity schema"
    )
    kratos.add_argument(
        "--identity-schema", action="append", default=[], metavar="[NAME=]FILE", help="an identity schema"
    )
    kratos.add_argument("--organization", metavar="ID", help="the organization of the users")
    kratos.add_argument("--output", type=Path, required=True, metavar="FILE")
    kratos.set_defaults(run=_convert_kratos)
    schema = users.add_parser("convert-kratos-schema", help="make a user schema of an identity schema of Ory Kratos")
    schema.add_argument("file", type=Path, metavar="FILE")
    schema.set_defaults(run=_convert_kratos_schema)


def _import(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    if not options.file.is_file():
        raise SettingsError([f"{options.file} is not a file."])
    return asyncio.run(_imported(options, settings))


async def _imported(options: argparse.Namespace, settings: Settings) -> int:
    import contextlib

    from schema_user.api.v3alpha.imports import result_line
    from schema_user.cli.progress import progress
    from schema_user.cli.rooms import rooms
    from schema_user.commands import imports
    from schema_user.domain.repetition import once

    done, failed = 0, 0
    async with contextlib.AsyncExitStack() as stack:
        wiring = (await stack.enter_async_context(rooms(settings))).wiring
        await stack.enter_async_context(_relayed(wiring))
        caller = await _operator(wiring, options.organization)
        asked = (b"users import", options.mode.encode(), (options.organization or "").encode())
        key = None
        if options.resume is not None and not options.validate_only:
            key = once(caller.token_id, options.resume, asked, wiring.request_key)
        command = imports.ImportUsers(
            await imports.begin_import(wiring, key), imports.Mode(options.mode), options.validate_only, "users-import"
        )
        file = stack.enter_context(options.file.open("rb"))
        results = stack.enter_context(options.results.open("wb")) if options.results else None
        bar = stack.enter_context(progress("importing", options.file.stat().st_size))

        async def same() -> Caller:
            return caller

        batches = _batches(options, wiring, caller, file, bar)
        async for outcomes in imports.import_users(wiring, command, same, batches):
            for each in outcomes:
                done, failed = done + (each.error is None), failed + (each.error is not None)
                if each.error is not None and results is None:
                    _tell(each)
            if results is not None:
                results.write(b"".join(result_line(each, "users-import") for each in outcomes))
    words = "users would be imported" if options.validate_only else "users imported"
    print(f"{words}: {done}" + (f"; lines that failed: {failed}" if failed else ""))
    return 1 if failed else 0


def _tell(outcome: Outcome) -> None:
    from schema_user.cli.terminal import printable
    from schema_user.errors import Fault

    words = str(outcome.error) if isinstance(outcome.error, Fault) else f"unexpected {type(outcome.error).__name__}"
    print(f"schema-user: line {outcome.number}: {printable(words)}", file=sys.stderr)


async def _operator(wiring: Wiring, organization: str | None) -> Caller:
    from schema_user.authentication import Gatekeeper
    from schema_user.commands.tokens import OPERATOR

    return OPERATOR if organization is None else await Gatekeeper(wiring).acting(OPERATOR, organization)


def _relayed(wiring: Wiring) -> Any:
    from schema_user.app import relaying

    return relaying(wiring.relay)


async def _batches(
    options: argparse.Namespace,
    wiring: Wiring,
    caller: Caller,
    file: BinaryIO,
    bar: tuple[Progress, TaskID],
) -> AsyncGenerator[list[Line], None]:
    """Read the file, a batch of lines at a time; what is read counts as progress."""
    from schema_user.api.ndjson import LineCutter
    from schema_user.api.v3alpha.imports import Batch, read_line

    cutter, batch, more = LineCutter(wiring.settings.body_max_bytes), Batch(), True
    while more:
        piece = file.read(_PIECE)
        more = bool(piece)
        for each in cutter.cut(piece) if more else cutter.end():
            lines = await read_line(wiring, each, caller, digested=options.resume is not None, schema_id=options.schema)
            if batch.add(lines, len(each.raw or b"")):
                yield batch.take()
        bar[0].advance(bar[1], len(piece))
    if batch.lines:
        yield batch.take()


def _export(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    return asyncio.run(_exported(options, settings))


async def _exported(options: argparse.Namespace, settings: Settings) -> int:
    """Write users to the file, or to standard output; into a file that an export broke off from, what is missing."""
    import contextlib

    import msgspec

    from schema_user.api.v3alpha.exports import ExportedView, exported_view
    from schema_user.cli.progress import progress
    from schema_user.cli.rooms import rooms
    from schema_user.exporting import export_users

    encoder, count = msgspec.json.Encoder(), 0
    async with contextlib.AsyncExitStack() as stack:
        wiring = (await stack.enter_async_context(rooms(settings))).wiring
        caller = await _operator(wiring, options.organization)
        out: BinaryIO = sys.stdout.buffer
        token = None
        if options.output is not None:
            out = stack.enter_context(_opened(options.output, "a+b"))
            token = _rest_of(out)
        bar, task = stack.enter_context(progress("exporting", None))
        async for page in export_users(wiring, caller, options.schema, token):
            views = [exported_view(user, with_hash=options.with_password_hashes) for user in page.users]
            if page.next_token is not None:
                views.append(ExportedView(next_page_token=page.next_token))
            out.write(encoder.encode_lines(views))
            out.flush()
            count += len(page.users)
            bar.advance(task, len(page.users))
    print(f"users exported: {count}", file=sys.stderr)
    return 0


def _opened(path: Path, mode: str) -> BinaryIO:
    """Open a file that nobody else may read: it holds what is known of people."""
    import os

    return cast("BinaryIO", open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600)))


def _rest_of(out: BinaryIO) -> str | None:
    """Find the last token of an export that broke off, and cut off what was written behind it.

    Raises:
        SettingsError: if the file has users and no token behind them: then the export is whole, or is none.
    """
    import msgspec

    out.seek(0)
    token, end, last = None, 0, 0
    for line in out:
        last += len(line)
        if line.startswith(b'{"nextPageToken":') and line.endswith(b"\n"):
            token, end = str(msgspec.json.decode(line)["nextPageToken"]), last
    if last and token is None:
        raise SettingsError(["The file holds something already, and no export that could be gone on with."])
    out.truncate(end)
    out.seek(end)
    return token


def _convert_zitadel(options: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 -- as all commands
    from schema_user.moving.zitadel import from_zitadel, left_behind

    documents = list(_documents(options.file))
    lines = (moved for document in documents for moved in from_zitadel(document, options.schema))
    return _converted(lines, options.output, [words for document in documents for words in left_behind(document)])


def _convert_kratos(options: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 -- as all commands
    from schema_user.moving.kratos import from_kratos, places_of

    if not options.schema:
        raise SettingsError(["Name the user schema of the identities: --schema ID, or --schema NAME=ID for each."])
    ids = dict(_named(options.schema))
    files = {name: next(iter(_documents(Path(path)))) for name, path in _named(options.identity_schema)}
    places = {name: places_of(document) for name, document in files.items()}
    lines = (
        moved
        for document in _documents(options.file)
        for moved in from_kratos(document, ids, places, options.organization)
    )
    return _converted(lines, options.output, [])


def _convert_kratos_schema(options: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 -- as all commands
    import json

    from schema_user.moving.kratos import from_kratos_schema
    from schema_user.moving.line import NotAnExport

    try:
        made = from_kratos_schema(next(iter(_documents(options.file))))
    except NotAnExport as error:
        raise SettingsError([f"{error}."]) from None
    print(json.dumps(made, indent=2))
    return 0


def _named(pairs: Iterable[str]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, separator, value = pair.partition("=")
        yield (name, value) if separator else ("*", name)


def _documents(path: Path) -> Iterator[Any]:
    """Read the JSON texts of a file: one, or one in each line."""
    import json

    try:
        text = path.read_text(encoding="utf-8")
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < 2:  # noqa: PLR2004 -- one line is the text that is none
                raise
            yield from map(json.loads, lines)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError([f"{path} cannot be read as JSON: {error}"]) from None


def _converted(moved: Iterable[Moved], output: Path, left: list[str]) -> int:
    """Write lines, and say what is left behind."""
    import json
    from collections import Counter

    from schema_user.cli.progress import progress
    from schema_user.moving.line import NotAnExport

    count, missing = 0, Counter[str]()
    try:
        with progress("converting", None) as (bar, task), _opened(output, "wb") as file:
            for each in moved:
                file.write(json.dumps(each.line).encode() + b"\n")
                missing.update(each.left)
                count += 1
                bar.advance(task)
    except NotAnExport as error:
        raise SettingsError([f"{error}."]) from None
    print(f"users converted: {count}")
    for words in [*left, *(f"{words} (users: {number})" for words, number in missing.most_common())]:
        print(f"left behind: {words}")
    return 0
