"""``schema-user messages``: list messages, try parked ones again, drop them, as the operator.

A message that still waits in its user's document is not listed; the relay brings it to the outbox within a second.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from schema_user.cli import preview

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from schema_user.domain.caller import Caller
    from schema_user.domain.message import SeenMessage
    from schema_user.domain.search import Query
    from schema_user.settings import Settings
    from schema_user.store.search import Found
    from schema_user.wiring import Wiring

_STATES = ("pending", "parked", "sent", "dropped")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    messages = commands.add_parser("messages", help="list, try again, drop, preview messages").add_subparsers(
        required=True, metavar="ACTION"
    )
    listed = messages.add_parser("list", help="list messages, the oldest first")
    listed.add_argument("--state", choices=_STATES, help="only those in this state")
    listed.add_argument(
        "--json", action="store_true", help="one JSON object a line, as GET /v3alpha/messages/ID has it"
    )
    listed.set_defaults(run=_list)
    retry = messages.add_parser("retry", help="send a message now that was parked or waits for its next try")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("message_id", nargs="?", metavar="ID")
    which.add_argument("--all-parked", action="store_true", help="every message that is parked now")
    retry.set_defaults(run=_retry)
    drop = messages.add_parser("drop", help="give a message up that was parked or waits, and erase what it holds")
    drop.add_argument("message_id", metavar="ID")
    drop.set_defaults(run=_drop)
    for action in (listed, retry, drop):
        action.add_argument("--organization", metavar="ID", help="only in this organization")
    preview.add_to(messages)


@contextlib.asynccontextmanager
async def _operating(options: argparse.Namespace, settings: Settings) -> AsyncIterator[tuple[Wiring, Caller]]:
    """Open everything, with the operator as the caller, narrowed to the organization that is named."""
    from schema_user.authentication import Gatekeeper
    from schema_user.cli.rooms import rooms
    from schema_user.commands.tokens import OPERATOR

    async with rooms(settings) as opened:
        caller = OPERATOR
        if options.organization is not None:
            caller = await Gatekeeper(opened.wiring).acting(caller, options.organization)
        yield opened.wiring, caller


async def _pages(wiring: Wiring, caller: Caller, state: str | None) -> AsyncIterator[Found[SeenMessage]]:
    """Give the messages in a state, the oldest first, a page at a time."""
    from schema_user.domain.search import AllOf, Is, Page
    from schema_user.queries import search_messages

    query: Query = AllOf(() if state is None else (Is("state", state),))
    page: Page | None = Page("creation_date", ascending=True, limit=1000)
    while page is not None:
        found = await search_messages(wiring, caller, query, page)
        yield found
        onward = found.next_token
        page = None if onward is None else Page("creation_date", ascending=True, limit=1000, token=onward)


def _list(options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    asyncio.run((_print_json if options.json else _print_table)(options, settings))


async def _print_json(options: argparse.Namespace, settings: Settings) -> None:
    import msgspec

    from schema_user.api.v3alpha.messages import message_view

    async with _operating(options, settings) as (wiring, caller):
        async for found in _pages(wiring, caller, options.state):
            for message in found.items:
                print(msgspec.json.encode(message_view(message)).decode())


async def _print_table(options: argparse.Namespace, settings: Settings) -> None:
    """Print a message as a line, or at a terminal, which is narrower, as a few short ones beside each other."""
    from rich.box import HEAVY_HEAD
    from rich.table import Column, Table
    from rich.text import Text

    from schema_user.cli.terminal import printable, unbroken

    out = unbroken()
    message_id = Column("message id", no_wrap=True)  # one that is broken over two lines cannot be copied
    if out.is_terminal:
        table, cells = Table(message_id, "state", "last error", box=HEAVY_HEAD, show_lines=True), _stacked
    else:
        table, cells = Table(message_id, *_COLUMNS, box=None), _flat
    async with _operating(options, settings) as (wiring, caller):
        async for found in _pages(wiring, caller, options.state):
            for message in found.items:
                table.add_row(*(Text("\n".join(map(printable, cell)), overflow="fold") for cell in cells(message)))
    if table.row_count:
        out.print(table)
    else:
        print("no messages")


_COLUMNS = ("state", "kind", "to", "tries", "next try, or end", "last error")


def _flat(message: SeenMessage) -> list[list[str]]:
    kind, to, error = f"{message.kind} {message.channel}", message.recipient or "", message.last_error or ""
    return [[cell] for cell in (message.message_id, message.state, kind, to, str(message.tries), _when(message), error)]


def _stacked(message: SeenMessage) -> list[list[str]]:
    lines = [message.message_id, f"{message.kind} {message.channel} to {message.recipient or 'somebody'}"]
    if when := _when(message):
        lines.append(f"next try {when}" if message.state == "pending" else f"{message.state} {when}")
    return [lines, [message.state, f"tries: {message.tries}"], [message.last_error or ""]]


def _when(message: SeenMessage) -> str:
    at = message.next_at if message.state == "pending" else message.done_at
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _retry(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    return asyncio.run((_retry_parked if options.all_parked else _retry_one)(options, settings))


async def _retry_one(options: argparse.Namespace, settings: Settings) -> int:
    from schema_user.commands.messages import retry_message

    async with _operating(options, settings) as (wiring, caller):
        message = await retry_message(wiring, caller, options.message_id)
    print(f"{message.message_id} is tried again now")
    return 0


async def _retry_parked(options: argparse.Namespace, settings: Settings) -> int:
    """Try every parked message again; those that cannot be are named, each with a sentence."""
    from rich.console import Console
    from rich.progress import Progress

    from schema_user.commands.messages import retry_message
    from schema_user.errors import Aborted, Missing, Unmet

    done, failed = 0, 0
    console = Console(stderr=True, highlight=False)
    async with _operating(options, settings) as (wiring, caller):
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("trying again", total=None)
            async for found in _pages(wiring, caller, "parked"):
                progress.update(task, total=done + found.total)  # what was tried again is no longer parked
                for message in found.items:
                    try:
                        await retry_message(wiring, caller, message.message_id)
                        done += 1
                    except (Missing, Unmet, Aborted) as fault:
                        print(f"schema-user: {message.message_id}: {fault}", file=sys.stderr)
                        failed += 1
                    progress.advance(task)
    print(f"messages tried again now: {done}" + (f"; that could not be: {failed}" if failed else ""))
    return 1 if failed else 0


def _drop(options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    from schema_user.commands.messages import drop_message

    async def run() -> None:
        async with _operating(options, settings) as (wiring, caller):
            message = await drop_message(wiring, caller, options.message_id)
        print(f"{message.message_id} is dropped")

    asyncio.run(run())
