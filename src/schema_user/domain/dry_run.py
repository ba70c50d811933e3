"""Dry runs: what a new text of a schema would mean for the users that are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.comparison import Comparison
from schema_user.domain.migration import Transformation
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_GROUPS: Final = 100
"""Different violations that are told one by one; the rest are counted."""

MOST_USERS: Final = 100
"""Users that are named for one violation; all are counted."""

_MAX_CHARACTERS: Final = 1000
"""Of a pointer and of a description: names of properties can be as long as a body."""


class DryRun(msgspec.Struct, frozen=True):
    """What is asked: to judge the users by a schema that passed the gate, as if it came after ``revision``.

    With ``whole`` the documents are judged as they are stored; else as who started it may read them, because it could
    not give itself the right to read more by changing the schema. ``transformation``: what their data becomes before it
    is judged; None: they are judged as they are. ``current``: the schema is the one that ``revision`` has.
    """

    text: str
    dialect: str
    revision: int
    whole: bool
    transformation: Transformation | None = None
    current: bool = False


class Group(msgspec.Struct):
    """One violation: how many users have it, and the ids of the first ones."""

    violation: Violation
    count: int = 0
    users: list[str] = []


class Gathering(msgspec.Struct):
    """How far the values are gathered that users would have to have alone, before any user is judged.

    ``turns`` count the chunks of digests (``store/job_digests.py``) that each turn of a runner stored, ``users`` those
    that were gone through. ``whole``: all of them were.
    """

    turns: dict[str, int] = {}
    values: int = 0
    users: int = 0
    whole: bool = False


class Tally(msgspec.Struct):
    """What was found so far. ``comparison`` None: not compared yet; ``others`` counts violations without a group.

    ``gathering`` None: the schema makes no more values unique than before.
    """

    comparison: Comparison | None = None
    gathering: Gathering | None = None
    passed: int = 0
    failed: int = 0
    groups: list[Group] = []
    others: int = 0


class Scan:
    """A tally that grows."""

    def __init__(self, tally: Tally) -> None:
        """Go on from a tally."""
        self.tally = tally
        self._groups = {each.violation: each for each in tally.groups}

    def add(self, user_id: str, violations: Iterable[Violation]) -> None:
        """Count a user: in each of its violations once, and as passed without any."""
        told = {_short(each) for each in violations}
        if not told:
            self.tally.passed += 1
            return
        self.tally.failed += 1
        for each in sorted(told, key=lambda each: (each.field, each.reason, each.description)):
            group = self._groups.get(each)
            if group is None:
                if len(self._groups) >= MOST_GROUPS:
                    self.tally.others += 1
                    continue
                group = self._groups[each] = Group(each)
                self.tally.groups.append(group)
            group.count += 1
            if len(group.users) < MOST_USERS:
                group.users.append(user_id)


def _short(violation: Violation) -> Violation:
    """Keep what is told of a violation within a length; a place whose name is too long is told by what is around it."""
    field = violation.field
    while len(field) > _MAX_CHARACTERS:
        field = field.rpartition("/")[0]
    return Violation(field, violation.description[:_MAX_CHARACTERS], violation.reason)
