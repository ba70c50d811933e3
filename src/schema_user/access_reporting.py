"""Everything that is held on one user, for whoever asks on the user's behalf (the right of access)."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.access import require
from schema_user.domain.permission import Permission
from schema_user.domain.search import MAX_LIMIT, Is, Page
from schema_user.errors import Missing
from schema_user.history_reading import ToldEntry, list_history
from schema_user.queries import SeenUser, get_user, search_messages, search_tokens
from schema_user.store.history import opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime

    from schema_user.domain.caller import Caller, Token
    from schema_user.domain.message import SeenMessage
    from schema_user.wiring import Wiring


class Section(enum.StrEnum):
    """What of a report needs a permission of its own."""

    TOKENS = "tokens"
    MESSAGES = "messages"


_NEEDED: Final = {Section.TOKENS: Permission.TOKEN_READ, Section.MESSAGES: Permission.MESSAGE_READ}


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What is held on a user at a time, but for its tokens, messages and history, which are read page by page.

    ``left_out`` are the sections that the caller may not read. ``whole``: the operator reads everything, whatever the
    schemas hide from others.
    """

    caller: Caller
    at: datetime
    seen: SeenUser
    left_out: frozenset[Section]
    whole: bool = False

    @property
    def user_id(self) -> str:
        """The id of the user."""
        return self.seen.user.user_id


async def access_report(wiring: Wiring, caller: Caller, user_id: str) -> AccessReport:
    """Begin a report for a caller, as far as it may read what is held.

    Raises:
        Missing: if the user is not there for the caller.
        Denied: without ``user.read``, also for the user itself: the history tells who else did what.
    """
    seen = await get_user(wiring, caller, user_id)
    organization_id = seen.user.organization_id
    require(caller, Permission.USER_READ, organization_id)
    left_out = frozenset(each for each, needed in _NEEDED.items() if not caller.may(needed, organization_id))
    return AccessReport(caller, wiring.now(), seen, left_out)


async def whole_report(wiring: Wiring, operator: Caller, user_id: str) -> AccessReport:
    """Begin a report for the operator, who reads everything, hidden fields among it.

    Raises:
        Missing: if there is no such user.
    """
    user = await wiring.users.read(user_id)
    if user is None:
        raise Missing("USER_NOT_FOUND", "user not found", metadata={"userId": user_id})
    schema = await wiring.schemas.head(user.schema_id)
    seen = SeenUser(user, "" if schema is None else schema.type)
    return AccessReport(operator, wiring.now(), seen, frozenset(), whole=True)


async def tokens_of(wiring: Wiring, report: AccessReport) -> AsyncGenerator[Sequence[Token], None]:
    """Give the tokens that act as the user, page by page; those that reach beyond the caller are left out."""
    page: Page | None = None if Section.TOKENS in report.left_out else Page("id", ascending=True, limit=MAX_LIMIT)
    while page is not None:
        found = await search_tokens(wiring, report.caller, Is("user_id", report.user_id), page)
        yield found.items
        page = _after(page, found.next_token)


async def messages_of(wiring: Wiring, report: AccessReport) -> AsyncGenerator[Sequence[SeenMessage], None]:
    """Give the messages to the user, and what webhooks of its organization are told of it, page by page."""
    page: Page | None = None if Section.MESSAGES in report.left_out else Page("id", ascending=True, limit=MAX_LIMIT)
    while page is not None:
        found = await search_messages(wiring, report.caller, Is("user_id", report.user_id), page)
        yield found.items
        page = _after(page, found.next_token)


def _after(page: Page, token: str | None) -> Page | None:
    return None if token is None else Page(page.sort, page.ascending, limit=page.limit, token=token)


async def history_of(wiring: Wiring, report: AccessReport) -> AsyncGenerator[Sequence[ToldEntry], None]:
    """Give the user's history, the newest first, page by page; hidden values are left out unless it is ``whole``."""
    if report.whole:
        async with contextlib.aclosing(_whole_history(wiring, report.user_id)) as entries:
            async for entry in entries:
                yield [entry]
        return
    token = None
    while True:
        page = await list_history(wiring, report.caller, report.user_id, MAX_LIMIT, token)
        yield page.entries
        token = page.next_token
        if token is None:
            return


async def _whole_history(wiring: Wiring, user_id: str) -> AsyncGenerator[ToldEntry, None]:
    head = await wiring.history.head(user_id)
    if head is None:
        return
    async with contextlib.aclosing(wiring.history.entries(head)) as entries:
        async for entry in entries:
            yield ToldEntry(entry, opened(head.key, entry))
