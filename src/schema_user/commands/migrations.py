"""Migrations: start one, cancel one, and move one user."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.fields import PermittedDocument
from schema_user.commands.jobs import cancel_job, start_job
from schema_user.commands.repetition import begin_making
from schema_user.commands.transformation import Transformer, require_transformation
from schema_user.commands.users import with_document
from schema_user.domain.access import reached_schema, require
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.job import Job, JobKind
from schema_user.domain.job_access import covered, payer, reached_job
from schema_user.domain.migration import Migration
from schema_user.domain.permission import Permission, Role
from schema_user.domain.schema import Compatibility
from schema_user.errors import Aborted, Conflict, Denied, Fault, Malformed, Missing, Unmet, Violation

if TYPE_CHECKING:
    from schema_user.domain.migration import Transformation
    from schema_user.domain.repetition import Once
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

MIGRATION_NEEDS: Final = (Permission.USERSCHEMA_WRITE, Permission.USER_WRITE)


@dataclass(frozen=True, slots=True)
class Started:
    """A migration that was started; or the one of before, under the same key."""

    job: Job
    replayed: bool = False


async def start_migration(
    wiring: Wiring, caller: Caller, schema_id: str, migration: Migration, *, once: Once | None = None
) -> Started:
    """Start to move users to a schema's current revision, in the organizations where the caller may.

    Raises:
        Missing, Denied: if a schema is not there for the caller, or it does not hold the permissions.
        Malformed: if the patch or the expression is none.
        Unmet: ``REVISION_NOT_CURRENT``, or ``SCHEMA_UNKNOWN`` for the schema that users come from.
        Exhausted: if too many jobs were started or have not ended.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    organizations = _covered(caller, schema)
    await _require_source(wiring, caller, migration)
    if migration.to_revision != schema.revision:
        text = f"is not the current revision, which is {schema.revision}"
        raise Unmet("REVISION_NOT_CURRENT", f"toRevision {text}", [Violation("toRevision", text, "revision")])
    await require_transformation(wiring, caller, migration)
    job_id = wiring.new_id()
    if once is not None:
        job_id, is_new = await begin_making(wiring, once, job_id)
        made = None if is_new else await wiring.jobs.read(job_id)
        if made is not None:
            return Started(made, replayed=True)
    job = _job(wiring, caller, schema, migration, organizations=organizations, job_id=job_id)
    await start_job(wiring, job)
    return Started(job)


def _covered(caller: Caller, schema: UserSchema) -> tuple[str, ...] | None:
    """Give where a caller may move users; who does is shown what the schema hides, so it must be able to change it."""
    require(caller, Permission.USERSCHEMA_WRITE, schema.organization_id)
    return covered(caller, schema, MIGRATION_NEEDS)


async def _require_source(wiring: Wiring, caller: Caller, migration: Migration) -> None:
    """Raise unless the caller may change the schema that users come from too: what it hides could be shown by this."""
    source_id = migration.from_schema_id
    if source_id is None:
        return
    try:
        source = reached_schema(caller, await wiring.schemas.find(source_id), source_id)
    except Missing:
        violation = Violation("fromSchemaId", "is not known", "schemaUnknown")
        raise Unmet("SCHEMA_UNKNOWN", "the user schema that users come from is not known", [violation]) from None
    require(caller, Permission.USERSCHEMA_WRITE, source.organization_id)


def _job(
    wiring: Wiring,
    caller: Caller,
    schema: UserSchema,
    migration: Migration,
    *,
    organizations: tuple[str, ...] | None,
    job_id: str,
) -> Job:
    return Job(
        job_id=job_id,
        kind=JobKind.MIGRATION,
        schema_id=schema.schema_id,
        owner_id=payer(schema, organizations),
        organizations=organizations,
        asked=msgspec.json.encode(migration),
        created_at=wiring.now(),
        token_id=caller.token_id,
        user_id=caller.user_id,
    )


def reached_migration(caller: Caller, schema: UserSchema, job: Job | None, job_id: str) -> Job:
    """Give a migration of a schema if the caller could have started it.

    Raises:
        Missing, Denied: otherwise.
    """
    require(caller, Permission.USERSCHEMA_WRITE, schema.organization_id)
    return reached_job(caller, schema, job, job_id, kind=JobKind.MIGRATION, needs=MIGRATION_NEEDS)


