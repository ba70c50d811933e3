"""The policy ``refuse``: a revision that a stored user would fail does not become current.

A revision that is not safe by itself (``domain/comparison.py``) needs a dry run of the same text over all users, of
whom none failed. Who was written since is looked at once more, and nobody may slip through meanwhile: so the revision
is announced first, in the schema's head. From when every process knows that, data must match it too
(``commands/users.py``: ``require_valid()``). Then the users that were written since the dry run began are judged, and
the revision becomes current by the same guarded write as any other. Nobody waits for that but its author. An
announcement that is left by a crash is forgotten by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.comparison import Verdict
from schema_user.domain.document import same
from schema_user.domain.dry_run import DryRun, Tally
from schema_user.domain.job import JobState
from schema_user.domain.job_access import reached_dry_run
from schema_user.domain.schema import Announced
from schema_user.errors import Aborted, Fault, Missing, Unmet, Violation
from schema_user.store.schemas import HEAD_TTL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from schema_user.domain.caller import Caller
    from schema_user.domain.comparison import Comparison
    from schema_user.domain.job import Job
    from schema_user.domain.schema import UserSchema
    from schema_user.wiring import Wiring

CACHES_EMPTY: Final = HEAD_TTL * 3
"""Seconds after which no process uses a head that it read before."""

_ANNOUNCED_TTL: Final = timedelta(minutes=3)
_MARGIN: Final = timedelta(minutes=1)
"""What clocks may differ by, and a write may take."""

_MOST_WRITTEN: Final = 100_000
_MOST_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class Revising:
    """A new text for a schema, and the dry run that speaks for it."""

    caller: Caller
    text: str
    dialect: str
    dry_run_job_id: str | None

    def of(self, schema: UserSchema) -> UserSchema:
        """Give the schema with the new text, at its next revision."""
        return dataclasses.replace(
            schema, text=self.text, dialect=self.dialect, revision=schema.revision + 1, announced=None
        )


async def announce(wiring: Wiring, schema: UserSchema, revising: Revising) -> None:
    """Let every process know of a revision that is about to become current, unless it is safe by itself.

    Raises:
        Unmet: ``DRY_RUN_REQUIRED`` or ``DRY_RUN_UNFIT``, if no dry run shows that all users would pass.
        Aborted: if others changed the schema at the same time.
    """
    if await _is_safe(wiring, schema, revising):
        return
    await _dry_run(wiring, schema, revising)
    until = wiring.now() + _ANNOUNCED_TTL
    announced = Announced(revising.text, revising.dialect, f"{wiring.random_bits(96):024x}", until)
    if not await wiring.schemas.replace(
        schema, dataclasses.replace(schema, announced=announced, version=schema.version + 1)
    ):
        raise _race_lost()
    await asyncio.sleep(CACHES_EMPTY)


async def admit(wiring: Wiring, schema: UserSchema, revising: Revising, *, rehearsed: bool = False) -> None:
    """Raise unless no user would fail a schema's next revision; ``rehearsed``: nothing was announced.

    Raises:
        Unmet: ``USERS_WOULD_FAIL``, with what is wrong with users that were written since the dry run; and as above.
        Aborted: if another revision was announced meanwhile.
    """
    if await _is_safe(wiring, schema, revising):
        return
    job = await _dry_run(wiring, schema, revising)
    following = schema.following(wiring.now())
    if rehearsed:
        following = dataclasses.replace(revising.of(schema), schema_id=f"rehearsed {wiring.random_bits(96):024x}")
    elif following is None or following.text != revising.text:
        raise _race_lost()
    try:
        await _require_passing(wiring, following, schema.schema_id, (job.started_at or job.created_at) - _MARGIN)
    except Fault:
        if not rehearsed:
            await _withdraw(wiring, schema)
        raise
    if not rehearsed and (schema.announced is None or wiring.now() > schema.announced.until - _MARGIN):
        raise _race_lost()


async def _is_safe(wiring: Wiring, schema: UserSchema, revising: Revising) -> bool:
    compared = await wiring.validators.compare(schema, revising.of(schema))
    if compared.verdict is not Verdict.SAFE and revising.dry_run_job_id is None:
        raise _dry_run_required(compared)
    return compared.verdict is Verdict.SAFE


def _dry_run_required(compared: Comparison) -> Unmet:
    doubtful = [each for each in compared.differences if each.breaking is not False][:_MOST_LISTED]
    found = "breaking" if compared.verdict is Verdict.BREAKING else "not known to be safe"
    return Unmet(
        "DRY_RUN_REQUIRED",
        f"the new schema is {found}, and compatibility is refuse: dryRunJobId must name a dry run of it",
        [
            Violation("dryRunJobId", "must name a finished dry run that no user fails", "required"),
            *(Violation("schema", each.description, each.kind) for each in doubtful),
        ],
        metadata={"verdict": compared.verdict.value},
    )


async def _dry_run(wiring: Wiring, schema: UserSchema, revising: Revising) -> Job:
    """Find the dry run that speaks for a revision."""
    job_id = revising.dry_run_job_id or ""
    try:
        job = reached_dry_run(revising.caller, schema, await wiring.jobs.read(job_id), job_id)
    except Missing:
        raise _unfit("is not known for this user schema") from None
    asked = msgspec.json.decode(job.asked, type=DryRun)
    found = msgspec.json.decode(job.progress.found or b"{}", type=Tally)
    wrong = (
        (job.state is not JobState.DONE, f"is {job.state.value}: it must have come to its end"),
        (asked.revision != schema.revision, f"was made against revision {asked.revision}, not {schema.revision}"),
        (not _same_text(asked, revising), "was made with another schema"),
        (job.organizations is not None and schema.organization_id is None, "did not cover all organizations"),
        (not asked.whole, "did not see all of the users' data"),
        (asked.transformation is not None, "judged what the users' data would become, not what it is"),
        (found.failed > 0, f"found {found.failed} users who would fail"),
    )
    for is_wrong, text in wrong:
        if is_wrong:
            raise _unfit(text)
    return job


def _same_text(asked: DryRun, revising: Revising) -> bool:
    return asked.dialect == revising.dialect and same(
        msgspec.json.decode(asked.text), msgspec.json.decode(revising.text)
    )


def _unfit(text: str) -> Unmet:
    return Unmet("DRY_RUN_UNFIT", f"the dry run {text}", [Violation("dryRunJobId", text, "dryRunUnfit")])


async def _require_passing(wiring: Wiring, following: UserSchema, schema_id: str, since: datetime) -> None:
    """Raise Unmet if a user who was written since a time would fail a revision, or if those are too many."""
    deadline = wiring.now() + _MARGIN
    seen, after = 0, None
    while page := await wiring.schema_users.changed(schema_id, since, after):
        found = await wiring.validators.violations_of_many(following, [user.data for _, user in page])
        failing = [user.mark.user_id for (_, user), violations in zip(page, found, strict=True) if violations]
        if failing:
            raise _would_fail(failing, [each for violations in found for each in violations])
        after = page[-1][0]
        seen += len(page)
        if seen > _MOST_WRITTEN or wiring.now() > deadline:
            raise _unfit("is too old: too many users were written since it began")


def _would_fail(users: Sequence[str], violations: Sequence[Violation]) -> Unmet:
    return Unmet(
        "USERS_WOULD_FAIL",
        "users that were written since the dry run began would fail the new schema",
        list(dict.fromkeys(violations))[:_MOST_LISTED],
        metadata={"users": ",".join(users)},
    )


async def _withdraw(wiring: Wiring, schema: UserSchema) -> None:
    """Take an announcement back; if that fails it ends by itself."""
    await wiring.schemas.replace(schema, dataclasses.replace(schema, announced=None, version=schema.version + 1))


def _race_lost() -> Aborted:
    return Aborted("RACE_LOST", "others changed the user schema at the same time; try again", retry_after=1)
