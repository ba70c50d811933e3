"""How messages look, by samples: the words and the voice are real, the values never anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import structs

from schema_user.commands.contact_rules import contact_rules
from schema_user.delivery.texts import Texts
from schema_user.delivery.voice import Voices
from schema_user.domain.contact import Channel, masked
from schema_user.domain.link import Link
from schema_user.domain.message import ADDRESS_CHANGED, Message
from schema_user.domain.wording import Occasion

if TYPE_CHECKING:
    from datetime import timedelta

    from schema_user.domain.wording import Choice, Voice
    from schema_user.wiring import Wiring

_USER_ID: Final = "283746501928374651"
_ORGANIZATION_ID: Final = "default"
_CODE: Final = "H4KQ9T"
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Any time will do: messages tell spans only."""
_RECIPIENT: Final = {Channel.EMAIL: "minnie@example.org", Channel.PHONE: "+41791234567"}
_OTHER: Final = {Channel.EMAIL: "minerva@example.net", Channel.PHONE: "+41797654321"}


@dataclass(frozen=True, slots=True)
class Preview:
    """A message as its reader gets it; a text message has neither subject nor HTML."""

    sender: str
    recipient: str
    text: str
    subject: str | None = None
    html: str | None = None


class Previews:
    """Shows messages in the voice of an organization."""

    def __init__(self, wiring: Wiring) -> None:
        """Read organizations and settings from ``wiring``."""
        self._wiring = wiring
        self._voices = Voices(wiring)
        self._texts = Texts()

    @property
    def style(self) -> str:
        """The one style sheet of all mails."""
        return self._texts.style

    async def show(self, choice: Choice, organization_id: str | None) -> Preview:
        """Show a message as a user of an organization would get it; without one, in the instance's own voice.

        Raises:
            Unavailable: if the database does not answer.
        """
        settings = self._wiring.settings
        if organization_id is None:
            voice = self._voices.instance
            ttl = settings.email_code_ttl if choice.channel is Channel.EMAIL else settings.phone_code_ttl
        else:
            voice = await self._voices.of(organization_id)
            ttl = (await contact_rules(self._wiring, organization_id)).ttl(choice.channel)
        return preview(self._texts, choice, voice, settings.public_url, ttl)


def preview(texts: Texts, choice: Choice, voice: Voice, public_url: str, ttl: timedelta) -> Preview:
    """Write a message of samples in a voice; ``ttl`` is how long a code is good."""
    message = _sample(choice, public_url, ttl)
    if message.channel is Channel.PHONE:
        return Preview(voice.service, message.recipient, texts.sms(message, _NOW, voice))
    mail = texts.mail(message, _NOW, voice)
    sender = f"{voice.sender_name} <{voice.sender_address}>" if voice.sender_name else voice.sender_address
    return Preview(sender, message.recipient, mail.text, mail.subject, mail.html)


def _sample(choice: Choice, public_url: str, ttl: timedelta) -> Message:
    """Make a message; its link leads to a page of the service, and there to nothing."""
    occasion, channel = choice.occasion, choice.channel
    message = Message(
        message_id=f"{_USER_ID}:sample",
        kind=occasion.value if occasion.has_code else ADDRESS_CHANGED,
        channel=channel,
        user_id=_USER_ID,
        organization_id=_ORGANIZATION_ID,
        recipient=_RECIPIENT[channel],
        created_at=_NOW,
        language=choice.language.value,
    )
    if not occasion.has_code:
        other = masked(channel, _OTHER[channel]) if occasion is Occasion.ADDRESS_CHANGED else None
        return structs.replace(message, other=other)
    link = Link(channel if occasion is Occasion.VERIFY else None, _USER_ID, _ORGANIZATION_ID, _CODE, "sample")
    return structs.replace(message, code=_CODE, expires_at=_NOW + ttl, url=link.url(public_url))
