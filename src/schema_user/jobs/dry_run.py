"""The dry run of a schema: what differs from the present revision, and which of the stored users would not pass.

Each user who has the schema from the beginning of the scan to its end is judged once, as it was at some moment between.
Who comes to the schema meanwhile, or is changed after it was judged, may not be told of: whoever relies on the result
looks again at what was written since the job's ``started_at``.

The organizations are those that the caller had when it started the job. Without ``whole`` (``domain/dry_run.py``) the
users are judged as the caller sees them, and by what it may see: a property that is hidden is neither there nor
missing. Otherwise a schema that asks for a guess would tell of each user whether the guess is right.

With a transformation, users are judged as a migration to the new schema would make them; who has it already is judged
as it is.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from schema_user.commands.transformation import Transformer
from schema_user.domain.dry_run import DryRun, Gathering, Scan, Tally
from schema_user.domain.field_access import FieldRole
from schema_user.errors import Fault, Malformed, Unavailable, Unmet, Violation
from schema_user.jobs.runner import Effort, JobFailed
from schema_user.jobs.shared_values import SharedValues
from schema_user.store.schema_users import Mark, Stored, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from schema_user.domain.field_access import FieldAccess
    from schema_user.domain.schema import UserSchema
    from schema_user.jobs.runner import Work
    from schema_user.wiring import Wiring

_SLICE_DOCUMENTS: Final = 50
_SLICE_BYTES: Final = 64 * 1024
"""What is decoded and judged in one go: about a millisecond in which nobody else has a turn."""


async def work(wiring: Wiring, work: Work) -> None:
    """Compare the schemas, find what users share that they should have alone, then judge the users."""
    head = await wiring.schemas.find(work.job.schema_id)
    if head is None:
        raise JobFailed("SCHEMA_NOT_FOUND")
    try:
        run = await _Run.begun(wiring, work, head)
        await run.compare()
        await run.gather()
        await run.scan()
    except Unavailable:
        raise
    except Fault as fault:
        raise JobFailed(fault.reason) from None


class _Run:
    def __init__(self, wiring: Wiring, work: Work, head: UserSchema) -> None:
        self._wiring = wiring
        self._work = work
        self._asked = msgspec.json.decode(work.job.asked, type=DryRun)
        self._base = head
        self._candidate = dataclasses.replace(
            head,
            schema_id=f"job {work.job.job_id}",  # for caches that go by id and revision
            text=self._asked.text,
            dialect=self._asked.dialect,
            revision=self._asked.revision + (not self._asked.current),
        )
        self._accesses: list[_Accesses] = []
        self._transformer: Transformer | None = None
        self._shared: SharedValues | None = None
        found = work.progress.found
        self._scan = Scan(msgspec.json.decode(found, type=Tally) if found else Tally())

    @classmethod
    async def begun(cls, wiring: Wiring, work: Work, head: UserSchema) -> _Run:
        """Find out what the caller may read of the users, by the present schema and by the new one."""
        run = cls(wiring, work, head)
        run._base = await wiring.schemas.revision(head, run._asked.revision) or head
        for schema in (head, run._candidate):
            permissions = await wiring.permissions.get(schema)
            if permissions is not None:
                run._accesses.append(_Accesses(permissions.of(FieldRole.OWNER), permissions.of(FieldRole.SELF)))
        asked = run._asked.transformation
        if asked is not None:
            run._transformer = await Transformer.of(wiring, asked, run._candidate, head.schema_id)
        return run

    async def compare(self) -> None:
        """Say what differs from the revision that was the present one, unless that was said before a crash."""
        if self._scan.tally.comparison is None:
            self._scan.tally.comparison = await self._wiring.validators.compare(self._base, self._candidate)
            self._note(self._work.progress.cursor)

    async def gather(self) -> None:
        """Find out which values several users share that the new schema has unique, and the present one has not."""
        work, wiring = self._work, self._wiring
        if not work.progress.total:
            work.note(total=await wiring.schema_users.count(work.job.schema_id, work.job.organizations))
        plan = await wiring.plans.compiled(self._candidate)
        paths = plan.newly_unique(await wiring.plans.get(self._base)) if plan is not None else frozenset()
        if plan is None or not paths:
            return
        self._shared = SharedValues(wiring, work, plan, paths)
        gathering = self._scan.tally.gathering or Gathering()
        while True:
            if not gathering.whole:
                await self._go_through(self._shared, gathering)
            if await self._shared.compare(gathering):
                return
            gathering = Gathering()

    async def _go_through(self, shared: SharedValues, gathering: Gathering) -> None:
        """Gather the values of all users, from where the work was left."""
        if not gathering.users:  # what may have been counted before some of the digests were lost is counted anew
            self._scan = Scan(Tally(self._scan.tally.comparison, gathering))
            self._note("")
        async for part in self._parts():
            for user in part:
                made = await self._made(user)
                if not made.unmade:
                    shared.meet(user.mark.organization_id, made.shown)
            gathering.users += len(part)
            if self._work.due:
                await shared.store(gathering)
                self._note(part[-1].mark.text)
        await shared.store(gathering)
        gathering.whole = True
        self._note("")

    async def scan(self) -> None:
        """Judge the users, from where the work was left."""
        work, cursor = self._work, self._work.progress.cursor
        async for part in self._parts():
            made = [await self._made(user) for user in part]
            judged = [each for each in made if not each.unmade]
            for each in made:
                if each.unmade:
                    self._scan.add(each.user.mark.user_id, each.unmade)
            found = await self._wiring.validators.violations_of_many(self._candidate, [each.shown for each in judged])
            for each, violations in zip(judged, found, strict=True):
                self._scan.add(each.user.mark.user_id, self._told(each, violations))
            cursor = part[-1].mark.text
            if work.due:
                self._note(cursor)
        self._note(cursor)
        judged_all = self._scan.tally.passed + self._scan.tally.failed
        work.note(done=judged_all, total=judged_all)
        if self._shared is not None:
            await self._shared.forget()

    async def _parts(self) -> AsyncIterator[list[Stored]]:
        """Give the users part by part, from where the work was left; after each one it rests."""
        work, users = self._work, self._wiring.schema_users
        mark = Mark.of(work.progress.cursor)
        effort = Effort()
        while page := await users.page(work.job.schema_id, work.job.organizations, mark):
            for contents in _slices(page):
                part = [stored(content) for content in contents]
                yield part
                mark = part[-1].mark
                await work.rest(effort.seconds)
                effort = Effort()

    def _note(self, cursor: str) -> None:
        tally = self._scan.tally
        done = tally.passed + tally.failed
        if tally.gathering is not None:  # then all users are gone through twice
            done = (tally.gathering.users + done) // 2
        total = max(self._work.progress.total, done)
        self._work.note(cursor=cursor, found=msgspec.json.encode(tally), done=done, total=total)

    async def _made(self, user: Stored) -> _Made:
        """Give what is judged of a user: its data, transformed unless it has the revision already, as may be seen."""
        if self._transformer is not None and user.revision < self._candidate.revision:
            try:
                user = user._replace(data=await self._transformer.applied(user.data))
            except (Malformed, Unmet) as fault:
                return _Made(user, {}, fault.violations or [Violation("data", fault.message, fault.reason)])
        data = user.data
        if not self._asked.whole:
            for access in self._of(user):
                data = access.visible(data)
        return _Made(user, data)

    def _told(self, made: _Made, found: Sequence[Violation]) -> Sequence[Violation]:
        """Give what the caller may learn of what is wrong with a user."""
        user, violations = made.user, found
        if self._shared is not None:
            violations = [*found, *self._shared.violations(user.mark.organization_id, made.shown)]
        for access in self._of(user) if violations else ():
            seen = access.readable(user.data, violations)
            violations = seen if self._asked.whole else [each for each in seen if each in violations]
        return violations

    def _of(self, user: Stored) -> Iterator[FieldAccess]:
        for each in self._accesses:
            yield each.owner
            if user.mark.user_id == self._work.job.user_id:
                yield each.own


class _Made(NamedTuple):
    """A user with the data that it would have, what of that is judged, and what kept the data from being made."""

    user: Stored
    shown: dict[str, Any]
    unmade: Sequence[Violation] = ()


class _Accesses(NamedTuple):
    """What one schema lets a caller read of others, and of itself."""

    owner: FieldAccess
    own: FieldAccess


def _slices(page: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a page into parts of a bounded size, or of one document."""
    begin = size = 0
    for end, content in enumerate(page):
        if end > begin and (end - begin >= _SLICE_DOCUMENTS or size + len(content) > _SLICE_BYTES):
            yield page[begin:end]
            begin, size = end, 0
        size += len(content)
    if page:
        yield page[begin:]
