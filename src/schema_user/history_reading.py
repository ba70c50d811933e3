"""Reads of users' histories: what changed, a user as it was, and whether the chains are whole."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from schema_user.domain.access import reached_user, require
from schema_user.domain.history import SHORTEST_TTL, as_of, snapshot, undo
from schema_user.domain.history_access import seen_changes, seen_data
from schema_user.domain.keyring import SealError
from schema_user.domain.permission import Permission
from schema_user.domain.user import UserState
from schema_user.errors import Malformed, Missing, Unmet, Violation
from schema_user.store.history import opened
from schema_user.wiring import LARGE, aside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime
    from typing import TypeVar

    from schema_user.domain.caller import Caller
    from schema_user.domain.history import Change, Entry
    from schema_user.domain.history_access import Accesses
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.store.history import CheckedChain, Head
    from schema_user.wiring import Wiring

    T = TypeVar("T")
    Moment = int | datetime
    """A sequence, or a time."""

_PAGE_SIZE: Final = 4 * 1024 * 1024
"""Bytes of sealed values after which a page ends, however few its entries are."""

_STEP: Final = 64
"""Entries that are undone before others have a turn."""

_AT_ONCE: Final = 8
"""Users whose chains are checked at the same time, each with a batch of at most 16 MiB in memory."""

_LISTED: Final = 400
"""Ids of users that are listed at once for the check."""


@dataclass(frozen=True, slots=True)
class ToldEntry:
    """An entry, and what the caller may read of its changes."""

    entry: Entry
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of a user's history, the newest first; ``sequence`` is the user's own at present."""

    sequence: int
    entries: tuple[ToldEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class PastUser:
    """A user as it was, as far as the caller may read it, and the present name of the type of its schema then."""

    user: User
    schema_type: str


class _Mark(msgspec.Struct, array_like=True):
    """Where a page ended: its oldest entry, and the schema that the user had before that one."""

    entry_id: str
    schema_id: str
    revision: int


async def list_history(wiring: Wiring, caller: Caller, user_id: str, limit: int, token: str | None) -> HistoryPage:
    """List the changes of a user that a client could see, the newest first.

    Of a deleted user only the facts are there: who, when, by which request. A page may have less than ``limit``
    entries before the last one, if they are large.

    Raises:
        Missing: if the user is not there for the caller.
        Denied: without ``user.read``, also for the user itself.
        Malformed: for a page token of another caller, organization or user.
    """
    head = await _reached(wiring, caller, user_id)
    context = f"history|{caller.token_id}|{caller.acting or ''}|{head.organization_id}|{user_id}"
    mark = _Mark("", head.schema_id, head.revision) if token is None else _open(wiring, token, context)
    entries, more = await _page(wiring, head, mark.entry_id or None, limit)
    size = sum(len(each.sealed) for each in entries)
    found = await _apart(lambda: [opened(head.key, each) for each in entries], size)
    past = _Past(wiring, caller, head)
    told, schema = [], (mark.schema_id, mark.revision)
    for entry, changes in zip(entries, found, strict=True):
        if head.deleted and entry.sequence == head.sequence:
            told.append(ToldEntry(entry, [{"pointer": "/state", "new": UserState.DELETED.value}]))
            continue
        earlier = _schema_before(changes, schema)
        seen = await past.changes(changes, earlier, schema, len(entry.sealed))
        told.append(ToldEntry(entry, seen))
        schema = earlier
    following = None
    if more and entries:
        sealed = wiring.keyring.seal(msgspec.json.encode(_Mark(entries[-1].entry_id, *schema)), context)
        following = sealed.hex()
    return HistoryPage(head.sequence, tuple(told), following)


async def _reached(wiring: Wiring, caller: Caller, user_id: str) -> Head:
    head = reached_user(caller, await wiring.history.head(user_id), user_id)
    if head.deleted and not caller.may(Permission.USER_READ, head.organization_id):
        raise _missing(user_id)
    require(caller, Permission.USER_READ, head.organization_id)
    return head


def _missing(user_id: str) -> Missing:
    return Missing("USER_NOT_FOUND", "user not found", metadata={"userId": user_id})


def _open(wiring: Wiring, token: str, context: str) -> _Mark:
    try:
        return msgspec.json.decode(wiring.keyring.open(bytes.fromhex(token), context), type=_Mark)
    except (ValueError, SealError) as error:
        message = "is not a page token of this history"
        raise Malformed(
            "PAGE_TOKEN_INVALID", f"pageToken {message}", [Violation("?pageToken", message, "pageToken")]
        ) from error


async def _page(wiring: Wiring, head: Head, before: str | None, limit: int) -> tuple[list[Entry], bool]:
    """Read the entries of a page, and whether there are more."""
    found: list[Entry] = []
    size = 0
    async with contextlib.aclosing(wiring.history.entries(head, before)) as entries:
        async for entry in entries:
            if len(found) == limit or size > _PAGE_SIZE:
                return found, True
            found.append(entry)
            size += len(entry.sealed)
    return found, False


async def _apart(work: Callable[[], T], size: int) -> T:
    """Do pure work on so many bytes of values; in a thread if they are many, so that others have a turn."""
    return await asyncio.to_thread(work) if size > LARGE else work()


def _schema_before(changes: Sequence[Change], after: tuple[str, int]) -> tuple[str, int]:
    """Give the schema and revision that a user had before changes; before its creation, those that it got."""
    schema_id, revision = after
    for change in changes:
        match change:
            case {"pointer": "", "old": {"schema": {"id": schema_id, "revision": revision}}}:
                pass
            case {"pointer": "/schema/id", "old": schema_id}:
                pass
            case {"pointer": "/schema/revision", "old": revision}:
                pass
    return schema_id, revision


class _Past:
    """What a caller may read of a user's past, by the schemas of today and of then; asked for each once."""

    def __init__(self, wiring: Wiring, caller: Caller, head: Head) -> None:
        self._wiring = wiring
        self._caller = caller
        self._head = head
        self._known: dict[tuple[str, int] | None, Accesses] = {}

    async def changes(
        self, changes: Sequence[Change], before: tuple[str, int], after: tuple[str, int], size: int
    ) -> Sequence[Change]:
        """Give what may be read of changes by which a user came from one schema and revision to another."""
        if not changes:
            return changes
        old, new = await self.accesses(before), await self.accesses(after)
        if old == () == new:
            return changes
        return await _apart(lambda: seen_changes(changes, old, new), size)

    async def accesses(self, schema: tuple[str, int]) -> Accesses:
        """Give what must permit a read of what the user had under a schema at a revision."""
        today, then = await self.today(), await self._accesses(schema)
        return None if today is None or then is None else tuple(dict.fromkeys((*today, *then)))

    async def today(self) -> Accesses:
        """Give what must permit a read of what the user has now."""
        return await self._accesses(None)

    async def _accesses(self, schema: tuple[str, int] | None) -> Accesses:
        if schema not in self._known:
            found = await self._schema(schema)
            if found is None:
                self._known[schema] = None
            else:
                access = await self._wiring.field_access(self._caller, self._head.user_id, found)
                self._known[schema] = () if access is None else (access,)
        return self._known[schema]

    async def _schema(self, schema: tuple[str, int] | None) -> UserSchema | None:
        if schema is None:
            return await self._wiring.schemas.head(self._head.schema_id)
        schema_id, revision = schema
        head = await self._wiring.schemas.head(schema_id)
        if head is not None and head.revision < revision:  # it moved on within the last half second
            head = await self._wiring.schemas.find(schema_id)
        return None if head is None else await self._wiring.schemas.revision(head, revision)


async def get_past_user(wiring: Wiring, caller: Caller, user_id: str, moment: Moment) -> PastUser:
    """Give a user as it was at a sequence or a time; what lies in the future is the present.

    Raises:
        Missing, Denied: as for the list; Missing also of a deleted user, and before its creation.
        Unmet: ``HISTORY_EXPIRED``, if an entry that is needed is not kept any more.
    """
    user = await wiring.users.read(user_id)
    head = await _reached(wiring, caller, user_id)
    if user is None or head.deleted:
        raise _missing(user_id)
    past = _Past(wiring, caller, head)
    if _reaches(moment, user.sequence, user.changed_at):
        accesses = await past.today()
    else:
        user = await _rebuilt(wiring, head, user, moment)
        accesses = await past.accesses((user.schema_id, user.revision))
    data = await aside(partial(seen_data, user.data, accesses), user.data) if accesses != () else user.data
    schema = await wiring.schemas.head(user.schema_id)
    return PastUser(replace(user, data=data), "" if schema is None else schema.type)


def _reaches(moment: Moment, sequence: int, at: datetime) -> bool:
    return sequence <= moment if isinstance(moment, int) else at <= moment


async def _rebuilt(wiring: Wiring, head: Head, user: User, moment: Moment) -> User:
    """Take what changed since a moment in the past back out of a user."""
    if not _reaches(moment, 1, user.created_at):
        raise Missing("USER_NOT_CREATED", "the user was not there yet", metadata={"userId": user.user_id})
    # It may be shared with others that asked for the user at the same time.
    seen = await aside(partial(copy.deepcopy, snapshot(user)), user.data)
    sequence = user.sequence
    async with contextlib.aclosing(wiring.history.entries(head)) as entries:
        async for entry in entries:
            if entry.sequence > user.sequence:
                continue
            if entry.sequence != sequence:
                break
            if _reaches(moment, entry.sequence, entry.at):
                return as_of(user, seen, entry.sequence, entry.at)
            seen = await _apart(partial(_before, seen, head.key, entry), len(entry.sealed))
            sequence -= 1
            if sequence % _STEP == 0:
                await asyncio.sleep(0)
    raise Unmet("HISTORY_EXPIRED", "the history of that time is not kept any more")


def _before(seen: dict[str, Any], key: bytes, entry: Entry) -> dict[str, Any]:
    return undo(seen, opened(key, entry))


async def check_histories(wiring: Wiring, *, may_expire: bool) -> AsyncIterator[CheckedChain]:
    """Follow the chain of every user's history, deleted ones among them, while users are changed.

    ``may_expire``: entries were not always kept for ever, so that the oldest of a chain may be gone.

    Raises:
        Unavailable: if the database does not answer.
    """
    after = ""
    while ids := await wiring.history.user_ids(after, _LISTED):
        after = ids[-1]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for checked in await asyncio.gather(*(_checked(wiring, each, may_expire=may_expire) for each in some)):
                if checked is not None:
                    yield checked


async def _checked(wiring: Wiring, user_id: str, *, may_expire: bool) -> CheckedChain | None:
    head = await wiring.history.head(user_id)
    if head is None:
        return None
    return await wiring.history.check(head, wiring.now() - SHORTEST_TTL if may_expire else None)
