"""The command ``schema-user``: serve, worker, token, schema, users, messages, doctor.

Each module of this folder whose ``add_to`` is called here adds commands and runs them. Such a module imports at its
top only what its arguments need, and the rest where a command runs: a server starts its HTTP processes before anything
that takes time to read, and nobody waits for all of it to see ``--help``.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from schema_user.cli import doctor, messages, schemas, serve, tokens, users
from schema_user.logs import configure_logging
from schema_user.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; what goes wrong is said in a sentence, and the exit status is 1."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        return int(options.run(options, settings) or 0)
    except KeyboardInterrupt:
        return 130
    except _expected() as error:
        print(f"schema-user: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="schema-user", description="A user-data service for your own user types.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (serve, doctor, tokens, schemas, users, messages):
        group.add_to(commands)
    return parser


def _expected() -> tuple[type[Exception], ...]:
    """Give what a sentence is enough for; looked up only when something has gone wrong."""
    from schema_user.domain.keyring import SealError
    from schema_user.errors import Fault
    from schema_user.settings import SettingsError
    from schema_user.store.embedded import LocalDatabaseFault

    return (SettingsError, LocalDatabaseFault, Fault, SealError, OSError, ModuleNotFoundError)
