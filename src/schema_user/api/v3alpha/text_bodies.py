"""The sender and the texts of an organization's messages, as bodies and as answers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec.structs import asdict

from schema_user.api.details import View
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.domain.contact import normalise_email
from schema_user.domain.wording import MAX_CHARACTERS, MAX_NAME_CHARACTERS, OwnTexts, Part, Sender
from schema_user.errors import Violation

_PLACEHOLDERS = "Plain text, one line. Placeholders: "
_Subject = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=MAX_CHARACTERS[Part.SUBJECT], description=_PLACEHOLDERS + "{{.Service}}."),
]
_Heading = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=MAX_CHARACTERS[Part.HEADING], description=_PLACEHOLDERS + "{{.Service}}."),
]
_Button = Annotated[
    str, msgspec.Meta(min_length=1, max_length=MAX_CHARACTERS[Part.BUTTON], description=_PLACEHOLDERS + "{{.Service}}.")
]
_Sentences = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_CHARACTERS[Part.INTRO],
        description=_PLACEHOLDERS
        + "{{.Service}}; where there is a code {{.Validity}}, of a changed address {{.Address}} (the new one, masked).",
    ),
]
_TextMessage = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_CHARACTERS[Part.SMS],
        description=_PLACEHOLDERS + "as in `intro`; where there is a code {{.Code}} must be in it. A link is added.",
    ),
]


class SenderBody(Body, kw_only=True):
    """In whose name messages are sent."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)] | None = None
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class CodeTextsBody(Body, kw_only=True):
    """Texts of a message that brings a code; absent: the service's own."""

    subject: _Subject | None = None
    heading: _Heading | None = None
    intro: _Sentences | None = None
    button: _Button | None = None
    footer: _Sentences | None = None
    sms: _TextMessage | None = None


class NoticeTextsBody(Body, kw_only=True):
    """Texts of a message that brings news; absent: the service's own."""

    subject: _Subject | None = None
    heading: _Heading | None = None
    intro: _Sentences | None = None
    footer: _Sentences | None = None
    sms: _TextMessage | None = None


class OccasionTextsBody(Body, kw_only=True):
    """The texts in one language, by what a message is about."""

    verify: CodeTextsBody | None = None
    password_reset: CodeTextsBody | None = None
    address_changed: NoticeTextsBody | None = None
    address_removed: NoticeTextsBody | None = None


class TextsBody(Body, kw_only=True):
    """The texts of messages, by language."""

    en: OccasionTextsBody | None = None
    de: OccasionTextsBody | None = None
    fr: OccasionTextsBody | None = None
    es: OccasionTextsBody | None = None


class SenderView(View, kw_only=True):
    """In whose name messages are sent."""

    name: str | None = None
    address: str | None = None


class ChosenTextsView(View, kw_only=True):
    """The texts of one message that are not the service's own."""

    subject: str | None = None
    heading: str | None = None
    intro: str | None = None
    button: str | None = None
    footer: str | None = None
    sms: str | None = None


class OccasionTextsView(View, kw_only=True):
    """The texts in one language, by what a message is about."""

    verify: ChosenTextsView | None = None
    password_reset: ChosenTextsView | None = None
    address_changed: ChosenTextsView | None = None
    address_removed: ChosenTextsView | None = None


class TextsView(View, kw_only=True):
    """The texts of messages, by language."""

    en: OccasionTextsView | None = None
    de: OccasionTextsView | None = None
    fr: OccasionTextsView | None = None
    es: OccasionTextsView | None = None


def sender_of(body: SenderBody | None, found: list[Violation]) -> Sender | None:
    """Read a sender, and add to what was found wrong; one without name and address is none."""
    if body is None or (body.name is None and body.address is None):
        return None
    address = None if body.address is None else normalise_email(body.address)
    if body.address is not None and (address is None or not address.isascii()):
        description = "must be an email address without a display name, in ASCII before the @"
        found.append(Violation("settings/sender/address", description, "format"))
    return Sender(body.name, address)


def texts_of(body: TextsBody | None) -> OwnTexts | None:
    """Read the texts; what holds none is left out."""
    if body is None:
        return None
    return {
        language: chosen
        for language, occasions in _given(body)
        if (chosen := {name: texts for name, parts in _given(occasions) if (texts := dict(_given(parts)))})
    }


def _given(struct: msgspec.Struct) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in asdict(struct).items() if value is not None]


def sender_view(sender: Sender | None) -> SenderView | None:
    """Show a sender."""
    return None if sender is None else SenderView(name=sender.name, address=sender.address)


def texts_view(texts: OwnTexts | None) -> TextsView | None:
    """Show the texts."""
    if texts is None:
        return None
    return TextsView(
        **{
            language: OccasionTextsView(**{name: ChosenTextsView(**parts) for name, parts in occasions.items()})
            for language, occasions in texts.items()
        }
    )
