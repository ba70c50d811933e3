"""A dry run finds the values that users share, however often its process ends on the way."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import structs

from schema_user.commands.dry_runs import start_dry_run
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain import shared_digests
from schema_user.domain.dry_run import Tally
from schema_user.domain.shared_digests import Met, Shared, unpacked
from schema_user.domain.user import User
from schema_user.errors import Unavailable
from schema_user.jobs import dry_run, shared_values
from schema_user.jobs.runner import Work
from schema_user.store.user_documents import to_document

if TYPE_CHECKING:
    from schema_user.domain.job import Job, Progress
    from schema_user.rooms import Rooms

VALUES = ["a", "B", "c", "d", "b", "e", "A", "f", "g", "e", "h", "C"]
SHARING = {"u00", "u01", "u02", "u04", "u05", "u06", "u09", "u11"}
UNIQUE = {"properties": {"v": {"type": "string", "urn:schema-user:unique": True}}}


class CutOff(Work):
    """A job whose process ends after some steps; it notes every other one, and remembers what it noted."""

    def __init__(self, job: Job, steps: int) -> None:
        """End after so many steps."""
        super().__init__(job, 1.0)
        self.steps = steps
        self.noted: list[Progress] = [job.progress]

    @property
    def due(self) -> bool:
        """Note every other step."""
        return self.steps % 2 == 0

    def note(self, **changes: Any) -> None:
        """Note, and remember it."""
        super().note(**changes)
        self.noted.append(self.progress)

    async def rest(self, busy: float) -> None:
        """Take no rest; end when it is time."""
        del busy
        self.steps -= 1
        if self.steps < 0:
            raise Unavailable("DATABASE_UNAVAILABLE", "the process ends here")


@pytest.fixture
async def job(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Store twelve users of whom eight share a value with another, and a dry run that wants it unique."""
    monkeypatch.setattr(dry_run, "_SLICE_DOCUMENTS", 2)
    monkeypatch.setattr(shared_values, "MOST_AT_ONCE", 5)
    wiring, users = rooms.wiring, rooms.database.collection("users")
    schema = (await create_schema(wiring, OPERATOR, CreateSchema("shared", {"type": "object"}, None))).schema
    now = wiring.now()
    for number, value in enumerate(VALUES):
        made = User(f"u{number:02}", "o", schema.schema_id, 1, {"v": value}, now, now)
        await users.insert(to_document(made))
    stranger = User("z", "a", schema.schema_id, 1, {"v": "d"}, now, now)
    await users.insert(to_document(stranger))
    return (await start_dry_run(wiring, OPERATOR, schema.schema_id, UNIQUE)).job


def told(progress: Progress) -> tuple[int, int, set[str]]:
    """Give what a dry run found in the end."""
    tally = msgspec.json.decode(progress.found, type=Tally)
    assert [(each.violation.field, each.violation.reason) for each in tally.groups] == [("data/v", "unique")]
    return tally.passed, tally.failed, set(tally.groups[0].users)


@pytest.mark.parametrize("seed", range(4))
async def test_it_goes_on_after_each_end_of_its_process(rooms: Rooms, job: Job, seed: int) -> None:
    """What was stored and not noted counts once; the last note may be lost too. Nothing is left behind."""
    chance, ends = random.Random(seed), 0
    while True:
        work = CutOff(job, chance.randrange(2, 8) if ends < 4 else chance.choice([781, 790, 801, 810]))
        try:
            await dry_run.work(rooms.wiring, work)
            break
        except Unavailable:
            ends += 1
            job = structs.replace(job, progress=chance.choice(work.noted[-2:]))
    assert ends
    assert (work.progress.done, work.progress.total) == (13, 13)
    assert told(work.progress) == (5, 8, SHARING)
    assert await rooms.database.collection("job_digests").count({}) == 0


async def test_digests_that_are_gone_are_gathered_anew(rooms: Rooms, job: Job) -> None:
    """If what was stored was removed meanwhile, the job begins anew instead of overlooking it."""
    with pytest.raises(Unavailable):
        await dry_run.work(rooms.wiring, work := CutOff(job, 20))
    gathering = msgspec.json.decode(work.progress.found, type=Tally).gathering
    assert gathering is not None
    assert gathering.whole
    await rooms.database.collection("job_digests").delete_all({})
    again = CutOff(structs.replace(job, progress=work.progress), 1000)
    await dry_run.work(rooms.wiring, again)
    assert told(again.progress) == (5, 8, SHARING)


def test_shared_digests_are_found_in_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several goes, each once however often it is met; beyond the room for them some are left out."""
    chance = random.Random(1)
    digests = unpacked(chance.randbytes(8 * 3000))
    met = [each for at, each in enumerate(digests) for _ in range(1 + at % 3)]
    chance.shuffle(met)

    def found() -> set[int]:
        shared = Shared()
        for go in range(3):
            part = Met()
            part.add(each for each in met if each % 3 == go)
            assert sum(1 for _ in shared.find(part)) == 256
        return {each for each in digests if each in shared}

    assert found() == {each for at, each in enumerate(digests) if at % 3}
    monkeypatch.setattr(shared_digests, "MOST_SHARED", 500)
    assert len(found()) == 500
