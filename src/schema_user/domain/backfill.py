"""Back-fills: users that were written before their schema marked what it marks now, and what stands in the way."""

from __future__ import annotations

from typing import Final

import msgspec

MOST_GROUPS: Final = 100
"""Values that several users have, told one by one; the rest are counted. Likewise users that have too many values."""

MOST_USERS: Final = 100
"""Users that are named for one value; all are counted."""


class Sharer(msgspec.Struct, frozen=True):
    """A user that has a value which should be unique, and where."""

    user_id: str
    organization_id: str
    pointer: str


class Duplicate(msgspec.Struct):
    """A value that several users have: ``claim`` stands for it. ``holder_id`` is the user whose it stays."""

    claim: str
    path: str
    organization_id: str
    holder_id: str
    count: int = 0
    users: list[Sharer] = []


class Filled(msgspec.Struct):
    """What a back-fill found so far.

    ``changed`` users got entries or claims. ``crowded`` have more values than are indexed or unique, so that some of
    them are not; ``others`` counts values that several have and that have no place here.
    """

    changed: int = 0
    duplicates: list[Duplicate] = []
    others: int = 0
    crowded: list[tuple[str, str]] = []
    more_crowded: int = 0

    def share(self, claim: str, path: str, holder_id: str, sharer: Sharer) -> None:
        """Note a user that has a value of somebody else's."""
        for each in self.duplicates:
            if each.claim == claim:
                break
        else:
            if len(self.duplicates) >= MOST_GROUPS:
                self.others += 1
                return
            each = Duplicate(claim, path, sharer.organization_id, holder_id)
            self.duplicates.append(each)
        if any(known.user_id == sharer.user_id and known.pointer == sharer.pointer for known in each.users):
            return
        each.count += 1
        if len(each.users) < MOST_USERS:
            each.users.append(sharer)

    def crowd(self, organization_id: str, user_id: str) -> None:
        """Note a user that has too many values."""
        if (organization_id, user_id) in self.crowded:
            return
        if len(self.crowded) < MOST_GROUPS:
            self.crowded.append((organization_id, user_id))
        else:
            self.more_crowded += 1


class BackFill(msgspec.Struct, frozen=True):
    """What is asked: to bring the users under the marks of a schema's revision."""

    revision: int
