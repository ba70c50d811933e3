"""The one way in which a user is changed: read, permit, decide, write if nobody else did, else begin again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from schema_user.commands.code_limits import Postage
from schema_user.commands.events import user_deliveries
from schema_user.commands.marks import mark, settle_marks, unmark
from schema_user.commands.refused_data import of_moved
from schema_user.commands.repetition import before_writing, live
from schema_user.domain.access import reached_user
from schema_user.domain.history import Origin
from schema_user.domain.repetition import Answered
from schema_user.domain.search import fold
from schema_user.domain.user import User, advanced
from schema_user.errors import Aborted, Conflict, Fault, StaleSequence, Unmet, Violation
from schema_user.store.claims import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_user.commands.marks import Marked
    from schema_user.domain.caller import Caller
    from schema_user.domain.repetition import Known, Once
    from schema_user.wiring import Wiring

_TRIES: Final = 48
_LONGEST_PAUSE: Final = 0.02
"""Seconds; other processes' writers are met with a doubling pause, this one's wait for their turn."""


@dataclass(frozen=True, slots=True)
class Target:
    """The user that a caller wants to change, and the sequence at which it expects it (If-Match; None: any).

    ``once`` is there if the change shall happen once however often it is asked for. ``condition`` raises for a user, as
    it is just before the change, whom the operation is not for; it is asked when all else would let the caller go on.
    """

    caller: Caller
    user_id: str
    expected_sequence: int | None = None
    validate_only: bool = False
    request_id: str = ""
    once: Once | None = None
    condition: Callable[[User], Awaitable[None]] | None = None

    @property
    def origin(self) -> Origin:
        """Who causes the change, as its history tells it."""
        return origin_of(self.caller, self.request_id)


def origin_of(caller: Caller, request_id: str) -> Origin:
    """Give who causes a change."""
    return Origin(caller.token_id, caller.user_id, request_id)


class Decision(msgspec.Struct, frozen=True):
    """What a user shall become, and the codes that go back to the caller: by channel, or ``credential.RESET``.

    With a ``refusal`` the user is stored all the same, as when an attempt is counted. ``replayed``: the answer of
    before, given again.
    """

    user: User
    codes: Mapping[str, str] = msgspec.field(default_factory=dict)
    refusal: Fault | None = None
    replayed: bool = False


def expect_sequence(expected: int | None, actual: int) -> None:
    """Raise StaleSequence if the resource is not at the sequence that the caller named in If-Match."""
    if expected is not None and expected != actual:
        raise StaleSequence(
            "SEQUENCE_MISMATCH",
            f"the resource is at sequence {actual}, not at the one in If-Match",
            metadata={"sequence": str(actual)},
        )


async def require_active_organization(wiring: Wiring, organization_id: str) -> None:
    """Raise Unmet if the organization is not active: then it can be read, but not written."""
    organization = await wiring.organizations.known(organization_id)
    if organization is None or not organization.active:
        raise Unmet(
            "ORGANIZATION_INACTIVE", "the organization is not active", metadata={"organizationId": organization_id}
        )


async def change_user(
    wiring: Wiring,
    target: Target,
    permit: Callable[[User], None],
    decide: Callable[[User], Awaitable[Decision]],
    permit_values: Callable[[User], Awaitable[None]] | None = None,
) -> Decision:
    """Apply a change to the latest document of a user, all of it or none.

    ``permit`` raises for a caller that may not, and so does ``permit_values`` for what it sends, unless that had its
    effect before under the same key; ``decide`` says what the user shall become. All are asked again when another
    writer was faster.

    Raises:
        Missing, Denied, StaleSequence, Unmet: in this order.
        Conflict: if the username is taken.
        Aborted: if others were faster again and again.
        Exhausted: if no more codes may be sent; then nothing is changed.
    """
    try:
        async with wiring.turns.of(target.user_id, wiring.settings.mongodb_timeout.total_seconds()):
            postage = Postage(wiring)
            try:
                return await _change(wiring, target, permit, decide, permit_values, postage=postage)
            finally:
                if postage.paid:
                    await postage.settle()
    except TimeoutError:
        raise race_lost() from None


async def _change(
    wiring: Wiring,
    target: Target,
    permit: Callable[[User], None],
    decide: Callable[[User], Awaitable[Decision]],
    permit_values: Callable[[User], Awaitable[None]] | None,
    *,
    postage: Postage,
) -> Decision:
    for attempt in range(_TRIES):
        before, earlier = await look(wiring, target, permit, permit_values, first=attempt == 0)
        if earlier is not None:
            return earlier
        decision = await decide(before)
        after = advanced(before, decision.user, wiring.now())
        if after is None and target.once is not None and decision.refusal is None:
            # The answer must be tied to what it speaks of: a twin may read what somebody else writes next.
            after = replace(before, version=before.version + 1)
        if after is None:
            return await _unchanged(wiring, before, decision)
        if after.messages or postage.paid:
            await postage.pay(after, rehearsed=target.validate_only)
        if await _commit(wiring, before, after, decision, target, postage=postage):
            if decision.refusal is not None:
                raise decision.refusal
            return replace(decision, user=after, codes={} if target.validate_only else decision.codes)
        await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.002 * 2**attempt)))  # noqa: S311 -- not a secret
    raise race_lost()


async def look(
    wiring: Wiring,
    target: Target,
    permit: Callable[[User], None],
    permit_values: Callable[[User], Awaitable[None]] | None = None,
    *,
    first: bool = True,
) -> tuple[User, Decision | None]:
    """Find a user whom the caller may change, and the answer that the request got before, if it did.

    What takes too long to be done between reading and writing is done between this and ``change_user()``, which asks
    everything again.

    Raises:
        Missing, Denied, StaleSequence, Unmet: as ``change_user()``.
    """
    before = reached_user(target.caller, await wiring.users.find(target.user_id), target.user_id)
    permit(before)
    if target.once is not None:
        earlier = await _earlier(wiring, target.once, before, first=first)
        if earlier is not None:
            return before, earlier
    if permit_values is not None:
        await permit_values(before)
    expect_sequence(target.expected_sequence, before.sequence)
    await require_active_organization(wiring, before.organization_id)
    if target.condition is not None:
        await target.condition(before)
    return before, None


def race_lost() -> Aborted:
    """Give the fault for a change that others were faster with, again and again."""
    return Aborted("RACE_LOST", "others changed the user at the same time; try again", retry_after=1)


async def _earlier(wiring: Wiring, once: Once, before: User, *, first: bool) -> Decision | None:
    """Give the answer that the request got before, if it did."""

    async def kept() -> Known | None:
        return await wiring.users.answer(before, once)

    answered = await before_writing(wiring, once, kept, first=first, key=before.key)
    return None if answered is None else await repeated(wiring, before, answered)


async def repeated(wiring: Wiring, user: User, answered: Answered) -> Decision:
    """Give an answer again: as it was, without the codes that are dead."""
    as_it_was = replace(user, sequence=answered.sequence, changed_at=answered.changed_at)
    return Decision(as_it_was, await live(wiring, user, answered), replayed=True)


def answer_of(once: Once | None, after: User, decision: Decision) -> Answered | None:
    """Give what is kept of an answer, if the request may be repeated and was not refused."""
    if once is None or decision.refusal is not None:
        return None
    given = {str(name): code for name, code in decision.codes.items()}
    return Answered(once, after.sequence, after.changed_at, codes=given)


async def _unchanged(wiring: Wiring, before: User, decision: Decision) -> Decision:
    """Answer that there is nothing to write, as soon as no failover can take back what that rests on."""
    await wiring.users.settled(before)
    if decision.refusal is not None:
        raise decision.refusal
    return replace(decision, user=before)


async def _commit(
    wiring: Wiring, before: User, after: User, decision: Decision, target: Target, *, postage: Postage
) -> bool:
    """Write the change, with the claims of what must be unique before it, and the release of the old ones after it."""
    deliveries = await user_deliveries(wiring, before, after, target.request_id)
    try:
        reserved = await reserve(wiring, before, after, target.once)
    except (Conflict, Unmet) as fault:
        if after.schema_id == before.schema_id:
            raise
        raise of_moved(before, fault, own_data=after.data is before.data) from None
    if target.validate_only:
        await unreserve(wiring, after, reserved)
        return True
    stored = reserved.user
    answered = answer_of(target.once, stored, decision)
    if not await postage.stored(wiring.users.replace(before, stored, target.origin, answered, deliveries)):
        await unreserve(wiring, after, reserved)
        return False
    if before.username_claim is not None and before.username_claim != stored.username_claim:
        await release_username(wiring, before)
    await settle_marks(wiring, before, stored)
    return True


async def reserve(wiring: Wiring, before: User | None, after: User, once: Once | None = None) -> Marked:
    """Claim all that ``after`` brings and nobody else may have; the user comes back as it shall be written.

    Raises:
        Conflict: if another user has some of it.
        Unmet: if too much of the data would be indexed or unique.
        Aborted: if another request is giving it to this user just now.
    """
    named = await claim_username(wiring, before, after, once)
    try:
        return await mark(wiring, before, named, once)
    except BaseException:
        await release_username(wiring, named if named is not after else None)
        raise


async def unreserve(wiring: Wiring, after: User, reserved: Marked) -> None:
    """Give free what was claimed for a write of ``after`` that did not happen."""
    await unmark(wiring, reserved)
    if reserved.user.username_claim != after.username_claim:
        await release_username(wiring, reserved.user)


async def claim_username(wiring: Wiring, before: User | None, after: User, once: Once | None = None) -> User:
    """Reserve the username that ``after`` brings; the user comes back with its claim, or as it is if none is new.

    Raises:
        Conflict: if another user of the organization has it, in whatever case.
        Aborted: if another request is giving it to this user just now.
    """
    if after.username is None:
        return after if after.username_claim is None else replace(after, username_claim=None)
    folded = fold(after.username)
    if before is not None and before.username is not None and fold(before.username) == folded:
        return after
    nonce = once.nonce(after.version) if once else wiring.random_bits(96).to_bytes(12, "big")
    place = Place("username", after.organization_id, folded)
    if not await wiring.claims.take(place, after.user_id, nonce, wiring.now()):
        if before is not None and await wiring.claims.holder(place) == before.user_id:
            raise race_lost()  # against another request that gives the same user the same name
        raise username_taken()
    return replace(after, username_claim=nonce)


def username_taken() -> Conflict:
    """Give the fault of a username that another user of the organization has."""
    violation = Violation("username", "is taken", "unique")
    return Conflict("USERNAME_TAKEN", "the username is taken in this organization", [violation])


async def release_username(wiring: Wiring, user: User | None) -> None:
    """Give the username of a user free, as when it was claimed for a write that did not happen."""
    if user is not None and user.username is not None and user.username_claim is not None:
        place = Place("username", user.organization_id, fold(user.username))
        await wiring.claims.release(place, user.user_id, user.username_claim)
