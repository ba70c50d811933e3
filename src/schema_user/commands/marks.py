"""What a user's schema marks: its values are indexed by the write of the user, and claimed before it if unique.

Email addresses are claimed likewise, where the settings say so. A claim that is not confirmed by the user's document is
an orphan (``store/claims.py``). What was not unique when it was written, and is held by somebody else, stays as it is
until it is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from schema_user.domain.indexing import MAX_UNIQUE, MAX_VALUES
from schema_user.domain.search import fold
from schema_user.domain.user import Claimed, User
from schema_user.errors import Aborted, Conflict, Unmet, Violation
from schema_user.store.claims import Place
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.domain.indexing import IndexPlan
    from schema_user.domain.repetition import Once
    from schema_user.wiring import Wiring

DATA: Final = "data"
EMAIL: Final = "email"
_EMAIL_AT: Final = "contact/email/address"


class Marked(msgspec.Struct, frozen=True):
    """A user as it shall be written, and what was claimed for that."""

    user: User
    fresh: tuple[Claimed, ...] = ()


class _Wish(NamedTuple):
    """A value to be claimed; ``tolerated`` if it was the user's already, and so may stay without a claim."""

    place: Place
    claim_id: bytes
    at: str
    tolerated: bool


async def may_mark(wiring: Wiring, user: User) -> bool:
    """Whether ``mark()`` could do anything with a new user, or with any other of its schema and organization."""
    return wiring.settings.unique_emails or await _plan(wiring, user) is not None


async def mark(wiring: Wiring, before: User | None, after: User, once: Once | None = None) -> Marked:
    """Give a user with the entries and the claims of what changes; whoever does not write it calls ``unmark()``.

    A change of neither data nor address costs three comparisons; one of data under a schema without marks, a look into
    two dictionaries.

    Raises:
        Conflict: ``VALUE_TAKEN`` or ``EMAIL_TAKEN``, with each place whose value somebody else has.
        Unmet: ``INDEX_LIMIT``, if too many values would be indexed or unique.
        Aborted: if another request gives the same user the same value just now.
    """
    new_data = not after.deleted and _differs(before, after)
    moved = before is None or before.contact is not after.contact
    new_email = not after.deleted and moved and _email(before) != _email(after)
    if not new_data and not new_email:
        return Marked(after)
    plan = await _plan(wiring, after) if new_data else None
    if new_data:
        after = await _indexed(before, after, plan)
    wishes: list[_Wish] = []
    if plan is not None and plan.unique:
        wishes += await aside(lambda: list(_values(wiring, before, after, plan)), after.data)
    address = _email(after)
    if new_email and address is not None and wiring.settings.unique_emails:
        wishes.append(_wish(wiring, Place(EMAIL, after.organization_id, address), _EMAIL_AT))
    replaced = ({DATA} if new_data else set()) | ({EMAIL} if new_email else set())
    if not wishes and not after.claims:
        return Marked(after)
    return await _claimed(wiring, after, wishes, replaced, once)


def _differs(before: User | None, after: User) -> bool:
    return (
        before is None
        or after.data is not before.data
        or after.schema_id != before.schema_id
        or after.revision != before.revision
    )


def _email(user: User | None) -> str | None:
    address = None if user is None else user.contact.email
    return None if address is None else fold(address.value)


async def _plan(wiring: Wiring, user: User) -> IndexPlan | None:
    schema = await wiring.schemas.head(user.schema_id)
    return None if schema is None else await wiring.plans.get(schema)


async def _indexed(before: User | None, after: User, plan: IndexPlan | None) -> User:
    """Give the user with the entries of its data, if they are others than those that are stored."""
    if plan is None:
        return replace(after, marking="", indexed=()) if after.marking else after

    def made() -> User:
        is_marked = before is not None and before.marking == plan.fingerprint
        if is_marked and before is not None and plan.same(before.data, after.data):
            entries = None
        else:
            entries = plan.entries(after.data)
        require_few(plan, after, 0 if entries is None else len(entries))
        return after if entries is None else replace(after, marking=plan.fingerprint, indexed=entries)

    return await aside(made, after.data)


