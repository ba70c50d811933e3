"""The transport of the local default: into the mailbox on this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from schema_user.delivery.email import MailWriter
    from schema_user.delivery.texts import Texts
    from schema_user.domain.message import Message
    from schema_user.domain.wording import Voice
    from schema_user.store.mailbox import Mailbox


class MailboxTransport:
    """Writes messages of both channels to files, the mail exactly as a server would get it."""

    def __init__(self, mailbox: Mailbox, writer: MailWriter, texts: Texts, now: Callable[[], datetime]) -> None:
        """Use a mailbox; ``now`` tells how long a code is still good."""
        self._mailbox = mailbox
        self._writer = writer
        self._texts = texts
        self._now = now

    async def send(self, message: Message, voice: Voice) -> None:
        """Keep a message; the same one again replaces the first.

        Raises:
            Undelivered: if it cannot be written, say on a full disk.
        """
        at, name = message.created_at, message.message_id
        try:
            if message.channel is Channel.EMAIL:
                mail = self._writer.write(message, self._now(), voice)
                await asyncio.to_thread(self._mailbox.put_mail, at, name, mail.as_bytes())
            else:
                text = self._texts.sms(message, self._now(), voice)
                await asyncio.to_thread(self._mailbox.put_text, at, name, message.recipient, text)
        except OSError as error:
            raise Undelivered(f"mailbox: {type(error).__name__}") from error

    async def close(self) -> None:
        """Do nothing: no file stays open."""
