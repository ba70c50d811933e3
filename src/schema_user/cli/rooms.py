"""What a command works with beside the server: its database, and everything that is wired to it.

Commands import this module where they run, for it takes long to read.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from schema_user.rooms import wired
from schema_user.store.embedded import connect_or_start
from schema_user.validation.engines import engine_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.rooms import Rooms
    from schema_user.settings import Settings


def database(settings: Settings) -> contextlib.AbstractContextManager[object]:
    """Give the running local database, or start it for this command; nothing if another one is set."""
    return connect_or_start(settings.data_dir) if settings.embedded else contextlib.nullcontext()


@contextlib.asynccontextmanager
async def rooms(settings: Settings) -> AsyncIterator[Rooms]:
    """Open what ``wired`` opens, with the local database if that is the one."""
    engine_named(settings.validator)  # says what is missing, if something is
    with database(settings):
        async with wired(settings) as opened:
            yield opened
