"""Exporting users: all that a caller may read, in the order of their ids, from wherever it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from schema_user.domain.access import lacking
from schema_user.domain.keyring import SealError
from schema_user.domain.permission import Permission
from schema_user.errors import Malformed, Violation
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.user import User
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

PAGE: Final = 250
"""Users that are read at once."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Some users that follow one another, as the caller may see them, and the token that leads on if there are more."""

    users: Sequence[User]
    next_token: str | None


async def export_users(
    wiring: Wiring, caller: Caller, schema_id: str | None, token: str | None
) -> AsyncGenerator[Exported, None]:
    """Give the users of every organization where the caller holds ``user.read``, a page at a time.

    A user that is there from the beginning to the end is given once, whatever else is written meanwhile; each as it is
    when its page is read.

    Raises:
        Denied: if the caller holds ``user.read`` nowhere.
        Malformed: for a page token that is not one of these.
    """
    organizations = caller.organizations(Permission.USER_READ)
    if organizations is not None and not organizations:
        raise lacking(Permission.USER_READ)
    scope: Document = {"deleted": False}
    if organizations is not None:
        scope["organization_id"] = {"$in": sorted(organizations)}
    if schema_id is not None:
        scope["schema_id"] = schema_id
    context = f"export|{caller.token_id}|{caller.acting or ''}|{schema_id or ''}"
    last_id = "" if token is None else _opened(wiring, token, context)
    more = True
    while more:
        found = await wiring.users.after(scope, last_id, PAGE + 1)
        more = len(found) > PAGE
        shown = found[:PAGE]
        seen = [each for each in [await _seen(wiring, caller, user) for user in shown] if each is not None]
        last_id = shown[-1].user_id if more else last_id
        yield Exported(seen, wiring.keyring.seal(last_id.encode(), context).hex() if more else None)


async def _seen(wiring: Wiring, caller: Caller, user: User) -> User | None:
    """Leave out what the caller may not read of the data; the whole user, if its schema is not there to say that."""
    schema = await wiring.schemas.head(user.schema_id)
    if schema is None:
        return None
    access = await wiring.field_access(caller, user.user_id, schema)
    if access is None:
        return user
    return replace(user, data=await aside(lambda: access.visible(user.data), user.data))


def _opened(wiring: Wiring, token: str, context: str) -> str:
    try:
        return wiring.keyring.open(bytes.fromhex(token), context).decode()
    except (ValueError, SealError) as error:
        words = "is not a page token of this export"
        raise Malformed(
            "PAGE_TOKEN_INVALID", f"pageToken {words}", [Violation("?pageToken", words, "pageToken")]
        ) from error
