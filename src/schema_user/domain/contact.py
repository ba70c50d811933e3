"""The contact of a user: one path for both channels, email and phone."""

from __future__ import annotations

import enum
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import email_validator
import msgspec
import phonenumbers
from email_validator import EmailNotValidError, validate_email
from msgspec.structs import replace

from schema_user.domain import code as codes
from schema_user.domain.code import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# Names such as .local and localhost are real inside an organization; the library lets an application say so here.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


DAY: Final = timedelta(days=1)
ENCODED_WORD: Final = "=?"
"""How mail begins what is encoded in a header (RFC 2047). Decoded, it can be anything, such as a line break."""

_SUBSCRIBER_DIGITS: Final = 4
_PLAIN_ADDRESS: Final = re.compile(
    r"(?=[^@]{1,64}@.{1,180}\Z)([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)"
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-)){0,61}(?<!-)\.)+[A-Za-z]{2,63})"
)
"""Addresses such as most people have: the library takes them as they are, but for 30 µs, a fifth of an update."""


def read_phone_tables() -> None:
    """Read what is known of the numbers of every country: 64 ms, instead of up to 6 ms at the first number of each."""
    phonenumbers.PhoneMetadata.load_all()


class Channel(enum.StrEnum):
    """How a person is reached."""

    EMAIL = "email"
    PHONE = "phone"


class Address(msgspec.Struct, frozen=True):
    """One address of a user on one channel.

    ``value`` is normalised, ``codes`` are the issued ones from old to new, ``failed`` counts the wrong attempts since
    the last code was issued, which was at ``coded_at``, whether that code is alive or not.
    """

    value: str
    is_verified: bool = False
    codes: tuple[Code, ...] = ()
    failed: int = 0
    coded_at: datetime | None = None


class Resend(msgspec.Struct, frozen=True):
    """A code was asked for again."""

    channel: Channel
    at: datetime


class Contact(msgspec.Struct, frozen=True):
    """Where a user can be reached.

    ``resends`` are those of the last 24 hours; they count against the channel, whatever address it had.
    """

    email: Address | None = None
    phone: Address | None = None
    resends: tuple[Resend, ...] = ()

    def on(self, channel: Channel) -> Address | None:
        """Give the address of a channel, if there is one."""
        return self.email if channel is Channel.EMAIL else self.phone

    def put(self, channel: Channel, address: Address | None) -> Contact:
        """Give the contact with another address on a channel."""
        return replace(self, email=address) if channel is Channel.EMAIL else replace(self, phone=address)

    def without_codes(self) -> Contact:
        """Give the contact with every code dead, as a user who is no longer active has it."""
        return replace(self, email=_codeless(self.email), phone=_codeless(self.phone))

    def resent(self, channel: Channel, now: datetime) -> Contact:
        """Give the contact with one more resend, and without those that no longer count."""
        counting = tuple(each for each in self.resends if within(DAY, each.at, now))
        return replace(self, resends=(*counting, Resend(channel, now)))


def _codeless(address: Address | None) -> Address | None:
    return replace(address, codes=(), failed=0) if address is not None and address.codes else address


class SendCode(msgspec.Struct, frozen=True):
    """The code goes to the address; ``url_template`` is where the message's link leads."""

    url_template: str | None = None


class ReturnCode(msgspec.Struct, frozen=True):
    """The code goes back to the caller, who delivers it."""


class IsVerified(msgspec.Struct, frozen=True):
    """The caller vouches for the address; no code is needed."""


class Unverified(msgspec.Struct, frozen=True):
    """Nobody vouches for the address, and no code is made until one is asked for."""


Verification = SendCode | ReturnCode | IsVerified | Unverified


class SetAddress(msgspec.Struct, frozen=True):
    """The wish to put a (normalised) address on a channel; without ``verification`` a code is sent."""

    channel: Channel
    value: str
    verification: Verification | None = None


class Placed(enum.Enum):
    """What became of a wish to set an address."""

    UNCHANGED = enum.auto()
    VERIFIED = enum.auto()
    REPLACED = enum.auto()


def normalise_email(text: str) -> str | None:
    """Normalise an email address: the domain becomes lower-case IDNA, the local part is kept. None: not an address."""
    if ENCODED_WORD in text:
        return None
    if (plain := _PLAIN_ADDRESS.fullmatch(text)) is not None:
        return f"{plain[1]}@{plain[2].lower()}"
    try:
        found = validate_email(text, check_deliverability=False, globally_deliverable=False)
    except (EmailNotValidError, UnicodeError):
        return None
    return f"{found.local_part}@{(found.ascii_domain or found.domain).lower()}"


