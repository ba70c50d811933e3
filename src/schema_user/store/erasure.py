"""What the deletion of a user erases outside the user's own document.

The one write that deletes a user empties its document (``store/users.py``) and takes away the key that its history is
sealed under. What stands elsewhere is erased after that write, and once more by the sweep of a relay some seconds
later, for a record of it waits in the document: so it is done whichever process ends in between, and what another
process was copying just then is found too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from schema_user.store.outbox import erase_messages

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.store.connection import Database, Document
    from schema_user.store.mailbox import Mailbox

log = logging.getLogger(__name__)

ERASURE: Final = "erasure"
"""Where the record belongs that waits until the sweep has erased everything: to no collection."""


def erasure_record() -> Document:
    """Give the record as it waits in the document of a deleted user, beside those that are to be moved."""
    empty: dict[str, Any] = {}
    return {"id": ERASURE, "to": ERASURE, "size": 0, "record": empty}


class Erasure:
    """Erases what stands elsewhere of users that are deleted; again and again does no harm."""

    def __init__(self, database: Database, mailbox: Mailbox | None = None) -> None:
        """Use a database, and the mailbox of the local default if messages may be kept there."""
        self._outbox = database.collection("outbox")
        self._tokens = database.collection("tokens")
        self._mailbox = mailbox

    async def erase(self, user_id: str, now: datetime) -> None:
        """Erase the user's messages as far as they hold anything, its tokens, and its mails in the local mailbox.

        Raises:
            Unavailable: if the database does not answer.
        """
        await erase_messages(self._outbox, user_id, now)
        await self._tokens.delete_all({"user_id": user_id})
        if self._mailbox is not None:
            try:
                await asyncio.to_thread(self._mailbox.forget, user_id)
            except OSError as error:  # nobody else's erasure shall wait for that
                log.warning("mails to a deleted user stay in the local mailbox: %s", type(error).__name__)
