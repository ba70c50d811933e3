"""Importing users: many lines, each a creation or a replacement of its own, written many at once.

What a line may ask and what follows from it is decided by the rules of every creation and update; only the write of
new users is another one, for hundreds of them together. A line that is wrong costs itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.commands.change import Target, origin_of, require_active_organization, unreserve
from schema_user.commands.contacts import check_wishes
from schema_user.commands.events import are_heard, user_deliveries
from schema_user.commands.repetition import begin_making
from schema_user.commands.replacement import replace_user
from schema_user.commands.reservations import reserve_all
from schema_user.commands.users import (
    CreateUser,
    check_form,
    create_user,
    creation_rules,
    decide_new,
    decide_plain,
    id_taken,
    require_creatable,
    usable_schema,
)
from schema_user.domain.contact import ReturnCode, SendCode
from schema_user.domain.series import Series
from schema_user.domain.user import User
from schema_user.errors import Conflict, Fault, Malformed, Unavailable
from schema_user.slices import Slice
from schema_user.store.users import Birth

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from schema_user.commands.marks import Marked
    from schema_user.commands.users import CreationRules
    from schema_user.domain.caller import Caller
    from schema_user.domain.repetition import Once
    from schema_user.store.users import Born
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)

BATCH_LINES: Final = 500
BATCH_BYTES: Final = 2 * 1024 * 1024
"""How many lines, and bytes of them, are worked on together."""

_HANDS: Final = 16
"""Lines of one import that wait for something at once, such as for a validation worker."""

_AHEAD: Final = 2
"""Batches that are decided, and whose results nobody has taken yet."""

_TRIES: Final = 20
"""How often a line tries to have a validation worker, or whatever else too many wait for: about once a second."""


class Mode(enum.StrEnum):
    """What becomes of a line whose id is there: refused, or put in the place of the user that has it."""

    CREATE = "create"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class ImportUsers:
    """What holds for all lines of an import."""

    series: Series
    mode: Mode = Mode.CREATE
    validate_only: bool = False
    request_id: str = ""


class Line(msgspec.Struct, frozen=True):
    """One line: what it asks, or why it cannot be read; ``digest`` is of its bytes."""

    number: int
    command: CreateUser | Fault
    digest: bytes = b""


class Outcome(msgspec.Struct):
    """What became of a line: the user as the line left it, or why there is none."""

    number: int
    user: User | None = None
    codes: Mapping[str, str] = msgspec.field(default_factory=dict)
    error: Exception | None = None


class _Wanted(msgspec.Struct):
    """A line that can be read, on its way to the database; ``user`` is there when a new one was decided."""

    line: Line
    command: CreateUser
    outcome: Outcome
    user_id: str
    user: User | None = None

    @property
    def open(self) -> bool:
        """Whether nothing is known of it yet."""
        return self.outcome.user is None and self.outcome.error is None


async def begin_import(wiring: Wiring, once: Once | None) -> Series:
    """Begin a stream, or go on with it under the same key.

    Raises:
        Conflict: ``IDEMPOTENCY_KEY_REUSED``, if another request has the key.
        Unavailable: if the database does not answer.
    """
    first = wiring.new_id()
    if once is None:
        return Series(int(first))
    first, _ = await begin_making(wiring, once, first)
    return Series(int(first), once.record_id)


async def import_users(
    wiring: Wiring,
    command: ImportUsers,
    caller: Callable[[], Awaitable[Caller]],
    batches: AsyncIterator[Sequence[Line]],
) -> AsyncGenerator[list[Outcome], None]:
    """Import lines, a batch at a time; while one is being written the next one is decided.

    ``caller`` is asked for each batch: a stream lives longer than the token that it began with may. If it raises, the
    lines of that batch are refused with it and no more are taken. Whoever may stop before the end closes it.
    """
    work, room = _Import(wiring, command), asyncio.Semaphore(_AHEAD)
    under_way: asyncio.Queue[asyncio.Task[list[Outcome]] | None] = asyncio.Queue()

    async def feed() -> None:
        try:
            async for lines in batches:
                decided = await work.decided(await _asked(caller), lines)
                await room.acquire()
                under_way.put_nowait(work.begin(*decided))
                if work.refused:
                    return
        finally:
            under_way.put_nowait(None)

    feeding = asyncio.create_task(feed())
    try:
        while (storing := await under_way.get()) is not None:
            yield await storing
            room.release()
        await feeding  # raises what ended the stream
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await feeding
        await work.end()


async def _asked(caller: Callable[[], Awaitable[Caller]]) -> Caller | Fault:
    try:
        return await caller()
    except Fault as fault:
        return fault


class _Import:
    """The work on one stream."""

    def __init__(self, wiring: Wiring, command: ImportUsers) -> None:
        self._wiring = wiring
        self._command = command
        self._caller: Caller | None = None
        self._storing: asyncio.Task[list[Outcome]] | None = None
        self.refused = False
        # One password at a time: those who sign in meanwhile need the threads that hash as well.
        self._hashing = asyncio.Lock()

    async def decided(self, caller: Caller | Fault, lines: Sequence[Line]) -> tuple[list[list[_Wanted]], list[Outcome]]:
        """Decide what needs no look into the database; what is to be written comes in rounds.

        No round has two lines of one user: of two, the second one is applied to what the first one left. A ``caller``
        who is one no more is why all the lines are refused.
        """
        if isinstance(caller, Fault):
            self.refused = True
            return [], [Outcome(line.number, error=caller) for line in lines]
        self._caller = caller
        outcomes, rounds = [], defaultdict[int, list[_Wanted]](list)
        seen = defaultdict[str, int](int)
        for line in lines:
            outcome = Outcome(line.number)
            outcomes.append(outcome)
            if isinstance(line.command, Exception):
                outcome.error = line.command
                continue
            user_id = line.command.user_id
            made = user_id or self._command.series.user_id(line.number, self._wiring.random_bits)
            rounds[seen[made]].append(_Wanted(line, line.command, outcome, made))
            seen[made] += 1
        found = [rounds[number] for number in sorted(rounds)]
        if self._command.mode is Mode.CREATE:
            for wanted in found:
                await self._decide_all(wanted)
        return found, outcomes

    def begin(self, rounds: Sequence[list[_Wanted]], outcomes: list[Outcome]) -> asyncio.Task[list[Outcome]]:
        """Begin to write what was decided, as soon as the batch before it is written."""
        self._storing = asyncio.create_task(self._stored(self._storing, rounds, outcomes))
        return self._storing

    async def _stored(
        self, before: asyncio.Task[list[Outcome]] | None, rounds: Sequence[list[_Wanted]], outcomes: list[Outcome]
    ) -> list[Outcome]:
        """Write what was decided, round by round, and give the outcomes of all lines of the batch."""
        if before is not None:
            await asyncio.wait({before})
        for wanted in rounds:
            left = wanted
            if self._command.mode is Mode.REPLACE:
                left = await self._replaced(wanted)
                await self._decide_all(left)
            await self._reconsider([each for each in left if each.user is not None and each.open])
            await self._inserted([each for each in left if each.user is not None and each.open])
            await _each([each for each in left if each.user is None and each.open], self._alone)
        return outcomes

    async def end(self) -> None:
        """Let what was begun come to its end, whoever still listens."""
        if self._storing is not None:
            await asyncio.wait({self._storing})

    async def _decide_all(self, wanted: Sequence[_Wanted]) -> None:
        """Decide what new users shall be, most of them without waiting for anything."""
        rules: dict[tuple[str, str], CreationRules | None] = {}
        left, turn, now = [], Slice(), self._wiring.now()
        for each in wanted:
            if turn.over:
                await turn.rest()
            command = each.command
            if not self._command.validate_only and not _is_slow(command):
                place = (command.organization_id, command.schema_id)
                if place not in rules:
                    rules[place] = await self._rules(*place)
                each.user = self._decided_plainly(command, each.user_id, rules[place], now)
            if each.user is None:
                left.append(each)
        await _each(left, self._decide)

    def _decided_plainly(
        self, command: CreateUser, user_id: str, rules: CreationRules | None, now: datetime
    ) -> User | None:
        """Decide by rules that are known; None, if that does not do, or what is wrong has to be told."""
        if rules is None:
            return None
        try:
            check_form(command)
            decision = decide_plain(self._wiring, rules, command, user_id, now)
        except Fault:
            return None
        return None if decision is None else decision.user

    async def _rules(self, organization_id: str, schema_id: str) -> CreationRules | None:
        try:
            await require_creatable(self._wiring, self._present_caller, organization_id)
            return await creation_rules(self._wiring, organization_id, schema_id)
        except Fault:
            return None

    async def _decide(self, wanted: _Wanted) -> None:
        """Decide what a new user shall be; one that needs more than a write is left to ``_alone``."""
        caller, command = self._of(wanted)
        check_form(command)
        if self._command.validate_only or _is_slow(command):
            return
        await require_creatable(self._wiring, caller, command.organization_id)
        try:
            decision = await decide_new(self._wiring, caller, command, wanted.user_id)
        except Malformed:
            check_wishes(command.wishes)  # says all that is wrong with them
            raise
        wanted.user = decision.user

    async def _reconsider(self, wanted: Sequence[_Wanted]) -> None:
        """Leave those to ``_alone`` that were decided by what holds no more: other lines may have taken minutes since.

        Whoever deletes a schema or an organization, or gives a schema a revision that no user may fail, waits for
        caches and writes, but not for so long.
        """
        good: dict[tuple[str, str], int | None] = {}
        for each in wanted:
            user = self._user(each)
            place = (user.organization_id, user.schema_id)
            if place not in good:
                good[place] = await self._revision(*place)
            if good[place] != user.revision:
                each.user = None

    async def _revision(self, organization_id: str, schema_id: str) -> int | None:
        """Give the revision that a new user passes if it passes the schema's present one; None if there is none."""
        try:
            await require_active_organization(self._wiring, organization_id)
            schema = await usable_schema(self._wiring, schema_id, organization_id)
        except Fault:
            return None  # which is told when the user is decided again
        return schema.revision if schema.announced is None else None

    async def _inserted(self, wanted: list[_Wanted]) -> None:
        """Write new users, all at once."""
        if not wanted:
            return
        try:
            births = await self._births(wanted)
            if not births:
                return
            origin = origin_of(self._present_caller, self._command.request_id)
            outcomes = await self._wiring.users.insert_all([birth for _, _, birth in births], origin)
        except Fault as fault:
            for each in wanted:
                each.outcome.error = each.outcome.error or fault
            return
        lost = []
        for (each, marked, _), outcome in zip(births, outcomes, strict=True):
            if outcome is True:
                each.outcome.user = marked.user
            elif outcome is False:
                lost.append((each, marked))
            else:
                each.outcome.error = outcome
        if lost:
            await self._recognised(lost)

    async def _births(self, wanted: Sequence[_Wanted]) -> list[tuple[_Wanted, Marked, Birth]]:
        """Claim what new users bring, and find out who is told of them; of a line that cannot be, say why."""
        wiring, series, request_id = self._wiring, self._command.series, self._command.request_id
        reserved = await reserve_all(wiring, [(self._user(each), self._once(each)) for each in wanted])
        heard: dict[str, bool] = {}
        births = []
        for each, marked in zip(wanted, reserved, strict=True):
            if isinstance(marked, Fault):
                each.outcome.error = marked
                continue
            organization_id = marked.user.organization_id
            if organization_id not in heard:
                heard[organization_id] = await are_heard(wiring, organization_id)
            told = await user_deliveries(wiring, None, marked.user, request_id) if heard[organization_id] else ()
            births.append((each, marked, Birth(marked.user, told, series.nonce(each.line.number, each.line.digest))))
        return births

    async def _recognised(self, lost: Sequence[tuple[_Wanted, Marked]]) -> None:
        """Find out of ids that are used whether it was these lines that used them, when they were sent before."""
        try:
            for each, marked in lost:
                await unreserve(self._wiring, self._user(each), marked)
            born = await self._wiring.users.births([each.user_id for each, _ in lost])
        except Fault as fault:
            for each, _ in lost:
                each.outcome.error = fault
            return
        again = []
        for each, _ in lost:
            self._recognise(each, born.get(each.user_id))
            if each.open:
                again.append(each)
        await _each(again, self._after_all)

    def _recognise(self, wanted: _Wanted, born: Born | None) -> None:
        """Take the user that has a line's id for the line's own, if it is; leave the line open if it isn't."""
        line, series = wanted.line, self._command.series
        if born is None or not series.is_place(born.nonce, line.number):
            return
        if born.nonce != series.nonce(line.number, line.digest):
            wanted.outcome.error = Conflict(
                "IDEMPOTENCY_KEY_REUSED", "another line was sent at this place under this Idempotency-Key"
            )
            return
        at, command = born.created_at, wanted.command
        wanted.outcome.user = User(
            wanted.user_id, born.organization_id, command.schema_id, 0, {}, created_at=at, changed_at=at
        )

    async def _after_all(self, wanted: _Wanted) -> None:
        """Deal with a new user whose id somebody else has."""
        if wanted.command.user_id is None:  # two ids were made alike: rare, and the next one is drawn
            await self._alone(wanted)
        elif self._command.mode is Mode.REPLACE:  # it came between the look and the write
            await self._replace(wanted)
        else:
            raise id_taken()

    async def _replaced(self, wanted: Sequence[_Wanted]) -> list[_Wanted]:
        """Replace the users that are there; those lines come back whose users are not."""
        named = [each.user_id for each in wanted if each.command.user_id is not None]
        try:
            born = await self._wiring.users.births(named) if named else {}
        except Fault as fault:
            for each in wanted:
                each.outcome.error = fault
            return []
        there = [each for each in wanted if each.command.user_id in born]
        for each in there:
            self._recognise(each, born[each.user_id])
        await _each([each for each in there if each.open], self._replace)
        return [each for each in wanted if each.command.user_id not in born]

    async def _replace(self, wanted: _Wanted) -> None:
        caller, command = self._of(wanted)
        check_form(command)
        check_wishes(command.wishes)
        await require_creatable(self._wiring, caller, command.organization_id)
        target = Target(
            caller,
            wanted.user_id,
            validate_only=self._command.validate_only,
            request_id=self._command.request_id,
            once=None if self._command.validate_only else self._once(wanted),
        )
        async with self._hashing if _is_hashed(command) else contextlib.nullcontext():
            decision = await replace_user(self._wiring, target, command)
        wanted.outcome.user, wanted.outcome.codes = decision.user, decision.codes

    async def _alone(self, wanted: _Wanted) -> None:
        """Create a user as a request of its own would: one with codes or a password to hash, or for a rehearsal."""
        caller, command = self._of(wanted)
        rehearsed = self._command.validate_only
        async with self._hashing if _is_hashed(command) else contextlib.nullcontext():
            decision = await create_user(
                self._wiring,
                caller,
                command,
                validate_only=rehearsed,
                request_id=self._command.request_id,
                once=None if rehearsed else self._once(wanted),
            )
        wanted.outcome.user, wanted.outcome.codes = decision.user, decision.codes

    @property
    def _present_caller(self) -> Caller:
        if self._caller is None:
            message = "a batch is decided first"
            raise AssertionError(message)
        return self._caller

    def _of(self, wanted: _Wanted) -> tuple[Caller, CreateUser]:
        return self._present_caller, wanted.command

    def _once(self, wanted: _Wanted) -> Once | None:
        return self._command.series.once(wanted.line.number, wanted.line.digest)

    @staticmethod
    def _user(wanted: _Wanted) -> User:
        if wanted.user is None:
            message = "a user is decided before it is written"
            raise AssertionError(message)
        return wanted.user