def normalise_phone(text: str, region: str | None) -> str | None:
    """Normalise a phone number to E.164; without a default region it must begin with ``+``. None: not a number."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number) or number.extension:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def country_of(number: str) -> str | None:
    """Give the ISO 3166-1 region that a number in E.164 belongs to; None for one that is nowhere in use."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number))


def is_country(region: str) -> bool:
    """Whether there are phone numbers of a region."""
    return region in phonenumbers.SUPPORTED_REGIONS


def number_prefix(number: str) -> str:
    """Give what a number in E.164 shares with the 10,000 of its block, which one subscriber of an operator can hold."""
    return number[:-_SUBSCRIBER_DIGITS]


def place(current: Address | None, wish: SetAddress) -> tuple[Address, Placed]:
    """Put an address in the place of another; equal ones keep their codes and their state, except to be verified."""
    vouched = isinstance(wish.verification, IsVerified)
    if current is not None and current.value == wish.value:
        if vouched and not current.is_verified:
            return Address(wish.value, is_verified=True), Placed.VERIFIED
        return current, Placed.UNCHANGED
    return Address(wish.value, is_verified=vouched), Placed.REPLACED


def issue(address: Address, new: Code, now: datetime) -> Address:
    """Give the address a new code and a fresh budget of attempts."""
    return replace(address, codes=codes.add(address.codes, new, now), failed=0, coded_at=now)


def resend_pause(contact: Contact, channel: Channel, now: datetime, pause: timedelta) -> timedelta:
    """Give how long it is until a code may follow the address's last one, if that takes ``pause``; 0: it may now."""
    address = contact.on(channel)
    if address is None or address.coded_at is None or not within(pause, address.coded_at, now):
        return timedelta(0)
    return address.coded_at + pause - now


def resends_spent(contact: Contact, channel: Channel, now: datetime, per_day: int) -> timedelta:
    """Give how long it is until a channel has fewer than ``per_day`` resends in 24 hours; 0: it has now."""
    at = sorted(each.at for each in contact.resends if each.channel is channel and within(DAY, each.at, now))
    return at[-per_day] + DAY - now if len(at) >= per_day else timedelta(0)


def within(span: timedelta, at: datetime, now: datetime) -> bool:
    """Whether a time is less than a span away.

    Another process may be a little ahead; what is further ahead tells of a clock that was set back, and would
    otherwise forbid for as long as that.
    """
    return abs(now - at) < span


class Verdict(enum.Enum):
    """What a returned code is worth."""

    VERIFIED = enum.auto()
    ALREADY_VERIFIED = enum.auto()
    NOT_PENDING = enum.auto()
    EXHAUSTED = enum.auto()
    EXPIRED = enum.auto()
    WRONG = enum.auto()


def verify(
    address: Address | None, candidates: Callable[[Address], Iterable[bytes]], now: datetime, attempts: int
) -> tuple[Address | None, Verdict]:
    """Judge a returned code; the address comes back as it must be stored before anything is answered.

    ``candidates`` gives the digests of the returned code for an address, one for each key that is still valid. A
    wrong code, once stored, has used up one of ``attempts``.
    """
    if address is None:
        return None, Verdict.NOT_PENDING
    if address.is_verified:
        return address, Verdict.ALREADY_VERIFIED
    known = codes.recognised(address.codes, now)
    if not known:
        return address, Verdict.NOT_PENDING
    if address.failed >= attempts:
        return address, Verdict.EXHAUSTED
    found = codes.find(known, candidates(address))
    if found is None:
        return replace(address, failed=address.failed + 1), Verdict.WRONG
    if found.expires_at <= now:
        return address, Verdict.EXPIRED
    return Address(address.value, is_verified=True), Verdict.VERIFIED


def masked(channel: Channel, value: str) -> str:
    """Show enough of an address to be recognised by its owner: ``m••••@example.com``, ``+41••••67``."""
    if channel is Channel.EMAIL:
        local, _, domain = value.rpartition("@")
        return f"{local[:1]}••••@{domain}"
    return f"{value[:3]}••••{value[-2:]}"
