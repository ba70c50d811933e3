"""Jobs are claimed by one runner at a time, go on after it dies, and end when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import structs

from schema_user.commands.jobs import MOST_UNFINISHED, start_job
from schema_user.domain.job import Job, JobKind, JobState, Progress
from schema_user.domain.search import AllOf, DataMethod, Is, Number, Page
from schema_user.domain.user import User
from schema_user.errors import Exhausted, Unavailable
from schema_user.jobs.runner import JobFailed, Rhythm, Runner, running_jobs
from schema_user.store import schema_users
from schema_user.store.schema_users import Mark
from schema_user.store.user_documents import to_document

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schema_user.jobs.runner import Kind, Work
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

QUICK = Rhythm(poll=0.02, beat=0.02, lease=0.5, turn=0.1, share=0.5, tries=3, pause=0.05)


async def a_job(wiring: Wiring, **changes: Any) -> Job:
    """Store a job of no meaning."""
    made = Job(
        job_id=wiring.new_id(),
        kind=JobKind.DRY_RUN,
        schema_id="s",
        owner_id=None,
        organizations=None,
        asked=b"{}",
        created_at=wiring.now(),
        token_id="t",
    )
    made = structs.replace(made, **changes)
    assert await wiring.jobs.insert(made)
    return made


def kinds(work: Callable[[Wiring, Work], Coroutine[Any, Any, None]]) -> dict[JobKind, Kind]:
    """Let every job be done by one function."""
    return {JobKind.DRY_RUN: work}


async def stored(wiring: Wiring, job: Job) -> Job:
    """Give a job as it is stored."""
    found = await wiring.jobs.find(job.job_id)
    assert found is not None
    return found


async def until(wiring: Wiring, job: Job, true: Callable[[Job], bool]) -> Job:
    """Wait until something is true of a job as it is stored."""
    async with asyncio.timeout(20):
        while True:
            found = await stored(wiring, job)
            if true(found):
                return found
            await asyncio.sleep(0.01)


def begun(job: Job) -> bool:
    """Whether progress was stored."""
    return job.progress.done > 0


def ended(job: Job) -> bool:
    """Whether it is over."""
    return job.state.ended


async def endless(_wiring: Wiring, work: Work) -> None:
    """Count and never end."""
    for number in range(work.progress.done, 1_000_000):
        work.note(done=number + 1, cursor=str(number + 1), found=b"[%d]" % (number + 1))
        await asyncio.sleep(0.005)


class TestClaims:
    async def test_of_many_runners_one_gets_a_job(self, wiring: Wiring) -> None:
        """However many claim it at once; when its lease is over, another one does."""
        await a_job(wiring)
        now = wiring.now() + timedelta(seconds=1)

        async def claim(name: str, at: Any) -> Any:
            return await wiring.jobs.claim([JobKind.DRY_RUN], at, at + timedelta(seconds=10), name)

        claimed = await asyncio.gather(*(claim(f"r{number}", now) for number in range(8)))
        [first] = [each for each in claimed if each is not None]
        assert await claim("late", now + timedelta(seconds=9)) is None
        second = await claim("next", now + timedelta(seconds=11))
        assert second is not None
        assert second.tries == 2
        assert not await wiring.jobs.beat(first, now, Progress(done=7))
        assert not await wiring.jobs.end(first, JobState.DONE, Progress(done=7), now)
        assert await wiring.jobs.beat(second, now, Progress(done=1, cursor="1"))
        assert (await stored(wiring, second.job)).progress == Progress("1", b"", 1, 0)

    async def test_an_owner_has_a_bounded_number(self, wiring: Wiring) -> None:
        """Of jobs that have not ended, also when they come at once; others are not concerned."""
        job = await a_job(wiring, owner_id="full")
        wanted = [structs.replace(job, job_id=wiring.new_id()) for _ in range(2 * MOST_UNFINISHED)]
        found = await asyncio.gather(*(start_job(wiring, each) for each in wanted), return_exceptions=True)
        assert any(isinstance(each, Exhausted) for each in found)
        assert await wiring.jobs.count_unfinished("full") <= MOST_UNFINISHED
        await start_job(wiring, structs.replace(job, job_id=wiring.new_id(), owner_id="other"))


class TestRunner:
    async def test_a_job_goes_on_where_a_dead_runner_left_it(self, wiring: Wiring) -> None:
        """Cursor, what was found and the count are of one moment; nothing before them is done again."""
        job = await a_job(wiring)
        dying = asyncio.create_task(Runner(wiring, kinds(endless), QUICK).run_next())
        before = await until(wiring, job, lambda each: each.progress.done >= 10)
        dying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dying
        assert before.state is JobState.RUNNING
        began: list[Progress] = []

        async def rest(wiring: Wiring, work: Work) -> None:
            began.append(work.progress)
            work.note(done=work.progress.done + 1)

        async with running_jobs(wiring, kinds(rest), QUICK):
            await until(wiring, job, ended)
        [at] = began
        assert at.done >= before.progress.done
        assert at.cursor == str(at.done)
        assert msgspec.json.decode(at.found) == [at.done]
        assert (await stored(wiring, job)).progress.done == at.done + 1

    async def test_cancelling_ends_it_within_a_beat(self, wiring: Wiring) -> None:
        """What was noted stays; one that nobody works on ends at once; one that has ended stays as it is."""
        running, waiting = await a_job(wiring), await a_job(wiring)
        async with running_jobs(wiring, kinds(endless), replace(QUICK, turn=60)):
            await until(wiring, running, begun)
            await wiring.jobs.cancel(waiting.job_id, wiring.now())
            assert (await stored(wiring, waiting)).state is JobState.CANCELLED
            await wiring.jobs.cancel(running.job_id, wiring.now())
            over = await until(wiring, running, ended)
        assert over.state is JobState.CANCELLED
        assert over.progress.done > 0
        await wiring.jobs.cancel(running.job_id, wiring.now())
        assert await stored(wiring, running) == over

    async def test_jobs_that_wait_take_turns(self, wiring: Wiring) -> None:
        """A long one does not keep a short one waiting until its end, and a stop gives it back."""
        long = await a_job(wiring)

        async def both(wiring: Wiring, work: Work) -> None:
            if work.job.job_id == long.job_id:
                await endless(wiring, work)

        async with running_jobs(wiring, kinds(both), QUICK):
            await until(wiring, long, begun)
            assert (await until(wiring, await a_job(wiring), ended)).state is JobState.DONE
        left = await stored(wiring, long)
        assert left.state is JobState.RUNNING
        assert left.progress.done > 0

    @pytest.mark.parametrize(
        ("error", "reason"), [(JobFailed("GONE"), "GONE"), (ValueError("minnie@example.com"), "INTERNAL")]
    )
    async def test_what_fails_says_why(
        self, wiring: Wiring, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A reason of the kind's own, or that of a bug, whose text is not logged."""

        async def failing(_wiring: Wiring, work: Work) -> None:
            work.note(done=3)
            raise error

        job = await a_job(wiring)
        assert await Runner(wiring, kinds(failing), QUICK).run_next()
        over = await stored(wiring, job)
        assert (over.state, over.error, over.progress.done) == (JobState.FAILED, reason, 3)
        assert "minnie" not in caplog.text

    async def test_what_is_unavailable_is_tried_again(self, wiring: Wiring) -> None:
        """From where it was; what never comes to a word is given up."""
        seen: list[int] = []

        async def moody(_wiring: Wiring, work: Work) -> None:
            seen.append(work.progress.done)
            if len(seen) < 3:
                work.note(done=len(seen))
                raise Unavailable("QUEUE_FULL", "full")

        job = await a_job(wiring)
        async with running_jobs(wiring, kinds(moody), QUICK):
            assert (await until(wiring, job, ended)).state is JobState.DONE
        assert seen == [0, 1, 2]
        doomed, at = await a_job(wiring), wiring.now()
        for number in range(QUICK.tries):
            assert await wiring.jobs.claim([JobKind.DRY_RUN], at, at, f"dies {number}")
        assert await Runner(wiring, kinds(moody), QUICK).run_next()
        assert (await stored(wiring, doomed)).error == "JOB_CUT_OFF"


