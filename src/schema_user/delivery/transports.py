"""Which transport each channel has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schema_user.delivery.email import MailWriter, SmtpTransport
from schema_user.delivery.mailbox import MailboxTransport
from schema_user.delivery.texts import Texts
from schema_user.domain.contact import Channel
from schema_user.store.mailbox import Mailbox

if TYPE_CHECKING:
    from schema_user.domain.message import Message
    from schema_user.wiring import Wiring


class Transport(Protocol):
    """Hands a message to whatever brings it to its reader."""

    async def send(self, message: Message) -> None:
        """Hand a message over; when this returns, somebody else answers for it.

        Raises:
            Undelivered: if it was not taken.
        """


def make_transports(wiring: Wiring) -> dict[Channel, Transport]:
    """Choose by the settings: SMTP if there is a URL, else the mailbox on the local default, else nothing.

    Raises:
        ValueError: for an SMTP URL or a sender that cannot be used; the text names the setting, not its value.
    """
    settings = wiring.settings
    writer = MailWriter(settings.mail_from, settings.public_url)
    chosen: dict[Channel, Transport] = {}
    if settings.embedded:
        local = MailboxTransport(Mailbox(settings.data_dir), writer, Texts(writer.service), wiring.now)
        chosen = {Channel.EMAIL: local, Channel.PHONE: local}
    if settings.smtp_url is not None:
        chosen[Channel.EMAIL] = SmtpTransport(settings.smtp_url, writer, wiring.now)
    return chosen
