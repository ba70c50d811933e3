"""Passwords: set one, and compare with it. A try is counted before anything is compared.

Hashing takes tens of milliseconds and more, so it is never done between reading a user and writing it: what must be
hashed is hashed before, and the write asks again whether that still holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from schema_user.commands.change import Decision, Target, change_user, look, race_lost
from schema_user.commands.code_limits import next_reset_in, seconds
from schema_user.commands.contact_rules import contact_rules, own_settings
from schema_user.commands.contacts import code_refusal, require_write_for
from schema_user.domain.access import require, require_user
from schema_user.domain.credential import Credential, reset_bindings, reset_digests
from schema_user.domain.permission import Permission
from schema_user.errors import Exhausted, Malformed, Missing, Unavailable, Unmet, Violation
from schema_user.hashing.kinds import NotAccepted, accept

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_user.domain.password import Policy
    from schema_user.domain.user import User
    from schema_user.errors import Fault
    from schema_user.wiring import Wiring

_PATIENCE: Final = 10.0
"""Seconds for which a comparison waits for the others with the same user's password: one at a time in each process."""


@dataclass(frozen=True, slots=True)
class PasswordWish:
    """A new password as a caller wrote it, plain or ``encoded`` as a hash, and what proves that it may be set.

    ``field`` is the pointer of the password or the hash, ``at`` that of the object which holds the proofs, with a
    trailing slash unless it is the body itself.
    """

    field: str
    plain: str | None = dataclasses.field(default=None, repr=False)
    encoded: str | None = dataclasses.field(default=None, repr=False)
    change_required: bool = False
    current: str | None = dataclasses.field(default=None, repr=False)
    code: str | None = dataclasses.field(default=None, repr=False)
    at: str = ""


@dataclass(frozen=True, slots=True)
class ReadyPassword:
    """A new password that was hashed, and of what it holds: the generation whose password was ``proven``."""

    wish: PasswordWish
    encoded: str | None = dataclasses.field(default=None, repr=False)
    proven: int | None = None


def beyond_self(wish: PasswordWish) -> list[Violation]:
    """List what needs ``user.write`` even of the user itself: a hash, and a password without any proof."""
    found = []
    if wish.encoded is not None:
        found.append(Violation(wish.field, f"needs {Permission.USER_WRITE}", "permission"))
    if wish.current is None and wish.code is None:
        words = f"needs currentPassword or verificationCode beside it, or {Permission.USER_WRITE}"
        found.append(Violation(wish.field, words, "permission"))
    return found


async def password_policy(wiring: Wiring, organization_id: str) -> Policy:
    """Give what an organization asks of new passwords: at least what the instance does."""
    policy, own = wiring.settings.password_policy, await own_settings(wiring, organization_id)
    return policy if own.password_policy is None else own.password_policy.over(policy).stricter(policy)


def accepted_hash(encoded: str, at: str) -> str:
    """Give a hash that was made elsewhere as it is kept; nothing is computed.

    Raises:
        Malformed: if it is none that is accepted; ``at`` is its pointer.
    """
    try:
        accept(encoded)
    except NotAccepted as error:
        raise Malformed("FIELD_INVALID", f"{at} {error}", [Violation(at, str(error), "hash")]) from None
    return encoded


async def hashed(wiring: Wiring, wish: PasswordWish, organization_id: str) -> str:
    """Give the hash of a new password.

    Raises:
        Malformed: ``PASSWORD_POLICY``, with every rule that the password breaks; or for a hash that is not accepted.
        Unavailable: ``QUEUE_FULL``.
    """
    await require_allowed(wiring, wish, organization_id)
    return wish.encoded or await wiring.hasher.hash(wish.plain or "")


async def require_allowed(wiring: Wiring, wish: PasswordWish, organization_id: str) -> None:
    """Raise Malformed for what ``hashed()`` would not hash or keep; nothing is computed."""
    if wish.plain is None:
        accepted_hash(wish.encoded or "", wish.field)
        return
    policy = await password_policy(wiring, organization_id)
    found = [Violation(wish.field, text, reason) for reason, text in policy.problems(wish.plain)]
    if found:
        raise Malformed("PASSWORD_POLICY", f"{wish.field} {found[0].description}", found)


