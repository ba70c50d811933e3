"""The words of the verification pages, from ``templates/verification.toml``, and which language is whose."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LANGUAGE: Final = "en"


def _by_language(text: str) -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = tomllib.loads(text)
    languages = next(iter(table.values()))
    return {language: {name: texts[language] for name, texts in table.items()} for language in languages}


WORDS: Final[Mapping[str, Mapping[str, str]]] = _by_language(
    (Path(__file__).parents[1] / "templates/verification.toml").read_text(encoding="utf-8")
)
"""By language and name; the template escapes what takes the places of values."""

_RANGE: Final = re.compile(r"\s*([A-Za-z]{1,8}|\*)((?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?")
_LONGEST_HEADER: Final = 1000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


def language_of(tag: str | None) -> str | None:
    """Find the language of a tag (RFC 5646) among those of the pages; it comes out of a user's data."""
    found = (tag or "").replace("_", "-").partition("-")[0].lower()
    return found if found in WORDS else None


def accepted_language(header: str) -> str:
    """Pick by ``Accept-Language`` (RFC 9110, 12.5.4), by the language alone; English if nothing suits."""
    best, quality = DEFAULT_LANGUAGE, 0.0
    for each in header[:_LONGEST_HEADER].split(","):
        match = _RANGE.fullmatch(each)
        if match is None:
            continue
        language, wanted = language_of(match[1]), float(match[3] or 1)
        if language is not None and wanted > quality:
            best, quality = language, wanted
    return best


def spoken(words: Mapping[str, str], seconds: int) -> str:
    """Say a span in one unit, never shorter than it is."""
    for unit, size in (("hours", _HOUR), ("minutes", _MINUTE)):
        if seconds >= 2 * size:
            return words[unit].format(count=-(-seconds // size))
    return words["second"] if seconds <= 1 else words["seconds"].format(count=seconds)
