"""``schema-user serve`` and ``schema-user worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_user.settings import Settings, SettingsError

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands."""
    serve = commands.add_parser("serve", help="serve HTTP; settings come from SCHEMA_USER_* variables")
    serve.set_defaults(run=_serve)
    worker = commands.add_parser("worker", help="deliver messages and run jobs, beside servers that run elsewhere")
    worker.set_defaults(run=_worker)


def require_mail(settings: Settings) -> None:
    """Raise SettingsError for what the messages of this deployment could not be sent from or through.

    What is left unset needs no look, and reading the mail client takes long.
    """
    default = Settings()
    if (settings.mail_from, settings.smtp_url, settings.sms_url) == (default.mail_from, None, None):
        return
    from schema_user.delivery.email import parse_sender, parse_smtp_url
    from schema_user.delivery.sms import parse_sms_url

    try:
        parse_sender(settings.mail_from)
        if settings.smtp_url is not None:
            parse_smtp_url(settings.smtp_url)
        if settings.sms_url is not None:
            parse_sms_url(settings.sms_url)
    except ValueError as error:
        raise SettingsError([f"{error}."]) from None


def _serve(_options: argparse.Namespace, settings: Settings) -> None:
    from schema_user.server import serve

    serve(settings, lambda: _require_usable(settings))


def _require_usable(settings: Settings) -> None:
    """Raise SettingsError or ModuleNotFoundError for what could be wrong with settings beyond their own form."""
    from schema_user.validation.engines import engine_named

    require_mail(settings)
    if settings.validator != Settings().validator:  # the default one is always installed
        engine_named(settings.validator)


def _worker(_options: argparse.Namespace, settings: Settings) -> None:
    import asyncio

    from schema_user.app import run_worker
    from schema_user.cli.rooms import database

    _require_usable(settings)
    with database(settings):
        asyncio.run(run_worker(settings))
