"""A migration outlives the process that works on it: kill -9 in the middle, and nobody is moved twice."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.commands.migrations import start_migration
from schema_user.commands.schemas import CreateSchema, SchemaTarget, UpdateSchema, create_schema, update_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.job import JobState
from schema_user.domain.migration import Migration, Tally
from schema_user.domain.user import User
from schema_user.jobs.kinds import KINDS
from schema_user.jobs.runner import Rhythm, Runner
from schema_user.store.connection import raw
from schema_user.store.user_documents import to_document
from tests.conftest import fresh_uri, prepared, settings_for
from tests.faults.test_job_kill import SECRET, until_begun, worker

if TYPE_CHECKING:
    from schema_user.rooms import Rooms

USERS: Final = 600
MARKED: Final = {"op": "add", "path": "/marks/-", "value": "moved"}
"""Done twice it would be seen."""


async def crowd(rooms: Rooms, schema_id: str) -> None:
    """Store users straight into the database: of each ten, one has nothing to be marked on."""
    now, users = rooms.wiring.now(), rooms.database.collection("users")
    made = [
        User(f"u{number:05}", "default", schema_id, 1, {"marks": []} if number % 10 else {}, now, now)
        for number in range(USERS)
    ]
    await users.write_all("insert", [raw(to_document(each)) for each in made])


async def test_nobody_is_moved_twice_after_kill_9(mongod_uri: str) -> None:
    """The patch of each user was applied once, in one update, by whichever process; all failures are named."""
    uri = fresh_uri(mongod_uri)
    async with prepared(settings_for(uri, secret_keys=(SECRET,))) as rooms:
        wiring = rooms.wiring
        schema = (await create_schema(wiring, OPERATOR, CreateSchema("crowd", {"type": "object"}, None))).schema
        await crowd(rooms, schema.schema_id)
        target = SchemaTarget(OPERATOR, schema.schema_id)
        await update_schema(wiring, target, UpdateSchema(document={"properties": {"marks": {"type": "array"}}}))
        job = (await start_migration(wiring, OPERATOR, schema.schema_id, Migration(to_revision=2, patch=[MARKED]))).job
        killed = worker(uri)
        try:
            at = await until_begun(rooms, job)
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        assert 0 < at.progress.done < USERS
        later = replace(wiring, now=lambda: wiring.now() + timedelta(minutes=1))
        assert await Runner(later, KINDS, Rhythm(share=0.9, turn=60)).run_next(job.job_id)
        over = await wiring.jobs.find(job.job_id)
        assert over is not None
        assert (over.state, over.progress.done) == (JobState.DONE, USERS)
        tally = msgspec.json.decode(over.progress.found, type=Tally)
        assert tally.moved + tally.skipped == USERS - USERS // 10
        assert (tally.failed, len({each.user_id for each in tally.failures})) == (USERS // 10, USERS // 10)
        assert {each.reason for each in tally.failures} == {"PATCH_INVALID"}
        found = await rooms.database.collection("users").find({"schema_id": schema.schema_id})
        told = {(each["revision"], each["sequence"], str(each["data"])) for each in found}
        assert told == {(2, 2, "{'marks': ['moved']}"), (1, 1, "{}")}