class TestPages:
    async def test_each_user_of_a_schema_is_on_one_page(self, rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the order of organization and id, whatever the size of pages; deleted ones and others' are left out."""
        monkeypatch.setattr(schema_users, "PAGE_DOCUMENTS", 2)
        now, users, pages = rooms.wiring.now(), rooms.database.collection("users"), rooms.wiring.schema_users
        all_of_them = [Mark("cab"[number % 3], f"u{number}") for number in range(9)]
        for each in all_of_them:
            await users.insert(to_document(User(each.user_id, each.organization_id, "s", 1, {}, now, now)))
        for other in (User("v1", "a", "t", 1, {}, now, now), User("v2", "a", "s", 1, {}, now, now, deleted=True)):
            await users.insert(to_document(other))
        for scope in (None, ("a", "c"), ("b",), ("z",)):
            found: list[Mark] = []
            while page := await pages.page("s", scope, found[-1] if found else None):
                assert len(page) <= 2
                found += [schema_users.stored(content).mark for content in page]
            wanted = [each for each in all_of_them if scope is None or each.organization_id in scope]
            assert found == sorted(wanted, key=lambda each: (each.organization_id, each.user_id))
            assert await pages.count("t", scope) == (scope is None or "a" in scope)

    async def test_a_page_is_read_in_the_order_of_an_index(self, rooms: Rooms) -> None:
        """Nothing is sorted and nothing passed over: a page of the last users costs what one of the first does."""
        now, users = rooms.wiring.now(), rooms.database.collection("users")
        for number in range(50):
            await users.insert(to_document(User(f"u{number:02}", "o", "s", 1, {}, now, now)))
        for scope in (None, ["n", "o"]):
            for where in (*schema_users._behind("s", scope, Mark("o", "u47")), schema_users._scope("s", scope)):
                told = await explained(rooms, where)
                assert "SORT" not in str(told["queryPlanner"]["winningPlan"])
                assert told["executionStats"]["totalKeysExamined"] <= 6

    async def test_who_is_behind_a_revision_is_found_by_an_index(self, rooms: Rooms) -> None:
        """Few of many are found without reading the many."""
        now, users = rooms.wiring.now(), rooms.database.collection("users")
        for number in range(60):
            revision = 1 if number % 20 == 7 else 2
            await users.insert(to_document(User(f"u{number:02}", "o", "s", revision, {}, now, now)))
        behind = AllOf((Is("schema_id", "s"), Number("schema_revision", 2, DataMethod.LESS)))
        scope, page = {"deleted": False, "organization_id": {"$in": ["o"]}}, Page("creation_date", limit=10)
        found = await rooms.wiring.users.search(scope, behind, page, "b")
        assert [each.user_id for each in found.items] == ["u47", "u27", "u07"]
        where = {"$and": [scope, rooms.wiring.users.filter(behind)]}
        command = {"find": "users", "filter": where, "sort": {"created_at": -1, "_id": -1}, "limit": 11}
        told = await rooms.database._raw.command({"explain": command, "verbosity": "executionStats"})
        assert told["executionStats"]["totalKeysExamined"] <= 4


async def explained(rooms: Rooms, where: dict[str, Any]) -> Any:
    """Let the database say how it reads a page of five."""
    order = dict(schema_users._ORDER)
    query = {"find": "users", "filter": where | {"deleted": False}, "sort": order, "hint": order, "limit": 5}
    return await rooms.database._raw.command({"explain": query, "verbosity": "executionStats"})
