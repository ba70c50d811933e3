"""The words of messages, put together from three places.

``templates/words/<language>.toml`` holds what is said, once for each language; ``templates/code.*`` and ``notice.*``
how a mail looks, once for all of them; and an organization may put texts of its own in the place of some
(``domain/wording.py``). A language is one more file of words, and a member of ``Language``.
"""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.wording import Part, filled, occasion_of, pick_language

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.domain.message import Message
    from schema_user.domain.wording import Language, Occasion, Voice

_TEMPLATES: Final = Path(__file__).parent / "templates"
_STYLE: Final = "frame.css"
_LINE: Final = 72
"""Characters in a line of a mail's text; a longer word, such as an address, stays whole."""

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class MailText:
    """The words of one mail; the subject is one line."""

    language: Language
    subject: str
    text: str
    html: str


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _LINE, break_long_words=False, break_on_hyphens=False)


class Texts:
    """Writes messages, in the language of their readers and the voice of an organization."""

    def __init__(self) -> None:
        """Make the templates ready; words are read when their language is first needed."""
        self.style = (_TEMPLATES / _STYLE).read_text(encoding="utf-8").strip()
        self._words: dict[Language, dict[str, Any]] = {}
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=select_autoescape(enabled_extensions=("html",), default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters["wrapped"] = _wrapped

    def mail(self, message: Message, now: datetime, voice: Voice) -> MailText:
        """Write a mail.

        Raises:
            Undelivered: if this version has no words for this kind of message; a later one may.
        """
        occasion, language = _occasion(message), pick_language(message.language, voice.languages)
        words = self._of(language)
        chosen = {**words["email"][occasion], **voice.own(language, occasion)}
        values = _values(message, voice, _span(words, spoken(_left(message, now))))
        said = {name: _one_line(filled(text, values)) for name, text in chosen.items() if name != Part.SMS}
        shown = {
            **said,
            "validity": filled(words["validity"], values),
            "link_again": words["link_again"],
            "language": language.value,
            "direction": words["direction"],
            "code": message.code,
            "url": message.url,
        }
        layout = "code" if occasion.has_code else "notice"
        text = self._templates.get_template(f"{layout}.txt").render(shown)
        html = self._templates.get_template(f"{layout}.html").render(shown, style=self.style)
        return MailText(language, said[Part.SUBJECT], text.strip() + "\n", html)

    def sms(self, message: Message, now: datetime, voice: Voice) -> str:
        """Write a text message; raises Undelivered likewise.

        It has 160 characters of the GSM-7 alphabet or less, unless a link, a name or an organization's text is long.
        The code comes first, where a locked screen shows it.
        """
        occasion, language = _occasion(message), pick_language(message.language, voice.languages)
        words = self._of(language)
        text = voice.own(language, occasion).get(Part.SMS, words["phone"][occasion])
        # Days are left out: the word for them is beyond GSM-7 in Spanish, and then only 70 characters would fit.
        values = _values(message, voice, _span(words, spoken(_left(message, now), days=False)))
        # The dots of a masked address are beyond GSM-7 too.
        values["Address"] = values["Address"].replace("•", "*")
        return _one_line(" ".join((filled(text, values), message.url or "")))

    def _of(self, language: Language) -> dict[str, Any]:
        words = self._words.get(language)
        if words is None:
            file = _TEMPLATES / "words" / f"{language.value}.toml"
            words = self._words[language] = tomllib.loads(file.read_text(encoding="utf-8"))
        return words


def _occasion(message: Message) -> Occasion:
    occasion = occasion_of(message)
    if occasion is None:
        raise Undelivered("no words for this kind of message")
    return occasion


def _values(message: Message, voice: Voice, validity: str) -> dict[str, str]:
    return {
        "Service": voice.service,
        "Code": message.code or "",
        "Address": message.other or "",
        "Validity": validity,
    }


def _one_line(text: str) -> str:
    """Put everything on one line; a space that must not break (U+00A0) stays what it is."""
    return " ".join(each for each in text.replace("\r", "\n").replace("\n", " ").split(" ") if each)


def _left(message: Message, now: datetime) -> timedelta:
    return timedelta() if message.expires_at is None else message.expires_at - now


def _span(words: dict[str, Any], span: tuple[int, str]) -> str:
    amount, unit = span
    return f"{amount} {words['units'][unit][amount != 1]}"


def spoken(span: timedelta, *, days: bool = True) -> tuple[int, str]:
    """Say a span in one unit, rounded down, so that nothing is promised: ``(59, "minute")``, ``(3, "day")``.

    A unit is used from two of it on, as one would round too much away; with ``days`` false hours are the largest.
    """
    seconds = max(0, int(span.total_seconds()))
    if days and seconds >= 2 * _DAY:
        return seconds // _DAY, "day"
    if seconds >= 2 * _HOUR:
        return seconds // _HOUR, "hour"
    if seconds >= 2 * _MINUTE:
        return seconds // _MINUTE, "minute"
    return seconds, "second"
