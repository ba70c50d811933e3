"""The words of messages: in which languages there are some, and what an organization may put in their place.

A text holds placeholders such as ``{{.Service}}``, in the service's own words (``delivery/templates/words/``) as in an
organization's. They are filled in once, so that what stands in for one is never read as another.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schema_user.domain.contact import ENCODED_WORD, Channel
from schema_user.domain.message import ADDRESS_CHANGED, PASSWORD_RESET, VERIFY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema_user.domain.message import Message


class Language(enum.StrEnum):
    """A language that messages are written in (BCP 47); each has a file of words."""

    EN = "en"
    DE = "de"
    FR = "fr"
    ES = "es"


class Occasion(enum.StrEnum):
    """What a message is about, as far as its words go: the kinds, with the removal of an address for itself."""

    VERIFY = "verify"
    PASSWORD_RESET = "password_reset"  # noqa: S105 -- the name of a kind
    ADDRESS_CHANGED = "address_changed"
    ADDRESS_REMOVED = "address_removed"

    @property
    def has_code(self) -> bool:
        """Whether its messages bring a code."""
        return self in {Occasion.VERIFY, Occasion.PASSWORD_RESET}


class Part(enum.StrEnum):
    """A text of a message that an organization may choose; ``sms`` is a whole text message."""

    SUBJECT = "subject"
    HEADING = "heading"
    INTRO = "intro"
    BUTTON = "button"
    FOOTER = "footer"
    SMS = "sms"


_LANGUAGES: Final = {each.value: each for each in Language}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which message is meant, of all that can be written."""

    occasion: Occasion = Occasion.VERIFY
    channel: Channel = Channel.EMAIL
    language: Language = Language.EN


MAX_CHARACTERS: Final = {
    Part.SUBJECT: 150,
    Part.HEADING: 150,
    Part.INTRO: 1000,
    Part.BUTTON: 40,
    Part.FOOTER: 1000,
    Part.SMS: 300,
}
MAX_TEXTS_BYTES: Final = 64 * 1024
"""Of all texts of an organization together, in UTF-8."""
MAX_NAME_CHARACTERS: Final = 60

OwnTexts = Mapping[str, Mapping[str, Mapping[str, str]]]
"""An organization's own texts: by language, occasion and part."""

_KINDS: Final = {
    VERIFY: Occasion.VERIFY,
    PASSWORD_RESET: Occasion.PASSWORD_RESET,
    ADDRESS_CHANGED: Occasion.ADDRESS_CHANGED,
}
_PLACEHOLDER: Final = re.compile(r"\{\{\.([A-Za-z]+)\}\}")
_CODE: Final = "{{.Code}}"
_TAG: Final = re.compile(r"<[A-Za-z/!?]")
# With the separators of lines and paragraphs, and the marks that turn the direction of what follows them.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NO_NAME: Final = re.compile(r'[<>@"\\]')


@dataclass(frozen=True, slots=True)
class Sender:
    """In whose name an organization sends; None: the instance's."""

    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """How an organization speaks in its messages: the instance's way, with the organization's choices laid over it.

    ``service`` is what messages call the service, ``sender_name`` what stands before the address in mail (may be
    empty), ``languages`` its languages, the first for those whose own there is none of.
    """

    service: str
    sender_name: str
    sender_address: str
    languages: tuple[str, ...] = ()
    texts: OwnTexts = field(default_factory=dict)

    def own(self, language: str, occasion: str) -> Mapping[str, str]:
        """Give the organization's own texts on an occasion, by their parts."""
        return self.texts.get(language, {}).get(occasion, {})


def pick_language(wanted: str | None, languages: Iterable[str]) -> Language:
    """Pick the language of a message: the wanted one, else the first of the organization's, else English.

    Tags (BCP 47) choose by their language alone: ``de-CH`` is German. The wanted one comes out of a user's data, so it
    only chooses among what is known and never becomes part of a path.
    """
    for tag in (wanted or "", *languages):
        name = tag.replace("_", "-").partition("-")[0].lower()
        if name in _LANGUAGES:
            return _LANGUAGES[name]
    return Language.EN


def occasion_of(message: Message) -> Occasion | None:
    """Give the occasion of a message; None for a kind that this version does not know."""
    occasion = _KINDS.get(message.kind)
    if occasion is Occasion.ADDRESS_CHANGED and message.other is None:
        return Occasion.ADDRESS_REMOVED
    return occasion


def parts(occasion: Occasion) -> Iterator[Part]:
    """Give the parts that an occasion has: only what brings a code has a button."""
    return (part for part in Part if part is not Part.BUTTON or occasion.has_code)


def placeholders(occasion: Occasion, part: Part) -> frozenset[str]:
    """Give what may stand in a part.

    The code only in a text message, as mail shows it in a place of its own: subjects are read on locked screens and
    written to the logs of mail servers.
    """
    found = {"Service"}
    if part in {Part.INTRO, Part.FOOTER, Part.SMS}:
        if occasion.has_code:
            found.add("Validity")
        elif occasion is Occasion.ADDRESS_CHANGED:
            found.add("Address")
    if part is Part.SMS and occasion.has_code:
        found.add("Code")
    return frozenset(found)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in the places of a checked text."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def text_problem(occasion: Occasion, part: Part, text: str) -> str | None:
    """Say what is wrong with an organization's text, or None; its length is another matter."""
    problem = _plain_problem(text)
    if problem is not None:
        return problem
    allowed = placeholders(occasion, part)
    bare = _PLACEHOLDER.sub(lambda match: "x" if match[1] in allowed else match[0], text)
    if "{{" in bare or "}}" in bare:
        names = ", ".join(f"{{{{.{name}}}}}" for name in sorted(allowed))
        return f"may use no other placeholder than {names}"
    if "Code" in allowed and _CODE not in text:
        return f"must hold {_CODE}"
    return None


def name_problem(name: str) -> str | None:
    """Say what is wrong with the name of a sender, or None: one that looks like an address could deceive."""
    return _plain_problem(name) or ('must not hold < > @ " or a backslash' if _NO_NAME.search(name) else None)


def _plain_problem(text: str) -> str | None:
    if not text.strip():
        return "must not be blank"
    if _CONTROL.search(text):
        return "must be one line, without control characters"
    if ENCODED_WORD in text:
        return f"must not hold {ENCODED_WORD}"
    if _TAG.search(text):
        return "must be plain text, without markup"
    return None


def size_of(texts: OwnTexts) -> int:
    """Count the bytes of all texts, in UTF-8."""
    return sum(
        len(text.encode()) for occasions in texts.values() for chosen in occasions.values() for text in chosen.values()
    )