def require_few(plan: IndexPlan, user: User, entries: int) -> None:
    """Raise Unmet if more values of a user would be indexed or unique than may be."""
    if entries < MAX_VALUES and not plan.unique:
        return
    for count, most, words in zip(plan.count(user.data), (MAX_VALUES, MAX_UNIQUE), ("indexed", "unique"), strict=True):
        if count > most:
            text = f"has {count} values that are {words}, which may be {most}"
            raise Unmet("INDEX_LIMIT", f"data {text}", [Violation("data", text, "indexLimit")])


def _values(wiring: Wiring, before: User | None, after: User, plan: IndexPlan) -> Iterator[_Wish]:
    own = set()
    if before is not None and before.schema_id == after.schema_id:
        own = {(each.path, each.value) for each in plan.uniques(before.data)}
    for each in plan.uniques(after.data):
        place = value_place(after.organization_id, after.schema_id, each.path, each.value)
        yield _wish(wiring, place, each.pointer, tolerated=(each.path, each.value) in own)


def value_place(organization_id: str, schema_id: str, path: str, value: str) -> Place:
    """Give what a user holds with a unique value: the value at its path, in its organization, under its schema."""
    return Place(DATA, f"{organization_id}\n{schema_id}\n{path}", value)


def _wish(wiring: Wiring, place: Place, at: str, *, tolerated: bool = False) -> _Wish:
    return _Wish(place, wiring.claims.id_of(place), at, tolerated)


async def _claimed(wiring: Wiring, user: User, wishes: list[_Wish], replaced: set[str], once: Once | None) -> Marked:
    """Claim what the user wishes and has not; what it has of the ``replaced`` kinds and does not wish is left out."""
    held = {each.claim_id: each for each in user.claims}
    claims = [each for each in user.claims if each.kind not in replaced]
    nonce = once.nonce(user.version) if once else wiring.random_bits(96).to_bytes(12, "big")
    fresh: list[Claimed] = []
    taken: list[_Wish] = []
    try:
        for wish in wishes:
            if wish.claim_id in held:
                claims.append(held[wish.claim_id])
            elif await _take(wiring, wish, user, nonce):
                fresh.append(Claimed(wish.place.kind, wish.claim_id, nonce))
            elif not wish.tolerated:
                taken.append(wish)
        if taken:
            await _refuse(wiring, taken, user)
    except BaseException:
        await unmark(wiring, Marked(user, tuple(fresh)))
        raise
    return Marked(replace(user, claims=(*claims, *fresh)), tuple(fresh))


async def _take(wiring: Wiring, wish: _Wish, user: User, nonce: bytes) -> bool:
    if not await wiring.claims.take(wish.place, user.user_id, nonce, wiring.now()):
        return False
    if wish.place.kind != EMAIL or not await wiring.users.has_email(wish.place.scope, wish.place.value, user.user_id):
        return True
    # Somebody had the address before addresses were claimed.
    await wiring.claims.release(wish.place, user.user_id, nonce)
    return False


async def _refuse(wiring: Wiring, taken: list[_Wish], user: User) -> None:
    if all([await wiring.claims.holder(wish.place) == user.user_id for wish in taken]):
        raise Aborted("RACE_LOST", "others changed the user at the same time; try again", retry_after=1)
    violations = [Violation(at, "is taken by another user", "unique") for at in sorted(wish.at for wish in taken)]
    if all(wish.place.kind == EMAIL for wish in taken):
        raise Conflict("EMAIL_TAKEN", "the email address is taken in this organization", violations)
    raise Conflict("VALUE_TAKEN", f"{violations[0].field} is taken by another user", violations)


async def unmark(wiring: Wiring, marked: Marked) -> None:
    """Give free what was claimed for a write that did not happen."""
    for each in marked.fresh:
        await wiring.claims.let_go(each, marked.user.user_id)


async def settle_marks(wiring: Wiring, before: User, after: User) -> None:
    """Give free, after a write, what the user held before it and no longer does."""
    if before.claims and before.claims != after.claims:
        kept = {(each.claim_id, each.nonce) for each in after.claims}
        for each in before.claims:
            if (each.claim_id, each.nonce) not in kept:
                await wiring.claims.let_go(each, before.user_id)
