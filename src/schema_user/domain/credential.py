"""What a user proves with that it is the user: the hash of its password, the tries, and codes for a new password."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from schema_user.domain import code as codes
from schema_user.domain.code import Binding, Code
from schema_user.domain.contact import DAY, Address, Channel, Verdict, verify, within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_user.domain.contact import Contact

RESET: Final = "password"
"""Names what a reset code is good for where an address has the name of its channel."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The codes with which a new password can be set, from old to new.

    ``failed`` counts the wrong attempts since the last of them was made, ``asked`` holds when codes were asked for, in
    the last 24 hours, over whatever channel.
    """

    codes: tuple[Code, ...] = ()
    failed: int = 0
    asked: tuple[datetime, ...] = ()

    def pause(self, now: datetime, span: timedelta) -> timedelta:
        """Give how long it is until another code may be asked for, if that takes ``span``; 0: it may now."""
        return max((at + span - now for at in self.asked if within(span, at, now)), default=timedelta(0))

    def spent(self, now: datetime, per_day: int) -> timedelta:
        """Give how long it is until fewer than ``per_day`` codes were asked for in 24 hours; 0: they are now."""
        at = sorted(each for each in self.asked if within(DAY, each, now))
        return at[-per_day] + DAY - now if len(at) >= per_day else timedelta(0)

    def issued(self, new: Code, now: datetime) -> Reset:
        """Add a code, with a fresh budget of attempts; the one before stays good until its own expiry."""
        counting = tuple(each for each in self.asked if within(DAY, each, now))
        return Reset(codes.add(self.codes, new, now), 0, (*counting, now))

    def judged(self, candidates: Iterable[bytes], now: datetime, attempts: int) -> tuple[Reset, Verdict]:
        """Judge a returned code, as ``contact.verify()`` does; none is left of those that a right one belonged to."""
        # Judged as those of an address are; this one stands for it.
        known = Address("", codes=self.codes, failed=self.failed)
        judged, verdict = verify(known, lambda _: candidates, now, attempts)
        if judged is None or verdict is Verdict.VERIFIED:
            return self.without_codes(), verdict
        return replace(self, failed=judged.failed), verdict

    def without_codes(self) -> Reset:
        """Give it with every code dead."""
        return Reset(asked=self.asked)


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's password, if it has one, as far as it is known: by its hash in Modular Crypt Format.

    ``generation`` counts how often one was set, which a hash that is only made anew is not. ``failed`` counts the
    comparisons since the last right one, those that are under way included; after too many nothing is compared before
    ``locked_until``.
    """

    encoded: str | None = field(default=None, repr=False)
    change_required: bool = False
    set_at: datetime | None = None
    generation: int = 0
    failed: int = 0
    locked_until: datetime | None = None
    reset: Reset = Reset()

    def with_password(self, encoded: str, now: datetime, *, change_required: bool) -> Credential:
        """Set a password: what was counted of the one before is over, and every code for a new one is dead."""
        return Credential(encoded, change_required, now, self.generation + 1, reset=self.reset.without_codes())

    def locked_for(self, now: datetime, span: timedelta) -> timedelta:
        """Give how long nothing is compared yet; 0: it is. Never longer than ``span``, whatever clocks were set to."""
        if self.locked_until is None or not now < self.locked_until <= now + span:
            return timedelta(0)
        return self.locked_until - now

    def counted(self, now: datetime, tries: int, span: timedelta) -> Credential:
        """Count a comparison that is about to be made, while none is locked; the last of ``tries`` locks."""
        failed = 1 if self.locked_until is not None else self.failed + 1
        return replace(self, failed=failed, locked_until=now + span if failed >= tries else None)

    def uncounted(self, tries: int) -> Credential:
        """Take a comparison back that was counted and never made."""
        failed = max(0, self.failed - 1)
        return replace(self, failed=failed, locked_until=self.locked_until if failed >= tries else None)

    def proven(self, renewed: str | None = None) -> Credential:
        """Note that the password was right, and perhaps a newer hash of it."""
        return replace(self, encoded=renewed or self.encoded, failed=0, locked_until=None)

    def without_codes(self) -> Credential:
        """Give it with every code for a new password dead."""
        return replace(self, reset=self.reset.without_codes()) if self.reset.codes else self


def first(encoded: str, now: datetime, *, change_required: bool) -> Credential:
    """Give what a user has of whom a password is known from the beginning."""
    return Credential().with_password(encoded, now, change_required=change_required)


def reset_binding(organization_id: str, user_id: str, channel: Channel | None, address: str) -> Binding:
    """Say what a reset code is good for: it is worth nothing once it is another address; None: it was given back."""
    return Binding(organization_id, user_id, RESET if channel is None else f"{RESET} {channel}", address)


def reset_bindings(organization_id: str, user_id: str, contact: Contact) -> list[Binding]:
    """List what the reset codes of a user may be good for."""
    found = [reset_binding(organization_id, user_id, None, "")]
    for channel in Channel:
        address = contact.on(channel)
        if address is not None and address.is_verified:
            found.append(reset_binding(organization_id, user_id, channel, address.value))
    return found


def reset_digests(keys: Iterable[bytes], bindings: Iterable[Binding], code: str) -> list[bytes]:
    """Give the digests that a returned code may have, one for each key and binding."""
    bindings = tuple(bindings)
    return [codes.digest(key, bound, code) for key in keys for bound in bindings]
