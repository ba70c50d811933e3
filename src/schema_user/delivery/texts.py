"""The words of messages: one folder of templates for each language.

``templates/<language>/<kind>.<part>``: the parts are ``email.subject``, ``email.txt`` and ``email.html`` for mail,
and ``phone.txt``. Every template knows ``service``, ``code``, ``url``, ``other``, ``amount`` and ``unit``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, select_autoescape

from schema_user.delivery.undelivered import Undelivered

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime, timedelta

    from schema_user.domain.message import Message

_TEMPLATES: Final = Path(__file__).parent / "templates"
_DEFAULT_LANGUAGE: Final = "en"

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class MailText:
    """The words of one mail; the subject is one line."""

    subject: str
    text: str
    html: str


class Texts:
    """Writes messages in the name of a service."""

    def __init__(self, service: str) -> None:
        """Write for ``service``, whose name the reader is told."""
        self._service = service
        self._languages = frozenset(folder.name for folder in _TEMPLATES.iterdir() if folder.is_dir())
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=select_autoescape(enabled_extensions=("html",), default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def mail(self, message: Message, now: datetime) -> MailText:
        """Write a mail.

        Raises:
            Undelivered: if this version has no words for this kind of message; a later one may.
        """
        subject, text, html = (self._write(message, f"email.{part}", now) for part in ("subject", "txt", "html"))
        return MailText(" ".join(subject.split()), text.strip() + "\n", html)

    def sms(self, message: Message, now: datetime) -> str:
        """Write a text message, of 160 plain characters or less unless a link is long; raises Undelivered likewise."""
        return " ".join(self._write(message, "phone.txt", now).split())

    def _write(self, message: Message, part: str, now: datetime) -> str:
        language = pick_language(message.language, self._languages)
        amount, unit = (0, "minute") if message.expires_at is None else spoken(message.expires_at - now)
        try:
            template = self._templates.get_template(f"{language}/{message.kind}.{part}")
        except TemplateNotFound:
            raise Undelivered("no template for this kind of message") from None
        return template.render(
            service=self._service,
            code=message.code,
            url=message.url,
            other=message.other,
            amount=amount,
            unit=unit,
        )


def pick_language(wanted: str | None, known: Container[str]) -> str:
    """Pick the folder for a language tag (RFC 5646) by its language alone; English if there is none.

    The tag comes out of a user's data, so it only chooses among what is known and never becomes part of a path.
    """
    language = (wanted or "").replace("_", "-").partition("-")[0].lower()
    return language if language and language in known else _DEFAULT_LANGUAGE


def spoken(span: timedelta) -> tuple[int, str]:
    """Say a span in one unit, never longer than it is by more than a minute: ``(60, "minute")``, ``(3, "day")``."""
    seconds = max(0, int(span.total_seconds()))
    if seconds + _MINUTE >= 2 * _DAY:
        return (seconds + _MINUTE) // _DAY, "day"
    if seconds + _MINUTE >= 2 * _HOUR:
        return (seconds + _MINUTE) // _HOUR, "hour"
    return max(1, (seconds + _MINUTE // 2) // _MINUTE), "minute"
