"""User schemas: create, update, activate, delete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.commands.change import expect_sequence, require_active_organization
from schema_user.commands.events import schema_deliveries
from schema_user.commands.migrations import Migrations
from schema_user.commands.repetition import before_writing, begin_making, keep, numbered
from schema_user.commands.revising import CACHES_EMPTY, Revising, admit, announce
from schema_user.commands.schema_marks import marked_schema, plan_backfill
from schema_user.commands.transformation import require_transformation
from schema_user.domain.access import reached_organization, reached_schema, require
from schema_user.domain.document import same
from schema_user.domain.permission import Permission
from schema_user.domain.repetition import Answered
from schema_user.domain.schema import Compatibility, SchemaState, UserSchema
from schema_user.errors import Aborted, Conflict, Malformed, Unmet, Violation
from schema_user.store.claims import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.migration import Transformation
    from schema_user.domain.repetition import Known, Once
    from schema_user.domain.schema import Authenticator
    from schema_user.validation.validators import Judged
    from schema_user.wiring import Wiring

_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class CreateSchema:
    """Make a user schema; ``organization_id`` None makes it the instance's."""

    type: str
    document: object
    organization_id: str | None
    authenticators: tuple[Authenticator, ...] = ()
    compatibility: Compatibility = Compatibility.ALLOW


