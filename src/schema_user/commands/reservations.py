"""What many new users bring that nobody else may have: usernames, claimed in one call, and what their schemas mark."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from schema_user.commands.change import release_username, username_taken
from schema_user.commands.marks import Marked, mark, may_mark
from schema_user.domain.search import fold
from schema_user.errors import Fault
from schema_user.store.claims import Place, Wish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schema_user.domain.repetition import Once
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

_HANDS: Final = 16
"""Users whose unique values are claimed at once."""


async def reserve_all(wiring: Wiring, users: Sequence[tuple[User, Once | None]]) -> list[Marked | Fault]:
    """Claim what new users bring, as ``change.reserve()`` does; each comes as it shall be written, or why it cannot be.

    Raises:
        Unavailable: if the database does not answer; what was claimed is free in time.
    """
    named = await _named(wiring, users)
    found: list[Marked | Fault] = [each if isinstance(each, Fault) else Marked(each) for each in named]

    async def hand(rest: Iterator[int]) -> None:
        for index in rest:
            found[index] = await _marked(wiring, named[index], users[index][1])

    to_mark = await _to_mark(wiring, named)
    rest = iter(to_mark)
    # Where nothing has to be claimed nothing waits, and the first hand does it all.
    await asyncio.gather(*(hand(rest) for _ in range(min(_HANDS, len(to_mark)))))
    return found


async def _to_mark(wiring: Wiring, users: Sequence[User | Fault]) -> list[int]:
    """Find those whose schemas mark anything, by their places."""
    known: dict[str, bool] = {}
    found = []
    for index, user in enumerate(users):
        if isinstance(user, Fault):
            continue
        if user.schema_id not in known:
            known[user.schema_id] = await may_mark(wiring, user)
        if known[user.schema_id]:
            found.append(index)
    return found


async def _named(wiring: Wiring, users: Sequence[tuple[User, Once | None]]) -> list[User | Fault]:
    """Claim usernames; each user comes back with its claim, or why it cannot have the name."""
    named: list[User | Fault] = [user for user, _ in users]
    wishes = []
    for index, (user, once) in enumerate(users):
        if user.username is not None:
            nonce = once.nonce(user.version) if once else wiring.random_bits(96).to_bytes(12, "big")
            named[index] = replace(user, username_claim=nonce)
            wishes.append(
                (index, Wish(Place("username", user.organization_id, fold(user.username)), user.user_id, nonce))
            )
    if wishes:
        taken = await wiring.claims.take_all([wish for _, wish in wishes], wiring.now())
        for (index, _), is_mine in zip(wishes, taken, strict=True):
            if not is_mine:
                named[index] = username_taken()
    return named


async def _marked(wiring: Wiring, user: User | Fault, once: Once | None) -> Marked | Fault:
    if isinstance(user, Fault):
        return user
    try:
        return await mark(wiring, None, user, once)
    except Fault as fault:
        await release_username(wiring, user)
        return fault
