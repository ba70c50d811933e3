"""``schema-user doctor``: what is set, what is wrong and what would be better."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING

from schema_user.settings import PREFIX

if TYPE_CHECKING:
    import argparse

    from schema_user.rooms import Rooms
    from schema_user.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    doctor = commands.add_parser("doctor", help="show what is set, what is wrong and what would be better")
    doctor.add_argument(
        "--no-histories", action="store_true", help="leave out the check of the users' histories, which may take long"
    )
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from schema_user.cli.serve import require_mail

    require_mail(settings)
    _show_settings(settings)
    unknown = _show_unknown(settings)
    whole = asyncio.run(_examine(settings, histories=not options.no_histories))
    _advise(settings)
    return 1 if unknown or not whole else 0


def _show_settings(settings: Settings) -> None:
    from rich.table import Table

    from schema_user.cli.terminal import OUT

    table = Table("setting", "value", "from")
    for each in fields(settings):
        if not each.repr:
            value = "(set)" if getattr(settings, each.name) else "(unset)"
        else:
            value = str(getattr(settings, each.name))
        name = _variable(each.name)
        source = "environment" if name in os.environ or name + "_FILE" in os.environ else "default"
        table.add_row(name, value, source)
    OUT.print(table)


def _variable(name: str) -> str:
    """Give the variable of a field of the settings."""
    return PREFIX + ("SECRET_KEY" if name == "secret_keys" else name.upper())


def _show_unknown(settings: Settings) -> bool:
    """Name the variables that look like settings and are none; whether there are any."""
    from schema_user.cli.terminal import OUT

    known = {PREFIX + each.name.upper() for each in fields(settings)} | {PREFIX + "SECRET_KEY"}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known]
    for name in sorted(unknown):
        OUT.print(f"[yellow]{name} is not a setting; it is ignored.[/]")
    return bool(unknown)


async def _examine(settings: Settings, *, histories: bool) -> bool:
    """Look at the deployment, one step after the other, and say if it is whole; what can't be looked at raises."""
    from schema_user.cli.histories import whole_histories
    from schema_user.cli.rooms import rooms

    async with rooms(settings) as opened:
        for step in (_database, _messages, _issuers):
            await step(opened)
        return await whole_histories(opened) if histories else True


async def _database(opened: Rooms) -> None:
    from schema_user.cli.terminal import OUT

    await opened.database.ping()
    OUT.print("[green]the database has a primary that answers[/]")


async def _messages(opened: Rooms) -> None:
    from schema_user.cli.terminal import OUT

    waiting = await opened.wiring.outbox.waiting()
    OUT.print(f"messages waiting: {waiting['pending']}, parked: {waiting['parked']}")


async def _issuers(opened: Rooms) -> None:
    """Name the issuers whose organization is not there: nobody else would say why their tokens are refused."""
    from rich.markup import escape

    from schema_user.cli.terminal import OUT

    for each in opened.wiring.settings.oidc_issuers:
        organization = await opened.wiring.organizations.known(each.organization_id)
        if organization is None or not organization.active:
            lacking = escape(f"{each.organization_id} is no active organization: tokens of {each.issuer} are refused.")
            OUT.print(f"[yellow]{lacking}[/]")


def _advise(settings: Settings) -> None:
    from schema_user.cli.terminal import OUT

    if not settings.embedded and settings.smtp_url is None:
        OUT.print(f"[yellow]{PREFIX}SMTP_URL is not set: mail stays encrypted in the outbox until it is.[/]")
    if not settings.embedded and settings.sms_url is None:
        OUT.print(f"[yellow]{PREFIX}SMS_URL is not set: text messages stay encrypted in the outbox until it is.[/]")
    if not settings.embedded and not settings.url_template_hosts:
        OUT.print(f"[yellow]{PREFIX}URL_TEMPLATE_HOSTS is not set: links may lead to {settings.public_url} only.[/]")
    if settings.embedded:
        OUT.print("the database is the local one, and links in messages may lead to every host: for trying out only")
