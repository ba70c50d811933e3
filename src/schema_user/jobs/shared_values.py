"""The values that several users share though a new schema has them unique: told by a dry run before it is saved.

No claim is made. All users are gone through once before any is judged: each value of a path that was not unique before
is digested with what its claim would be of, and stored (``store/job_digests.py``), so that another runner goes on with
it. The digests that are there more than once are then kept in memory while the users are judged.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from schema_user.commands.marks import value_place
from schema_user.domain.shared_digests import MOST_AT_ONCE, Met, Shared, unpacked
from schema_user.errors import Violation
from schema_user.jobs.runner import Effort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.domain.dry_run import Gathering
    from schema_user.domain.indexing import IndexPlan, Unique
    from schema_user.jobs.runner import Work
    from schema_user.wiring import Wiring


class SharedValues:
    """The values at some unique paths of a plan, in the hands of one turn of a runner."""

    def __init__(self, wiring: Wiring, work: Work, plan: IndexPlan, paths: frozenset[str]) -> None:
        """Begin with none known."""
        self._wiring = wiring
        self._work = work
        self._plan = plan
        self._paths = paths
        self._turn = f"{wiring.random_bits(64):016x}"
        self._met: list[bytes] = []
        self._shared = Shared()

    def meet(self, organization_id: str, data: dict[str, Any]) -> None:
        """Take in the values of a user."""
        self._met += [digest for _, digest in self._values(organization_id, data)]

    async def store(self, gathering: Gathering) -> None:
        """Store what was met; only what the gathering then says may be noted."""
        if not self._met:
            return
        job_id, number = self._work.job.job_id, gathering.turns.get(self._turn, 0)
        await self._wiring.job_digests.add(job_id, self._turn, number, b"".join(self._met), self._wiring.now())
        gathering.turns[self._turn] = number + 1
        gathering.values += len(self._met)
        self._met = []

    async def compare(self, gathering: Gathering) -> bool:
        """Find out which values were met more than once; False if some of what was stored is gone."""
        goes = gathering.values // MOST_AT_ONCE + 1
        for go in range(goes):
            met, effort = Met(), Effort()
            for turn, count in gathering.turns.items():
                found = 0
                async with aclosing(self._wiring.job_digests.of_turn(self._work.job.job_id, turn, count)) as chunks:
                    async for chunk in chunks:
                        met.add(each for each in unpacked(chunk["digests"]) if each % goes == go)
                        found += 1
                        await self._work.rest(effort.seconds)
                        effort = Effort()
                if found < count:
                    return False
            for _ in self._shared.find(met):
                await self._work.rest(effort.seconds)
                effort = Effort()
        return True

    def violations(self, organization_id: str, data: dict[str, Any]) -> list[Violation]:
        """Say which values of a user others of its organization have too."""
        return [
            Violation(each.pointer, "is the value of another user too", "unique")
            for each, digest in self._values(organization_id, data)
            if unpacked(digest)[0] in self._shared
        ]

    async def forget(self) -> None:
        """Remove what was stored."""
        await self._wiring.job_digests.remove(self._work.job.job_id)

    def _values(self, organization_id: str, data: dict[str, Any]) -> Iterator[tuple[Unique, bytes]]:
        schema_id = self._work.job.schema_id
        for each in self._plan.uniques(data):
            if each.path in self._paths:
                place = value_place(organization_id, schema_id, each.path, each.value)
                yield each, self._wiring.claims.short_id_of(place)