async def ready_password(
    wiring: Wiring, target: Target, wish: PasswordWish, permit: Callable[[User], None]
) -> ReadyPassword:
    """Check a new password and what proves that it may be set, and hash it: all that must not wait in a write.

    Raises:
        Missing, Denied, StaleSequence, Unmet: as ``change_user()``.
        Malformed: ``PASSWORD_POLICY``, ``PASSWORD_INVALID``, ``CODE_INVALID``; or for a hash that is not accepted.
        Unmet: ``CODE_EXPIRED``, ``CODE_NOT_PENDING``.
        Exhausted: ``PASSWORD_ATTEMPTS_EXHAUSTED``, ``CODE_ATTEMPTS_EXHAUSTED``.
        Unavailable: ``QUEUE_FULL``.
    """
    user, earlier = await look(wiring, target, permit)
    if earlier is not None:
        return ReadyPassword(wish)  # the write finds the answer of before
    await require_allowed(wiring, wish, user.organization_id)
    proven = None
    if wish.current is not None:
        compared = await _compare(wiring, target, permit, wish.current, f"{wish.at}currentPassword")
        proven = _of(compared).generation
    if wish.code is not None:
        await _require_code(wiring, target, wish, permit)
    encoded = wish.encoded or await wiring.hasher.hash(wish.plain or "")
    return ReadyPassword(wish, encoded, proven)


async def put_password(wiring: Wiring, user: User, ready: ReadyPassword) -> Decision:
    """Put a password into a user that is being changed, and use up the code that proves that it may be.

    With a ``refusal`` in the decision nothing but the attempt may be stored.
    """
    credential = _of(user)
    if ready.encoded is None:
        raise race_lost()  # the record of the request went in the same moment
    if ready.wish.code is not None:
        judged, refusal = await _used(wiring, user, ready.wish)
        if refusal is not None:
            return Decision(judged, refusal=refusal)
    elif ready.proven is not None and credential.generation != ready.proven:
        raise _wrong(f"{ready.wish.at}currentPassword")  # another one was set meanwhile
    set_now = credential.with_password(ready.encoded, wiring.now(), change_required=ready.wish.change_required)
    return Decision(replace(user, credential=set_now))


async def set_password(
    wiring: Wiring, target: Target, wish: PasswordWish, condition: Callable[[User], None] | None = None
) -> Decision:
    """Set a user's password.

    ``condition`` raises for a user, as it is just before the change, who shall get none after all.

    Raises:
        Missing, Denied, StaleSequence, Unmet, Aborted: as ``change_user()``.
        Malformed, Exhausted, Unavailable: as ``ready_password()``.
    """

    def permit(user: User) -> None:
        require_user(target.caller, Permission.USER_WRITE, user)
        require_write_for(target.caller, user, beyond_self(wish))
        if condition is not None:
            condition(user)

    ready = await ready_password(wiring, target, wish, permit)

    async def decide(user: User) -> Decision:
        return await put_password(wiring, user, ready)

    return await change_user(wiring, target, permit, decide)


async def verify_password(wiring: Wiring, target: Target, password: str) -> User:
    """Compare with the password of a user, who must be active.

    A right one that is kept by a hash from elsewhere is hashed anew. It takes as long for a user who is not there.

    Raises:
        Missing, Denied, StaleSequence, Unmet: as ``change_user()``.
        Unmet: ``USER_NOT_ACTIVE``.
        Malformed: ``PASSWORD_INVALID``.
        Exhausted: ``PASSWORD_ATTEMPTS_EXHAUSTED``.
        Unavailable: ``QUEUE_FULL``.
    """

    def permit(user: User) -> None:
        require(target.caller, Permission.USER_WRITE, user.organization_id)

    try:
        return await _compare(wiring, target, permit, password, "password", must_be_usable=True)
    except Missing:
        if target.caller.organizations(Permission.USER_WRITE) != frozenset():
            await wiring.hasher.pretend(password)
        raise


def _of(user: User) -> Credential:
    return user.credential or Credential()


def _wrong(at: str, left: int | None = None) -> Malformed:
    metadata = {} if left is None else {"attemptsLeft": str(left)}
    return Malformed("PASSWORD_INVALID", "the password is wrong", [Violation(at, "is wrong", "password")], metadata)


