"""Connections to a mail server that stay open for the next mail."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from aiosmtplib.errors import SMTPException

if TYPE_CHECKING:
    from aiosmtplib import SMTP

IDLE_SECONDS: Final = 10.0
"""How long a connection waits for another mail; servers wait for minutes (RFC 5321, section 4.5.3.2.7)."""
_QUIT_TIMEOUT: Final = 1.0


class Kept:
    """Open connections that nobody uses.

    There are never more than mails were sent at once: a new one is only opened when none is left. The one used last
    is taken first, so that those that are not needed go.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._idle: list[tuple[SMTP, asyncio.TimerHandle]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> SMTP | None:
        """Take one that the server has not closed, to be kept again or closed; None if there is none."""
        while self._idle:
            client, timer = self._idle.pop()
            timer.cancel()
            if client.is_connected:
                return client
            client.close()
        return None

    def keep(self, client: SMTP) -> None:
        """Keep one for a while; never waits, never raises."""
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._dismiss, client)
        self._idle.append((client, timer))

    def _dismiss(self, client: SMTP) -> None:
        self._idle = [each for each in self._idle if each[0] is not client]
        task = asyncio.create_task(_leave(client))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Say goodbye over every one, for a second at most."""
        for client, timer in list(self._idle):
            timer.cancel()
            self._dismiss(client)
        if self._leaving:
            await asyncio.wait(self._leaving)


async def _leave(client: SMTP) -> None:
    try:
        if client.is_connected:
            with contextlib.suppress(SMTPException, OSError):
                await client.quit(timeout=_QUIT_TIMEOUT)
    finally:
        client.close()
