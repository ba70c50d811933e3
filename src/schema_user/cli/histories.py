"""The doctor's look at the histories: whether every user's chain of entries is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.progress import Progress

from schema_user.cli.terminal import OUT, printable, unbroken
from schema_user.history_reading import check_histories
from schema_user.store.history import EXPIRES

if TYPE_CHECKING:
    from schema_user.rooms import Rooms
    from schema_user.store.history import CheckedChain

_NAMED: Final = 100
"""Broken chains that are named; the others are counted."""


async def whole_histories(opened: Rooms) -> bool:
    """Follow every chain, say what was found, and whether all are whole; users may be changed meanwhile."""
    wiring = opened.wiring
    may_expire = wiring.settings.history_ttl is not None or await opened.instance.known(EXPIRES)
    users = cut = unordered = 0
    broken: list[CheckedChain] = []
    with Progress(console=OUT, transient=True) as progress:
        following = progress.add_task("following histories", total=await wiring.history.count_of_users() or None)
        async for checked in check_histories(wiring, may_expire=may_expire):
            users += 1
            progress.advance(following)
            if checked.broken_at is not None:
                broken.append(checked)
            else:
                cut += checked.begins_at != 1
                unordered += checked.unordered
    OUT.print(
        f"histories: {users} users, {users - len(broken)} chains whole, {cut} of them without their oldest entries"
    )
    if unordered:
        OUT.print(
            f"[yellow]{unordered} histories have entries that expire before older ones: once they do, these chains are "
            "broken. docs/operations.md says how to let the older ones go first.[/]"
        )
    if broken:
        OUT.print(f"[red]{len(broken)} chains are broken: entries were changed, removed or reordered[/]")
    for each in broken[:_NAMED]:
        unbroken().print(f"  user {printable(each.head.user_id)}: from sequence {each.broken_at} on", markup=False)
    return not broken
