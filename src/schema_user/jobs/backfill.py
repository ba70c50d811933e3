"""The back-fill: brings users that were there before under what a new revision of their schema marks.

It goes through all users of the schema, again and again until none is left that was written under other marks; then the
paths are ready to be searched. A user is written only as it was read, and nothing that a client could see changes. A
value that should be unique is claimed for the first user that is met; others keep it, are told of, and keep it until it
is changed. Who runs it again, when they were, finds out whether any is left.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.commands.marks import DATA, value_place
from schema_user.commands.revising import CACHES_EMPTY
from schema_user.commands.schema_marks import filled
from schema_user.domain.backfill import BackFill, Filled, Sharer
from schema_user.domain.indexing import MAX_UNIQUE, MAX_VALUES, IndexPlan, Marked
from schema_user.domain.user import Claimed
from schema_user.errors import Unavailable
from schema_user.store.claims import Wish
from schema_user.store.markings import Filling, unfilled
from schema_user.store.schema_users import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.indexing import Unique
    from schema_user.domain.schema import UserSchema
    from schema_user.jobs.runner import Work
    from schema_user.store.claims import Place
    from schema_user.store.markings import Unfilled
    from schema_user.wiring import Wiring

_SAVED_WITHIN: Final = 10.0
_LOOK_EVERY: Final = 0.1
"""Seconds for which, and between which, a job looks for the revision that it was started for."""

_SLICE: Final = 25
"""Users whose values are looked at in one go: some milliseconds in which nobody else has a turn."""

_NOTHING: Final = IndexPlan(Marked())
_PASSES: Final = 100


async def work(wiring: Wiring, work: Work) -> None:
    """Wait for the revision, go through the users, and let the paths be ready."""
    asked = msgspec.json.decode(work.job.asked, type=BackFill)
    head = await _saved(wiring, work, asked.revision)
    if head is None or head.revision != asked.revision:
        return  # never saved, or another job brings the users under a later one
    for _ in range(_PASSES):
        plan = await wiring.plans.get(head) or _NOTHING
        await _Pass(wiring, work, head, plan).run()
        if await wiring.markings.any_other(head.schema_id, plan.fingerprint if plan is not _NOTHING else ""):
            work.note(cursor="", done=0)
            continue
        head = await wiring.schemas.find(head.schema_id)
        if head is None or head.revision != asked.revision or not head.marking.pending:
            return
        ready = dataclasses.replace(head, marking=filled(head.marking), version=head.version + 1)
        if await wiring.schemas.replace(head, ready):
            return
    raise Unavailable("DATABASE_UNAVAILABLE", "users are written faster than they can be back-filled", retry_after=5)


async def _saved(wiring: Wiring, work: Work, revision: int) -> UserSchema | None:
    """Find the schema once it is saved in the revision, or in a later one, and nobody uses an earlier one any more.

    The job is stored before the revision is, so that no crash leaves a revision without a job.
    """
    deadline = time.monotonic() + _SAVED_WITHIN
    while (head := await wiring.schemas.find(work.job.schema_id)) is not None and head.revision < revision:
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(_LOOK_EVERY)
    if not work.progress.cursor:
        await asyncio.sleep(CACHES_EMPTY)
    return head


class _Pass:
    """One way through the users of a schema."""

    def __init__(self, wiring: Wiring, work: Work, head: UserSchema, plan: IndexPlan) -> None:
        self._wiring = wiring
        self._work = work
        self._head = head
        self._plan = plan
        self._marking = "" if plan is _NOTHING else plan.fingerprint
        found = work.progress.found
        self._found = msgspec.json.decode(found, type=Filled) if found else Filled()
        if not work.progress.cursor:
            self._found = Filled(self._found.changed)
        self._done = work.progress.done

    async def run(self) -> None:
        """Go on from where the work was left, to the end."""
        work, wiring = self._work, self._wiring
        if not work.progress.total:
            work.note(total=await wiring.schema_users.count(self._head.schema_id, None))
        place = Mark.of(work.progress.cursor)
        while page := await wiring.markings.page(self._head.schema_id, place):
            users = []
            for start in range(0, len(page), _SLICE):
                began = time.perf_counter()
                users += [self._look(unfilled(content)) for content in page[start : start + _SLICE]]
                await work.rest(time.perf_counter() - began)
            began = time.perf_counter()
            await self._fill([each for each in users if each is not None])
            await work.rest((time.perf_counter() - began) / 2)  # half of it waited for the database
            place = unfilled(page[-1]).place
            self._done += len(page)
            self._note(place.text)
        self._note("" if place is None else place.text)

    def _note(self, cursor: str) -> None:
        found = msgspec.json.encode(self._found)
        self._work.note(cursor=cursor, found=found, done=self._done, total=max(self._done, self._work.progress.total))

    def _look(self, user: Unfilled) -> _Looked | None:
        """Give a user that lacks something."""
        uniques = self._plan.uniques(user.data)
        if self._plan.unique or len(self._plan.entries(user.data)) >= MAX_VALUES:
            indexed, unique = self._plan.count(user.data)
            if indexed > MAX_VALUES or unique > MAX_UNIQUE:
                self._found.crowd(user.place.organization_id, user.place.user_id)
        claims = self._wiring.claims
        places = {
            claims.id_of(place): (place, each)
            for each in uniques
            for place in [value_place(user.place.organization_id, self._head.schema_id, each.path, each.value)]
        }
        looked = _Looked(user, places)
        held = {each.claim_id for each in user.claims if each.kind == DATA}
        return None if user.marking == self._marking and held == places.keys() else looked

    async def _fill(self, users: Sequence[_Looked]) -> None:
        if not users:
            return
        wiring = self._wiring
        wishes = [(looked, claim_id) for looked in users for claim_id in looked.wanted]
        taken = await self._claim(wishes)
        fillings, given, dropped = [], [], []
        for looked in users:
            user = looked.user
            name = user.place.user_id
            kept = [each for each in user.claims if each.kind != DATA or each.claim_id in looked.places]
            fresh = [
                Claimed(DATA, claim_id, self._nonce(name)) for claim_id in looked.wanted if (name, claim_id) in taken
            ]
            given += [(each, name) for each in fresh]
            dropped += [(each, name) for each in user.claims if each not in kept]
            claims = (*kept, *fresh)
            if user.marking != self._marking or claims != user.claims:
                fillings.append(Filling(user, self._marking, self._plan.entries(user.data), claims))
        written = await wiring.markings.fill(fillings) if fillings else 0
        self._found.changed += written
        if written < len(fillings):  # some were changed meanwhile, and their documents do not confirm what was claimed
            dropped += given
        for claimed, holder in dropped:
            await wiring.claims.let_go(claimed, holder)

    async def _claim(self, wishes: Sequence[tuple[_Looked, bytes]]) -> set[tuple[str, bytes]]:
        """Claim values, and note whose they are already; gives those that are their users' now."""
        if not wishes:
            return set()
        wiring = self._wiring
        asked = [
            Wish(looked.places[claim_id][0], looked.user.place.user_id, self._nonce(looked.user.place.user_id))
            for looked, claim_id in wishes
        ]
        is_mine = await wiring.claims.take_all(asked, wiring.now())
        taken = set()
        for (looked, claim_id), wish, mine in zip(wishes, asked, is_mine, strict=True):
            user, unique = looked.user, looked.places[claim_id][1]
            if mine:
                taken.add((user.place.user_id, claim_id))
                continue
            holder = await wiring.claims.holder(wish.place)
            if holder is not None and holder != user.place.user_id:
                sharer = Sharer(user.place.user_id, user.place.organization_id, unique.pointer)
                self._found.share(claim_id.hex(), unique.path, holder, sharer)
        return taken

    def _nonce(self, user_id: str) -> bytes:
        """Give the nonce of a user's claims: the same one after a crash, so that they are known again."""
        return hashlib.sha256(f"{self._work.job.job_id}|{user_id}".encode()).digest()[:12]


@dataclasses.dataclass(slots=True)
class _Looked:
    """A user, and the values that it should have alone, by the ids of their claims."""

    user: Unfilled
    places: dict[bytes, tuple[Place, Unique]]

    @property
    def wanted(self) -> list[bytes]:
        """The claims that it does not hold."""
        held = {each.claim_id for each in self.user.claims}
        return [claim_id for claim_id in self.places if claim_id not in held]
