"""The dry run of a schema: what differs from the present revision, and which of the stored users would not pass.

Each user who has the schema from the beginning of the scan to its end is judged once, as it was at some moment between.
Who comes to the schema meanwhile, or is changed after it was judged, may not be told of: whoever relies on the result
looks again at what was written since the job's ``started_at``.

The organizations are those that the caller had when it started the job. Without ``whole`` (``domain/dry_run.py``) the
users are judged as the caller sees them, and by what it may see: a property that is hidden is neither there nor
missing. Otherwise a schema that asks for a guess would tell of each user whether the guess is right.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from schema_user.domain.dry_run import DryRun, Scan, Tally
from schema_user.domain.field_access import FieldRole
from schema_user.errors import Fault, Unavailable
from schema_user.jobs.runner import Effort, JobFailed
from schema_user.store.schema_users import Mark, Stored, stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schema_user.domain.field_access import FieldAccess
    from schema_user.domain.schema import UserSchema
    from schema_user.errors import Violation
    from schema_user.jobs.runner import Work
    from schema_user.wiring import Wiring

_SLICE_DOCUMENTS: Final = 50
_SLICE_BYTES: Final = 64 * 1024
"""What is decoded and judged in one go: about a millisecond in which nobody else has a turn."""


async def work(wiring: Wiring, work: Work) -> None:
    """Compare the schemas, then go through the users."""
    head = await wiring.schemas.find(work.job.schema_id)
    if head is None:
        raise JobFailed("SCHEMA_NOT_FOUND")
    try:
        run = await _Run.begun(wiring, work, head)
        await run.compare()
        await run.scan()
    except Unavailable:
        raise
    except Fault as fault:
        raise JobFailed(fault.reason) from None


class _Run:
    def __init__(self, wiring: Wiring, work: Work, head: UserSchema, accesses: Sequence[_Accesses]) -> None:
        self._wiring = wiring
        self._work = work
        self._head = head
        self._accesses = accesses
        self._asked = msgspec.json.decode(work.job.asked, type=DryRun)
        found = work.progress.found
        self._scan = Scan(msgspec.json.decode(found, type=Tally) if found else Tally())

    @classmethod
    async def begun(cls, wiring: Wiring, work: Work, head: UserSchema) -> _Run:
        """Find out what the caller may read of the users, by the present schema and by the new one."""
        run = cls(wiring, work, head, ())
        accesses = []
        for schema in (head, run._candidate):
            permissions = await wiring.permissions.get(schema)
            if permissions is not None:
                accesses.append(_Accesses(permissions.of(FieldRole.OWNER), permissions.of(FieldRole.SELF)))
        run._accesses = accesses
        return run

    @property
    def _candidate(self) -> UserSchema:
        """The new text as a schema of its own, for caches that go by id and revision."""
        asked = self._asked
        return dataclasses.replace(
            self._head,
            schema_id=f"job {self._work.job.job_id}",
            text=asked.text,
            dialect=asked.dialect,
            revision=asked.revision + 1,
        )

    async def compare(self) -> None:
        """Say what differs from the revision that was the present one, unless that was said before a crash."""
        if self._scan.tally.comparison is None:
            base = await self._wiring.schemas.revision(self._head, self._asked.revision)
            self._scan.tally.comparison = await self._wiring.validators.compare(base or self._head, self._candidate)
            self._note(self._work.progress.cursor)

    async def scan(self) -> None:
        """Go through the users page by page, from where the work was left."""
        work, job, users = self._work, self._work.job, self._wiring.schema_users
        if not work.progress.total:
            work.note(total=await users.count(job.schema_id, job.organizations))
        mark, candidate = Mark.of(work.progress.cursor), self._candidate
        effort = Effort()
        while page := await users.page(job.schema_id, job.organizations, mark):
            for part in _slices(page):
                judged = [stored(content) for content in part]
                found = await self._wiring.validators.violations_of_many(
                    candidate, [self._shown(each) for each in judged]
                )
                for each, violations in zip(judged, found, strict=True):
                    self._scan.add(each.mark.user_id, self._told(each, violations))
                mark = judged[-1].mark
                if work.due:
                    self._note(mark.text)
                await work.rest(effort.seconds)
                effort = Effort()
        self._note("" if mark is None else mark.text)
        work.note(total=work.progress.done)

    def _note(self, cursor: str) -> None:
        tally = self._scan.tally
        done = tally.passed + tally.failed
        total = max(self._work.progress.total, done)
        self._work.note(cursor=cursor, found=msgspec.json.encode(tally), done=done, total=total)

    def _shown(self, user: Stored) -> dict[str, Any]:
        """Give the document that is judged."""
        data = user.data
        if not self._asked.whole:
            for access in self._of(user):
                data = access.visible(data)
        return data

    def _told(self, user: Stored, violations: Sequence[Violation]) -> Sequence[Violation]:
        """Give what the caller may learn of what is wrong with a user."""
        for access in self._of(user) if violations else ():
            seen = access.readable(user.data, violations)
            violations = seen if self._asked.whole else [each for each in seen if each in violations]
        return violations

    def _of(self, user: Stored) -> Iterator[FieldAccess]:
        for each in self._accesses:
            yield each.owner
            if user.mark.user_id == self._work.job.user_id:
                yield each.own


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
