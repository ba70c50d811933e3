"""Which transport each channel has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schema_user.delivery.email import MailWriter, SmtpTransport, parse_sender
from schema_user.delivery.mailbox import MailboxTransport
from schema_user.delivery.sms import SmsTransport
from schema_user.delivery.texts import Texts
from schema_user.domain.contact import Channel
from schema_user.store.mailbox import Mailbox

if TYPE_CHECKING:
    from schema_user.domain.message import Message
    from schema_user.domain.wording import Voice
    from schema_user.wiring import Wiring


class Transport(Protocol):
    """Hands a message to whatever brings it to its reader."""

    async def send(self, message: Message, voice: Voice) -> None:
        """Hand a message over, written in this voice; when this returns, somebody else answers for it.

        Raises:
            Undelivered: if it was not taken.
        """

    async def close(self) -> None:
        """Let go of connections that are open; never raises."""


def make_transports(wiring: Wiring) -> dict[Channel, Transport]:
    """Choose by the settings: what has a URL, else the mailbox on the local default, else nothing.

    Raises:
        ValueError: for a URL or a sender that cannot be used; the text names the setting, not its value.
    """
    settings = wiring.settings
    parse_sender(settings.mail_from)
    texts = Texts()
    writer = MailWriter(settings.public_url, texts)
    chosen: dict[Channel, Transport] = {}
    if settings.embedded:
        local = MailboxTransport(Mailbox(settings.data_dir), writer, texts, wiring.now)
        chosen = {Channel.EMAIL: local, Channel.PHONE: local}
    if settings.smtp_url is not None:
        chosen[Channel.EMAIL] = SmtpTransport(settings.smtp_url, writer, wiring.now)
    if settings.sms_url is not None:
        chosen[Channel.PHONE] = SmsTransport(settings.sms_url, texts, wiring.now)
    return chosen