async def _compare(
    wiring: Wiring,
    target: Target,
    permit: Callable[[User], None],
    password: str,
    at: str,
    *,
    must_be_usable: bool = False,
) -> User:
    """Compare with a user's password, and give the user as it is after that; ``at`` is the pointer of what was given.

    Those of one user take turns in each process: a burst of right ones is not taken for wrong ones that are under way,
    and no user's burst takes the threads of all.
    """
    # Counted though the request be a rehearsal, or be sent again under its key: else it would be a way to try for ever.
    target = dataclasses.replace(target, validate_only=False, once=None)
    later = dataclasses.replace(target, expected_sequence=None)
    tries = wiring.settings.password_tries

    async def count(user: User) -> Decision:
        if must_be_usable:
            _require_usable(user)
        return Decision(replace(user, credential=_counted(wiring, _of(user))))

    async def uncount(user: User) -> Decision:
        return Decision(replace(user, credential=_of(user).uncounted(tries)))

    try:
        async with wiring.turns.of(f"password {target.user_id}", _PATIENCE):
            known = _of((await change_user(wiring, target, permit, count)).user)
            try:
                right = await _matches(wiring, password, known.encoded)
            except Unavailable:
                await change_user(wiring, later, permit, uncount)
                raise
            if not right:
                raise _wrong(at, max(0, tries - known.failed))
            renewed = await _renewed(wiring, password, known.encoded)

            async def settle(user: User) -> Decision:
                if must_be_usable:
                    _require_usable(user)
                if _of(user).generation != known.generation:
                    raise _wrong(at)  # another one was set meanwhile
                return Decision(replace(user, credential=_of(user).proven(renewed)))

            return (await change_user(wiring, later, permit, settle)).user
    except TimeoutError:
        raise Unavailable("QUEUE_FULL", "too many passwords wait to be compared", retry_after=1) from None


def _require_usable(user: User) -> None:
    if not user.usable:
        raise Unmet("USER_NOT_ACTIVE", "no password is compared for a user who is not active")


def _counted(wiring: Wiring, credential: Credential) -> Credential:
    """Count a comparison, or raise Exhausted if none is made at present."""
    now, span = wiring.now(), wiring.settings.password_locked_for
    if locked := credential.locked_for(now, span):
        raise Exhausted(
            "PASSWORD_ATTEMPTS_EXHAUSTED", "too many wrong passwords; try again later", retry_after=seconds(locked)
        )
    return credential.counted(now, wiring.settings.password_tries, span)


async def _matches(wiring: Wiring, password: str, encoded: str | None) -> bool:
    """Compare with a hash; it takes as long without one, or with one that is not accepted any more."""
    if encoded is not None:
        with contextlib.suppress(NotAccepted):
            return await wiring.hasher.matches(password, encoded)
    await wiring.hasher.pretend(password)
    return False


async def _renewed(wiring: Wiring, password: str, encoded: str | None) -> str | None:
    """Hash a right password anew if its hash is from elsewhere or weaker than ours; later, if there is no room now."""
    if encoded is None or not wiring.hasher.needs_upgrade(encoded):
        return None
    with contextlib.suppress(Unavailable):
        return await wiring.hasher.hash(password)
    return None


async def _used(wiring: Wiring, user: User, wish: PasswordWish) -> tuple[User, Fault | None]:
    """Judge the code of a wish; the user comes back as it must be stored, with what is wrong with the code, if it is.

    A right one is used up, with all others for a new password.
    """
    rules, now = await contact_rules(wiring, user.organization_id), wiring.now()
    bindings = reset_bindings(user.organization_id, user.user_id, user.contact)
    digests = reset_digests(wiring.keyring.code_keys, bindings, wish.code or "")
    credential = _of(user)
    reset, verdict = credential.reset.judged(digests, now, rules.code_attempts)
    refusal = code_refusal(
        verdict, rules.code_attempts - reset.failed, next_reset_in(reset, rules, now), f"{wish.at}verificationCode"
    )
    if reset == credential.reset:
        return user, refusal
    return replace(user, credential=dataclasses.replace(credential, reset=reset)), refusal


async def _require_code(wiring: Wiring, target: Target, wish: PasswordWish, permit: Callable[[User], None]) -> None:
    """Raise for a code that is wrong, which is counted: though nothing else be stored, and before anything is hashed.

    A right one is left to the write that uses it up.
    """

    async def count(user: User) -> Decision:
        judged, refusal = await _used(wiring, user, wish)
        return Decision(user) if refusal is None else Decision(judged, refusal=refusal)

    await change_user(wiring, dataclasses.replace(target, validate_only=False, once=None), permit, count)
