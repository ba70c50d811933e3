"""Dry runs of a schema: start one, cancel one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from schema_user.commands.jobs import cancel_job, start_job
from schema_user.commands.repetition import begin_making
from schema_user.commands.schemas import check_document
from schema_user.commands.transformation import require_transformation
from schema_user.domain.access import reached_schema, require
from schema_user.domain.document import same
from schema_user.domain.dry_run import DryRun
from schema_user.domain.job import Job, JobKind
from schema_user.domain.job_access import DRY_RUN_NEEDS, covered, may_change, payer, reached_dry_run
from schema_user.domain.permission import Permission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.migration import Transformation
    from schema_user.domain.repetition import Once
    from schema_user.errors import Violation
    from schema_user.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Started:
    """A dry run that was started, and what its author should know; or the one of before, under the same key."""

    job: Job
    warnings: Sequence[Violation] = ()
    replayed: bool = False


async def start_dry_run(
    wiring: Wiring,
    caller: Caller,
    schema_id: str,
    document: object,
    transformation: Transformation | None = None,
    *,
    once: Once | None = None,
) -> Started:
    """Start to judge the users of a schema by another text of it, in the organizations where the caller may.

    With a transformation they are judged as a migration would make them; that needs the permission to change the schema
    itself, as what it hides could be shown by it.

    Raises:
        Missing, Denied: if the schema is not there for the caller, or it holds the permissions together nowhere.
        Malformed: if the document is not a JSON Schema that can be taken, or the patch or the expression is none.
        Exhausted: if too many jobs were started or have not ended.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    organizations = covered(caller, schema, DRY_RUN_NEEDS)
    if transformation is not None:
        require(caller, Permission.USERSCHEMA_WRITE, schema.organization_id)
        await require_transformation(wiring, caller, transformation)
    findings = await check_document(wiring, caller, document)
    job_id = wiring.new_id()
    if once is not None:
        job_id, is_new = await begin_making(wiring, once, job_id)
        made = None if is_new else await wiring.jobs.read(job_id)
        if made is not None:
            return Started(made, findings.warnings, replayed=True)
    text = msgspec.json.encode(document).decode()
    asked = DryRun(
        text,
        findings.dialect,
        schema.revision,
        whole=may_change(caller, schema),
        transformation=transformation,
        current=same(msgspec.json.decode(schema.text), document),
    )
    job = Job(
        job_id=job_id,
        kind=JobKind.DRY_RUN,
        schema_id=schema_id,
        owner_id=payer(schema, organizations),
        organizations=organizations,
        asked=msgspec.json.encode(asked),
        created_at=wiring.now(),
        token_id=caller.token_id,
        user_id=caller.user_id,
    )
    await start_job(wiring, job)
    return Started(job, findings.warnings)


async def cancel_dry_run(wiring: Wiring, caller: Caller, schema_id: str, job_id: str) -> Job:
    """Cancel a dry run; one that has ended stays as it is.

    Raises:
        Missing, Denied: if it is not there for the caller, or it could not start one.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    return await cancel_job(wiring, reached_dry_run(caller, schema, await wiring.jobs.find(job_id), job_id))
