"""The migration: moves the users of a schema to a revision, each by one guarded write.

A user who is at the revision already is left alone, whoever brought it there. So what is done again after a crash does
nothing a second time: the revision and the changed data came by the same write. Such a user counts as skipped then.

The users are gone through in the order of their ids. Who comes to the schema meanwhile passes its current revision
already. Those who fail are named, at most 500, and can be tried again by another job of the same kind. A job whose
schema moves on to another revision fails: what is left of it is for a later one.

A rehearsal does the same with each user up to the write. So it does not see what users who would be moved have in
common, such as a value that is to be unique: that is found by a dry run with the same transformation.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.commands.migrations import REASONS_OF_USERS, Moved, Mover, RevisionGone
from schema_user.commands.revising import CACHES_EMPTY
from schema_user.domain.migration import Migration, Tally
from schema_user.errors import Fault
from schema_user.jobs.runner import JobFailed
from schema_user.store.schema_users import Mark, Stored, stored

if TYPE_CHECKING:
    from schema_user.domain.schema import UserSchema
    from schema_user.jobs.runner import Work
    from schema_user.wiring import Wiring

_AT_ONCE: Final = 16
"""Users that are written together: they share the database's acknowledgement."""

_SECONDS_FOR_EACH: Final = 0.0005
"""What a write keeps a core busy: an update takes about so much of this process, and as much of the database."""

_SAVED_WITHIN: Final = 30.0
_LOOK_EVERY: Final = 0.2
"""Seconds for which, and between which, a job looks for the revision that it was started for."""


async def work(wiring: Wiring, work: Work) -> None:
    """Go through the users, from where the work was left."""
    migration = msgspec.json.decode(work.job.asked, type=Migration)
    schema = await _current(wiring, work, migration)
    mover = await Mover.of(wiring, work.job, schema)
    found = work.progress.found
    tally = msgspec.json.decode(found, type=Tally) if found else Tally()
    source = migration.from_schema_id or work.job.schema_id
    if not work.progress.total:
        work.note(total=await wiring.schema_users.count(source, work.job.organizations))
    place = Mark.of(work.progress.cursor)
    while page := await wiring.schema_users.page(source, work.job.organizations, place):
        users = [stored(content) for content in page]
        for start in range(0, len(users), _AT_ONCE):
            part = users[start : start + _AT_ONCE]
            written = await _moved(mover, part, tally)
            place = part[-1].mark
            if work.due:
                _note(work, tally, place)
            await work.rest(written * _SECONDS_FOR_EACH)
    if place is not None:
        _note(work, tally, place)
    work.note(total=work.progress.done)


async def _current(wiring: Wiring, work: Work, migration: Migration) -> UserSchema:
    """Find the schema at the revision, and wait until no process writes users by an earlier one any more."""
    deadline = time.monotonic() + (_SAVED_WITHIN if migration.awaited else 0)
    while (head := await wiring.schemas.find(work.job.schema_id)) is not None:
        if head.revision == migration.to_revision:
            age = (wiring.now() - head.changed_at).total_seconds()
            await asyncio.sleep(min(CACHES_EMPTY, max(0.0, CACHES_EMPTY - age)))
            return head
        if head.revision > migration.to_revision or time.monotonic() > deadline:
            raise JobFailed("REVISION_NOT_CURRENT")
        await asyncio.sleep(_LOOK_EVERY)
    raise JobFailed("SCHEMA_NOT_FOUND")


async def _moved(mover: Mover, users: list[Stored], tally: Tally) -> int:
    """Move some users at once; how many of them were looked at by a write."""
    if mover.migration.from_schema_id is None:
        waiting = [each for each in users if each.revision < mover.migration.to_revision]
    else:
        waiting = users
    tally.skipped += len(users) - len(waiting)
    outcomes = await asyncio.gather(
        *(mover.move(each.mark.organization_id, each.mark.user_id) for each in waiting), return_exceptions=True
    )
    for each, outcome in zip(waiting, outcomes, strict=True):
        if isinstance(outcome, REASONS_OF_USERS) and isinstance(outcome, Fault):
            tally.fail(each.mark.user_id, outcome.reason, outcome.violations)
        elif isinstance(outcome, RevisionGone):
            raise JobFailed("REVISION_NOT_CURRENT")
        elif isinstance(outcome, BaseException):
            raise outcome
        elif outcome is Moved.MOVED:
            tally.move(each.mark.user_id)
        else:
            tally.skipped += 1
    return len(waiting)


def _note(work: Work, tally: Tally, place: Mark) -> None:
    done = tally.moved + tally.skipped + tally.failed
    total = max(work.progress.total, done)
    work.note(cursor=place.text, found=msgspec.json.encode(tally), done=done, total=total)
