"""``schema-user messages preview``: how a message looks, filled with samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from schema_user.delivery.preview import Preview
    from schema_user.domain.wording import Choice
    from schema_user.settings import Settings

_KINDS = ("verify", "password_reset", "address_changed", "address_removed")
_CHANNELS = ("email", "phone")
_LANGUAGES = ("en", "de", "fr", "es")


def add_to(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action to those of ``schema-user messages``."""
    preview = actions.add_parser("preview", help="show how a message looks; code, link and addresses are samples")
    preview.add_argument("--kind", choices=_KINDS, default=_KINDS[0])
    preview.add_argument("--channel", choices=_CHANNELS, default=_CHANNELS[0])
    preview.add_argument("--language", choices=_LANGUAGES, default=_LANGUAGES[0])
    preview.add_argument("--organization", metavar="ID", help="in its sender's name and with its texts")
    how = preview.add_mutually_exclusive_group()
    how.add_argument("--text", action="store_true", help="print the text of a mail; the default")
    how.add_argument(
        "--html", type=Path, metavar="FILE", help="write the HTML of a mail into a file, to open in a browser"
    )
    preview.set_defaults(run=_preview)


def _preview(options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    from schema_user.settings import SettingsError

    if options.html is not None and options.channel == "phone":
        raise SettingsError(["--html is for mail: a text message has none."])
    asyncio.run(_show(options, settings))


async def _show(options: argparse.Namespace, settings: Settings) -> None:
    from schema_user.cli.terminal import printable
    from schema_user.domain.contact import Channel
    from schema_user.domain.wording import Choice, Language, Occasion

    choice = Choice(Occasion(options.kind), Channel(options.channel), Language(options.language))
    if options.organization is None:
        shown = _instance_preview(choice, settings)
    else:
        shown = await _organization_preview(choice, settings, options.organization)
    if options.html is not None:
        options.html.write_text(shown.html or "", encoding="utf-8")
        return
    if shown.subject is not None:
        print(f"From: {printable(shown.sender)}\nTo: {shown.recipient}\nSubject: {printable(shown.subject)}\n")
    print(shown.text.rstrip("\n"))


def _instance_preview(choice: Choice, settings: Settings) -> Preview:
    """Show the service's own words; that needs no database."""
    from schema_user.delivery.email import instance_voice
    from schema_user.delivery.preview import preview
    from schema_user.delivery.texts import Texts
    from schema_user.domain.contact import Channel
    from schema_user.settings import SettingsError

    try:
        voice = instance_voice(settings.mail_from, settings.public_url)
    except ValueError as error:
        raise SettingsError([f"{error}."]) from None
    ttl = settings.email_code_ttl if choice.channel is Channel.EMAIL else settings.phone_code_ttl
    return preview(Texts(), choice, voice, settings.public_url, ttl)


async def _organization_preview(choice: Choice, settings: Settings, organization_id: str) -> Preview:
    from schema_user.cli.rooms import rooms
    from schema_user.delivery.preview import Previews
    from schema_user.errors import Missing

    async with rooms(settings) as opened:
        if await opened.wiring.organizations.find(organization_id) is None:
            raise Missing("ORGANIZATION_NOT_FOUND", "organization not found")
        return await Previews(opened.wiring).show(choice, organization_id)