@dataclass(frozen=True, slots=True)
class UpdateSchema:
    """Change what is given; only a changed document raises the revision.

    ``compatibility`` holds for this change already. ``dry_run_job_id`` names the dry run that speaks for the document,
    where that is needed. ``transformation``: what users' data becomes in the migration that the change begins.
    """

    type: str | None = None
    document: object = None
    authenticators: tuple[Authenticator, ...] | None = None
    compatibility: Compatibility | None = None
    dry_run_job_id: str | None = None
    transformation: Transformation | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A schema after a command, and what the author should know about it; or the answer of before, given again.

    ``job_id`` names the migration that the change began.
    """

    schema: UserSchema
    warnings: Sequence[Violation] = ()
    replayed: bool = False
    job_id: str | None = None


async def check_document(wiring: Wiring, caller: Caller, document: object) -> Judged:
    """Put an uploaded JSON Schema through the gate.

    Raises:
        Malformed: ``SCHEMA_INVALID``, with every finding.
        Unavailable: if too many validations wait.
    """
    findings = await wiring.check_upload(caller, document)
    if findings.violations:
        first = findings.violations[0]
        raise Malformed("SCHEMA_INVALID", f"{first.field} {first.description}", findings.violations)
    return findings


async def create_schema(
    wiring: Wiring,
    caller: Caller,
    command: CreateSchema,
    *,
    validate_only: bool = False,
    request_id: str = "",
    once: Once | None = None,
    judged: Judged | None = None,
) -> Saved:
    """Create a user schema at revision 1.

    ``judged`` is what the gate says of the document, if it was asked before and takes it.

    Raises:
        Malformed: if the document is not a JSON Schema that can be taken.
        Denied, Missing, Unmet: if the caller may not, or the organization is not there or not active.
        Conflict: if the owner has a schema of this type.
    """
    owner = command.organization_id
    if owner is not None:
        reached_organization(caller, owner, exists=await wiring.organizations.known(owner) is not None)
    require(caller, Permission.USERSCHEMA_WRITE, owner)
    findings = judged or await check_document(wiring, caller, command.document)
    schema_id = wiring.new_id()
    if once is not None:
        schema_id, is_new = await begin_making(wiring, once, schema_id)
        made = None if is_new else await _made_before(wiring, once, schema_id)
        if made is not None:
            return replace(made, warnings=findings.warnings)
    if owner is not None:
        await require_active_organization(wiring, owner)
    now = wiring.now()
    schema = UserSchema(
        schema_id=schema_id,
        organization_id=owner,
        type=command.type,
        revision=1,
        text=msgspec.json.encode(command.document).decode(),
        dialect=findings.dialect,
        state=SchemaState.ACTIVE,
        authenticators=command.authenticators,
        compatibility=command.compatibility,
        created_at=now,
        changed_at=now,
    )
    schema = await marked_schema(wiring, None, schema)
    deliveries = await schema_deliveries(wiring, None, schema, request_id)
    schema = await _claim_type(wiring, schema, once)
    if validate_only:
        await _release_type(wiring, schema)
        return Saved(schema, findings.warnings)
    answered = _answer_of(once, schema)
    if not await wiring.schemas.insert(schema, answered, deliveries):
        made = await _made_before(wiring, once, schema_id) if once else None
        if made is None:
            await _release_type(wiring, schema)
            raise _race_lost()
        return replace(made, warnings=findings.warnings)
    await keep(wiring, answered)
    return Saved(schema, findings.warnings)


async def _made_before(wiring: Wiring, once: Once, schema_id: str) -> Saved | None:
    """Give the answer to a creation again, if there was one."""
    schema = await wiring.schemas.made(schema_id)
    return None if schema is None else await _earlier(wiring, once, schema, first=False)


async def _earlier(wiring: Wiring, once: Once, schema: UserSchema, *, first: bool) -> Saved | None:
    """Give the answer that the request got before, if it did."""

    async def kept() -> Known | None:
        return await wiring.schemas.answer(schema, once)

    answered = await before_writing(wiring, once, kept, first=first)
    if answered is None:
        return None
    as_it_was = replace(schema, sequence=answered.sequence, changed_at=answered.changed_at, revision=answered.revision)
    return Saved(as_it_was, replayed=True)


def _answer_of(once: Once | None, schema: UserSchema) -> Answered | None:
    return None if once is None else Answered(once, schema.sequence, schema.changed_at, schema.revision)


async def _claim_type(wiring: Wiring, schema: UserSchema, once: Once | None = None) -> UserSchema:
    nonce = once.nonce(schema.version) if once else wiring.random_bits(96).to_bytes(12, "big")
    if not await wiring.claims.take(_place(schema), schema.schema_id, nonce, wiring.now()):
        raise Conflict(
            "SCHEMA_TYPE_TAKEN",
            "its owner has a user schema of this type already",
            [Violation("type", "is taken", "unique")],
        )
    return replace(schema, type_claim=nonce)


async def _release_type(wiring: Wiring, schema: UserSchema) -> None:
    await wiring.claims.release(_place(schema), schema.schema_id, schema.type_claim)


def _place(schema: UserSchema) -> Place:
    return Place("type", schema.organization_id or "", schema.type)


@dataclass(frozen=True, slots=True)
class SchemaTarget:
    """The schema that a caller wants to change, and the sequence at which it expects it."""

    caller: Caller
    schema_id: str
    expected_sequence: int | None = None
    validate_only: bool = False
    request_id: str = ""
    once: Once | None = None


async def _change(
    wiring: Wiring,
    target: SchemaTarget,
    permission: Permission,
    decide: Callable[[UserSchema], Awaitable[UserSchema]],
) -> Saved:
    """Apply a change to the latest head: read, permit, decide, write if nobody else did."""
    for attempt in range(_TRIES):
        before = await _permitted(wiring, target, permission)
        if target.once is not None:
            earlier = await _earlier(wiring, target.once, before, first=attempt == 0)
            if earlier is not None:
                return earlier
        await _require_ready(wiring, target, before)
        after = numbered(before, await decide(before), wiring.now(), keyed=target.once is not None)
        if after is None:
            await wiring.schemas.settled(before)
            return Saved(before)
        deliveries = await schema_deliveries(wiring, before, after, target.request_id)
        renamed = after.type != before.type
        if renamed:
            after = await _claim_type(wiring, after, target.once)
        answered = _answer_of(target.once, after)
        won = target.validate_only or await wiring.schemas.replace(before, after, answered, deliveries)
        if renamed:  # what was claimed for nothing goes, or, after the rename, what is no longer used
            await _release_type(wiring, before if won and not target.validate_only else after)
        if won:
            await keep(wiring, answered)
            return Saved(after)
    raise _race_lost()


def _race_lost() -> Aborted:
    return Aborted("RACE_LOST", "others changed the user schema at the same time; try again", retry_after=1)


async def _permitted(wiring: Wiring, target: SchemaTarget, permission: Permission) -> UserSchema:
    schema = reached_schema(target.caller, await wiring.schemas.find(target.schema_id), target.schema_id)
    require(target.caller, permission, schema.organization_id)
    return schema


async def _require_ready(wiring: Wiring, target: SchemaTarget, schema: UserSchema) -> None:
    expect_sequence(target.expected_sequence, schema.sequence)
    if schema.organization_id is not None:
        await require_active_organization(wiring, schema.organization_id)


async def update_schema(wiring: Wiring, target: SchemaTarget, command: UpdateSchema) -> Saved:
    """Change a schema; what becomes of its users is said by its ``compatibility`` (``commands/revising.py``).

    Raises:
        Missing, Denied, StaleSequence, Unmet: as for every change; also if ``compatibility`` forbids it, and
            ``MIGRATION_UNASKED`` for a transformation though no migration begins.
        Malformed: if the document is not a JSON Schema that can be taken, or the patch or the expression is none.
        Conflict: if the owner has a schema of the new type.
        Exhausted: if the migration that it begins would be one job too many.
    """
    revising: Revising | None = None
    warnings: Sequence[Violation] = ()
    answered: Saved | None = None
    if command.document is not None:
        # Nobody who may not write makes the gate work.
        before = await _permitted(wiring, target, Permission.USERSCHEMA_WRITE)
        if command.transformation is not None:
            await require_transformation(wiring, target.caller, command.transformation)
        findings = await check_document(wiring, target.caller, command.document)
        text = msgspec.json.encode(command.document).decode()
        revising, warnings = Revising(target.caller, text, findings.dialect, command.dry_run_job_id), findings.warnings
        answered = await _announce(wiring, target, command, before, revising)
    if answered is not None:
        return replace(answered, warnings=warnings)
    migrations = Migrations(wiring, target.caller, command.transformation)

    async def decide(schema: UserSchema) -> UserSchema:
        schema = _with_facts(schema, command)
        if revising is None or _is_same(schema, command):
            return schema
        revised = revising.of(schema)
        if _holds_back(command, schema):
            await admit(wiring, schema, revising, rehearsed=target.validate_only)
        if revised.compatibility is Compatibility.MIGRATE:
            await migrations.begin(revised, rehearsed=target.validate_only)
        schema = await marked_schema(wiring, schema, revised)
        if schema.marking.pending and not target.validate_only:
            await plan_backfill(wiring, target.caller, schema)
        return schema

    try:
        saved = await _change(wiring, target, Permission.USERSCHEMA_WRITE, decide)
    except BaseException:
        await migrations.withdraw()
        raise
    job_id = None if revising is None or target.validate_only else await migrations.of(saved.schema)
    return replace(saved, warnings=warnings, job_id=job_id)


def _with_facts(schema: UserSchema, command: UpdateSchema) -> UserSchema:
    """Give the schema with what a command changes beside the document."""
    if command.type is not None:
        schema = replace(schema, type=command.type)
    if command.authenticators is not None:
        schema = replace(schema, authenticators=command.authenticators)
    if command.compatibility is not None:
        schema = replace(schema, compatibility=command.compatibility)
    if command.transformation is not None:
        _require_migration(schema, command)
    return schema


def _require_migration(schema: UserSchema, command: UpdateSchema) -> None:
    """Raise Unmet for a transformation that nothing would be done with."""
    if command.document is None:
        text = "goes with schema: saving one begins the migration"
    elif schema.compatibility is not Compatibility.MIGRATE:
        text = f"goes with compatibility migrate, and this user schema's is {schema.compatibility.value}"
    else:
        return
    raise Unmet("MIGRATION_UNASKED", f"migration {text}", [Violation("migration", text, "compatibility")])


async def _announce(
    wiring: Wiring, target: SchemaTarget, command: UpdateSchema, schema: UserSchema, revising: Revising
) -> Saved | None:
    """Announce a revision that must not make users fail; give the answer of before, if the request had its effect."""
    if target.validate_only or not _holds_back(command, schema) or _is_same(schema, command):
        return None
    earlier = None if target.once is None else await _earlier(wiring, target.once, schema, first=True)
    if earlier is None:
        await _require_ready(wiring, target, schema)
        await announce(wiring, schema, revising)
    return earlier


def _holds_back(command: UpdateSchema, schema: UserSchema) -> bool:
    return (command.compatibility or schema.compatibility) is Compatibility.REFUSE


def _is_same(schema: UserSchema, command: UpdateSchema) -> bool:
    return same(msgspec.json.decode(schema.text), command.document)


async def set_schema_state(wiring: Wiring, target: SchemaTarget, state: SchemaState) -> Saved:
    """Deactivate or reactivate a schema.

    Raises:
        Unmet: if it is in that state already.
    """

    async def decide(schema: UserSchema) -> UserSchema:
        # A deletion that a crash cut short leaves its mark; either state takes it away.
        if schema.state is state:
            raise Unmet("SCHEMA_STATE", f"the user schema is {schema.state}", metadata={"state": schema.state.value})
        return replace(schema, state=state)

    return await _change(wiring, target, Permission.USERSCHEMA_WRITE, decide)


async def delete_schema(wiring: Wiring, target: SchemaTarget) -> UserSchema:
    """Delete a schema that no user has.

    New use is blocked first, and no process may still know the schema as it was, before its users are counted.

    Raises:
        Unmet: ``SCHEMA_IN_USE``, with the number of users.
    """
    before = await _permitted(wiring, target, Permission.USERSCHEMA_DELETE)
    await _require_ready(wiring, target, before)
    await _require_unused(wiring, before)
    blocked = replace(before, state=SchemaState.DELETING, version=before.version + 1)
    if not await wiring.schemas.replace(before, blocked):
        raise _race_lost()
    await asyncio.sleep(CACHES_EMPTY)  # until then a blocked schema may get a new user
    try:
        await _require_unused(wiring, before)
    except Unmet:
        await wiring.schemas.replace(blocked, replace(before, version=blocked.version + 1))
        raise
    gone = replace(
        before,
        sequence=before.sequence + 1,
        changed_at=max(wiring.now(), before.changed_at),
        version=blocked.version + 1,
    )
    deliveries = await schema_deliveries(wiring, before, gone, target.request_id, deleted=True)
    if not await wiring.schemas.erase(blocked, gone.version, deliveries):
        raise _race_lost()
    await _release_type(wiring, before)
    return gone


async def _require_unused(wiring: Wiring, schema: UserSchema) -> None:
    users = await wiring.users.count_of_schema(schema.schema_id)
    if users:
        raise Unmet(
            "SCHEMA_IN_USE",
            f"{users} users have this user schema",
            metadata={"schemaId": schema.schema_id, "users": str(users)},
        )


def as_document(schema: UserSchema) -> Any:
    """Give the JSON Schema as it was uploaded."""
    return msgspec.json.decode(schema.text)