async def get_migration(wiring: Wiring, caller: Caller, schema_id: str, job_id: str) -> Job:
    """Give a migration of a schema, or its rehearsal.

    Raises:
        Missing, Denied: if it is not there for the caller, or it could not start one.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    return reached_migration(caller, schema, await wiring.jobs.read(job_id), job_id)


async def cancel_migration(wiring: Wiring, caller: Caller, schema_id: str, job_id: str) -> Job:
    """Cancel a migration: who was moved stays so; one that has ended stays as it is.

    Raises:
        Missing, Denied: as for reading it.
    """
    return await cancel_job(wiring, await get_migration(wiring, caller, schema_id, job_id))


async def retry_migration(
    wiring: Wiring, caller: Caller, schema_id: str, job_id: str, *, once: Once | None = None
) -> Started:
    """Start a migration that has ended once more: who was moved is left alone, so it is for those that failed.

    Raises:
        Unmet: ``JOB_NOT_ENDED``; and as for starting one.
    """
    job = await get_migration(wiring, caller, schema_id, job_id)
    if not job.state.ended:
        raise Unmet("JOB_NOT_ENDED", "the migration has not ended yet; wait for it, or cancel it")
    asked = msgspec.json.decode(job.asked, type=Migration)
    again = msgspec.structs.replace(asked, awaited=False)
    return await start_migration(wiring, caller, schema_id, again, once=once)


class Migrations:
    """The migration that saving a schema begins, under the policy ``migrate``.

    It is stored before the revision is, so that no crash leaves a revision without it.
    """

    def __init__(self, wiring: Wiring, caller: Caller, transformation: Transformation | None = None) -> None:
        """Begin none yet; None: users are moved if their data passes as it is."""
        self._wiring = wiring
        self._caller = caller
        self._transformation = transformation
        self._begun: Job | None = None

    async def begin(self, revised: UserSchema, *, rehearsed: bool) -> None:
        """Store the job for a revision that is about to be saved.

        Raises:
            Denied: if the caller may not move users.
            Exhausted: if too many jobs have not ended.
        """
        organizations = _covered(self._caller, revised)
        if rehearsed or (self._begun is not None and self._begun.job_id == _id_of(revised)):
            return
        kept = {} if self._transformation is None else msgspec.structs.asdict(self._transformation)
        migration = Migration(**kept, to_revision=revised.revision, awaited=True)
        job = _job(self._wiring, self._caller, revised, migration, organizations=organizations, job_id=_id_of(revised))
        known = await self._wiring.jobs.find(job.job_id)
        if known is not None and not known.state.ended:
            return  # of a twin, or of a try that a crash cut off
        if known is not None:  # it waited for a revision that was not saved
            job = msgspec.structs.replace(job, job_id=self._wiring.new_id())
        await self.withdraw()
        await start_job(self._wiring, job)
        self._begun = job

    async def withdraw(self) -> None:
        """Take the job back, as the revision is not saved."""
        if self._begun is not None:
            await self._wiring.jobs.withdraw(self._begun.job_id)
            self._begun = None

    async def of(self, saved: UserSchema) -> str | None:
        """Give the id of the job that moves the users to a revision that was saved."""
        if self._begun is not None:
            return self._begun.job_id
        if saved.compatibility is not Compatibility.MIGRATE:
            return None
        known = await self._wiring.jobs.find(_id_of(saved))
        return known.job_id if known is not None and known.kind is JobKind.MIGRATION else None


def _id_of(schema: UserSchema) -> str:
    return f"{schema.schema_id}-{schema.revision}"


class Moved(enum.Enum):
    """What became of a user."""

    MOVED = enum.auto()
    SKIPPED = enum.auto()


class RevisionGone(Exception):
    """The schema moved on from the revision to which users shall be moved."""


@dataclass(frozen=True, slots=True)
class Mover:
    """Moves users, one after the other or several at once; or says of each what would become of it."""

    wiring: Wiring
    job: Job
    migration: Migration
    transformer: Transformer

    @classmethod
    async def of(cls, wiring: Wiring, job: Job, schema: UserSchema) -> Mover:
        """Prepare what is the same for all users."""
        migration = msgspec.json.decode(job.asked, type=Migration)
        return cls(wiring, job, migration, await Transformer.of(wiring, migration, schema, job.schema_id))

    async def move(self, organization_id: str, user_id: str) -> Moved:
        """Move a user, by one guarded write like any other; one who is at the revision is left alone.

        Raises:
            Fault: with what is wrong, if the user cannot be moved.
            RevisionGone: if the schema has another revision by now.
        """
        caller = Caller(self.job.token_id, (Grant(Role.ORG_USER_MANAGER, organization_id),), self.job.user_id)
        rehearsed = self.migration.rehearsed
        target = Target(caller, user_id, validate_only=rehearsed, request_id=f"job-{self.job.job_id}")
        moved = Moved.MOVED

        async def decide(user: User) -> Decision:
            nonlocal moved
            moved = Moved.SKIPPED if self._is_done(user) else Moved.MOVED
            return Decision(user if moved is Moved.SKIPPED else await self._after(user))

        try:
            await change_user(self.wiring, target, _permit, decide)
        except Missing:
            return Moved.SKIPPED
        return moved

    def _is_done(self, user: User) -> bool:
        """Whether a user is at the revision, or is none of those who shall be moved."""
        migration = self.migration
        if user.schema_id == self.job.schema_id:
            return user.revision >= migration.to_revision or migration.from_schema_id is not None
        return user.schema_id != migration.from_schema_id

    async def _after(self, user: User) -> User:
        data = await self.transformer.applied(user.data)
        document = PermittedDocument(self.job.schema_id, data)
        after = await with_document(self.wiring, user, document, explained=False)
        if after.revision != self.migration.to_revision:
            raise RevisionGone
        return after


def _permit(_user: User) -> None:
    """Whoever started the job held ``user.write`` in the user's organization."""


REASONS_OF_USERS: Final[tuple[type[Fault], ...]] = (Malformed, Unmet, Conflict, Denied, Aborted)
"""Faults that are a user's own; others concern the whole job."""
