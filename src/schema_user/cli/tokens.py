"""``schema-user token``: create, list and revoke tokens, as the operator."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse

    from schema_user.domain.caller import Grant
    from schema_user.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    token = commands.add_parser("token", help="create, list and revoke tokens").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = token.add_parser("create", help="create a token and print it once")
    create.add_argument("name", help="what the token is for")
    create.add_argument(
        "--role", action="append", default=[], metavar="ROLE[@ORGANIZATION]", help="may be given several times"
    )
    create.add_argument("--user", help="the id of the user that the token acts as")
    create.add_argument("--expires-in", metavar="DURATION", help="such as 12h or 90d; absent: never")
    create.add_argument(
        "--key", action="store_true", help="make a key that a machine caller signs with, and print its file"
    )
    create.set_defaults(run=_create)
    token.add_parser("list", help="list the tokens").set_defaults(run=_list)
    revoke = token.add_parser("revoke", help="revoke a token; it is refused everywhere within five seconds")
    revoke.add_argument("token_id", metavar="TOKEN_ID")
    revoke.set_defaults(run=_revoke)


def _grant(text: str) -> Grant:
    from schema_user.domain.caller import Grant
    from schema_user.domain.permission import Role

    name, _, organization_id = text.partition("@")
    if name not in Role.__members__:
        raise SettingsError([f"{name} is not a role; roles are {', '.join(Role)}."])
    return Grant(Role(name), organization_id or None)


def _create(options: argparse.Namespace, settings: Settings) -> None:
    import asyncio
    import json
    from datetime import UTC, datetime

    from schema_user.cli.rooms import rooms
    from schema_user.commands.tokens import OPERATOR, CreateToken, create_token
    from schema_user.domain.caller import TokenKind
    from schema_user.domain.duration import parse_duration

    expires_at = None
    if options.expires_in:
        try:
            expires_at = datetime.now(UTC) + parse_duration(options.expires_in)
        except ValueError:
            raise SettingsError(["--expires-in must be a duration such as 12h or 90d."]) from None
    kind = TokenKind.KEY if options.key else TokenKind.BEARER
    command = CreateToken(options.name, tuple(map(_grant, options.role)), options.user, expires_at, kind)

    async def run() -> None:
        async with rooms(settings) as opened:
            made = await create_token(opened.wiring, OPERATOR, command)
            print(json.dumps(made.key_file, indent=2) if options.key else made.secret)
            shown = "key" if options.key else "token"
            print(f"token id {made.token.token_id}; the {shown} is shown this once", file=sys.stderr)

    asyncio.run(run())


def _list(_options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    from rich.table import Column, Table

    from schema_user.cli.rooms import rooms
    from schema_user.cli.terminal import OUT
    from schema_user.commands.tokens import OPERATOR
    from schema_user.domain.search import AllOf, Page
    from schema_user.queries import search_tokens

    async def run() -> None:
        # An id that is broken over two lines, as in a narrow pipe, cannot be copied or found.
        table = Table(
            Column("token id", min_width=19), "kind", "name", "roles", "user", "created", "expires", "last used"
        )
        page: Page | None = Page("creation_date", ascending=True, limit=1000)
        async with rooms(settings) as opened:
            while page is not None:
                found = await search_tokens(opened.wiring, OPERATOR, AllOf(()), page)
                for token in found.items:
                    roles = ", ".join(
                        grant.role.value + (f"@{grant.organization_id}" if grant.organization_id else "")
                        for grant in token.grants
                    )
                    moments = (token.created_at, token.expires_at, token.last_used_at)
                    times = ["" if each is None else f"{each:%Y-%m-%d %H:%M}" for each in moments]
                    table.add_row(token.token_id, token.kind, token.name, roles, token.user_id, *times)
                onward = found.next_token
                page = None if onward is None else Page("creation_date", ascending=True, limit=1000, token=onward)
        OUT.print(table)

    asyncio.run(run())


def _revoke(options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    from schema_user.cli.rooms import rooms
    from schema_user.cli.terminal import OUT
    from schema_user.commands.tokens import OPERATOR, revoke_token

    async def run() -> None:
        async with rooms(settings) as opened:
            token = await revoke_token(opened.wiring, OPERATOR, options.token_id)
            OUT.print(f"revoked {token.token_id} ({token.name})")

    asyncio.run(run())
