"""A job outlives the process that works on it: kill -9 in the middle of a dry run, and another one goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from schema_user.commands.dry_runs import start_dry_run
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.dry_run import MOST_USERS, Tally
from schema_user.domain.job import Job, JobState
from schema_user.domain.user import User
from schema_user.jobs.kinds import KINDS
from schema_user.jobs.runner import Rhythm, Runner
from schema_user.store.connection import raw
from schema_user.store.user_documents import to_document
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from schema_user.rooms import Rooms

USERS: Final = 15_000
SECRET: Final = "a secret of this test that is long enough"


async def crowd(rooms: Rooms, schema_id: str) -> None:
    """Store users straight into the database: of each ten, one is too young."""
    now, users = rooms.wiring.now(), rooms.database.collection("users")
    made = [
        User(f"u{number:05}", f"o{number % 3}", schema_id, 1, {"age": number % 10, "name": "x" * 200}, now, now)
        for number in range(USERS)
    ]
    for begin in range(0, USERS, 1000):
        await users.write_all("insert", [raw(to_document(each)) for each in made[begin : begin + 1000]])


async def until_begun(rooms: Rooms, job: Job) -> Job:
    """Wait until some of the users are judged, and not all of them."""
    async with asyncio.timeout(60):
        while True:
            found = await rooms.wiring.jobs.find(job.job_id)
            if found is not None and found.progress.done:
                return found
            await asyncio.sleep(0.02)


def worker(uri: str) -> subprocess.Popen[bytes]:
    """Start a process that works on jobs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}
    own = {"SCHEMA_USER_MONGODB_URI": uri, "SCHEMA_USER_SECRET_KEY": SECRET}
    command = [sys.executable, "-m", "schema_user.cli", "worker"]
    return subprocess.Popen(command, env=inherited | own, stderr=subprocess.DEVNULL)


@pytest.mark.soak
async def test_a_dry_run_goes_on_after_kill_9(mongod_uri: str) -> None:
    """Nobody is judged twice and nobody left out, whatever was under way."""
    uri = fresh_uri(mongod_uri)
    settings = settings_for(uri, secret_keys=(SECRET,))
    async with prepared(settings) as rooms:
        wiring = rooms.wiring
        schema = (await create_schema(wiring, OPERATOR, CreateSchema("crowd", {"type": "object"}, None))).schema
        await crowd(rooms, schema.schema_id)
        narrower = {"properties": {"age": {"minimum": 1}, "name": {"type": "string"}}}
        job = (await start_dry_run(wiring, OPERATOR, schema.schema_id, narrower)).job
        killed = worker(uri)
        try:
            at = await until_begun(rooms, job)
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        assert at.state is JobState.RUNNING
        assert at.progress.done < USERS
        later = replace(wiring, now=lambda: wiring.now() + timedelta(minutes=1))
        assert await Runner(later, KINDS, Rhythm(share=0.9)).run_next(job.job_id)
        over = await wiring.jobs.find(job.job_id)
        assert over is not None
        assert (over.state, over.progress.done, over.progress.total) == (JobState.DONE, USERS, USERS)
        tally = msgspec.json.decode(over.progress.found, type=Tally)
        [group] = tally.groups
        assert (tally.passed, tally.failed, group.count) == (USERS - USERS // 10, USERS // 10, USERS // 10)
        assert len(set(group.users)) == len(group.users) == MOST_USERS
