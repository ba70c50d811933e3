"""``schema-user users access``: everything that is held on one user, as one document, for the operator."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    import argparse

    from schema_user.settings import Settings


def add_to(users: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action."""
    access = users.add_parser("access", help="write down everything that is held on a user, hidden fields among it")
    access.add_argument("user_id", metavar="USER_ID")
    access.add_argument("--out", type=Path, metavar="FILE", help="write there, readable by nobody else")
    access.set_defaults(run=_access)


def _access(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    return asyncio.run(_reported(options, settings))


async def _reported(options: argparse.Namespace, settings: Settings) -> int:
    """Write the report; into a new file that takes its name once it is whole."""
    import contextlib

    from schema_user.access_reporting import whole_report
    from schema_user.api.v3alpha.access import report_pieces
    from schema_user.cli.rooms import rooms
    from schema_user.commands.tokens import OPERATOR

    async with contextlib.AsyncExitStack() as stack:
        wiring = (await stack.enter_async_context(rooms(settings))).wiring
        report = await whole_report(wiring, OPERATOR, options.user_id)
        part = None if options.out is None else options.out.with_name(options.out.name + ".part")
        out = sys.stdout.buffer if part is None else stack.enter_context(_private(part))
        async with contextlib.aclosing(report_pieces(wiring, report)) as pieces:
            async for piece in pieces:
                out.write(piece)
        out.write(b"\n")
        out.flush()
    if part is not None:
        part.replace(options.out)
    return 0


def _private(path: Path) -> BinaryIO:
    """Open a new file that nobody else may read, in the place of one that a broken report left."""
    path.unlink(missing_ok=True)
    return cast("BinaryIO", open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)))