def _is_hashed(command: CreateUser) -> bool:
    return command.password is not None and command.password.plain is not None


def _is_slow(command: CreateUser) -> bool:
    """Whether a new user takes more than a write: codes that are counted and sent, or a password to hash."""
    for wish in command.wishes:  # a loop: an expression of generators costs more than all else here
        if isinstance(wish.verification, (SendCode, ReturnCode)):
            return True
    return _is_hashed(command)


async def _patiently(work: Callable[[_Wanted], Awaitable[None]], wanted: _Wanted) -> None:
    """Wait where a request would be told to come again: an import has time, and its lines are many."""
    for tries in range(1, _TRIES + 1):
        try:
            return await work(wanted)
        except Unavailable as fault:
            if fault.reason != "QUEUE_FULL" or tries == _TRIES:
                raise
            await asyncio.sleep(fault.retry_after or 1)
    return None


async def _each(wanted: Sequence[_Wanted], work: Callable[[_Wanted], Awaitable[None]]) -> None:
    """Do the same for each of some lines, a few of them at once if they wait; what goes wrong is the line's own."""

    async def hand(lines: Iterable[_Wanted]) -> None:
        turn = Slice()
        for each in lines:
            try:
                await _patiently(work, each)
            except Exception as error:  # noqa: BLE001 -- a line costs only itself, whatever it meets
                each.outcome.error = error
            await turn.rest()

    if wanted:
        lines = iter(wanted)
        await asyncio.gather(*(hand(lines) for _ in range(min(_HANDS, len(wanted)))))
