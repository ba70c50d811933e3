from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schema_user.domain import code as codes
from schema_user.domain import contact
from schema_user.domain.contact import (
    Address,
    Channel,
    Contact,
    IsVerified,
    Placed,
    Resend,
    SetAddress,
    Verdict,
    country_of,
    is_country,
    issue,
    masked,
    normalise_email,
    normalise_phone,
    number_prefix,
    place,
    resend_pause,
    resends_spent,
    verify,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Minnie@Example.COM", "Minnie@example.com"),
        ("m@bücher.example", "m@xn--bcher-kva.example"),
        ("m@localhost", "m@localhost"),
        ("a+b@corp.local", "a+b@corp.local"),
        ("Minnie <m@example.com>", None),
        ("m@example.com\n", None),
        ("m@exa mple.com", None),
        ("@example.com", None),
        ("m@", None),
        ("m", None),
        ("m@example.com, n@example.com", None),
        ("m\x00@example.com", None),
    ],
    ids=repr,
)
def test_email_addresses_are_normalised_or_none(text: str, normal: str | None) -> None:
    """The domain becomes lower-case IDNA, the local part stays as it is."""
    assert normalise_email(text) == normal


@pytest.mark.parametrize(
    ("text", "region", "normal"),
    [
        ("+41 79 123 45 67", None, "+41791234567"),
        ("079 123 45 67", "CH", "+41791234567"),
        ("079 123 45 67", None, None),
        ("+1 (555) 555-0100", None, "+15555550100"),
        ("+41791234567 ext. 5", None, None),
        ("+999123", None, None),
        ("call me", "CH", None),
        ("+", None, None),
    ],
    ids=repr,
)
def test_phone_numbers_are_normalised_or_none(text: str, region: str | None, normal: str | None) -> None:
    """E.164; without a region only a number with its country code is one."""
    assert normalise_phone(text, region) == normal


def test_an_equal_address_keeps_what_it_has() -> None:
    """Codes and state stay, except that it can be vouched for."""
    wish = SetAddress(Channel.EMAIL, "a@example.com")
    known = Address("a@example.com", codes=(codes.Code(b"x", NOW, NOW + HOUR),))
    assert place(known, wish) == (known, Placed.UNCHANGED)
    vouched = structs.replace(wish, verification=IsVerified())
    assert place(known, vouched) == (Address("a@example.com", is_verified=True), Placed.VERIFIED)
    assert place(Address("b@example.com", is_verified=True), wish) == (Address("a@example.com"), Placed.REPLACED)


def judged(
    address: Address | None, given: bytes, now: datetime = NOW, attempts: int = 5
) -> tuple[Address | None, Verdict]:
    """Judge a code that has this digest."""
    return verify(address, lambda _: [given], now, attempts)


def test_the_verdicts_follow_the_life_of_a_code() -> None:
    """Not pending, wrong, verified, expired, forgotten, exhausted."""
    assert judged(None, b"x") == (None, Verdict.NOT_PENDING)
    assert judged(Address("a"), b"x")[1] is Verdict.NOT_PENDING
    address = issue(Address("a"), codes.Code(b"x", NOW, NOW + HOUR), NOW)
    assert judged(address, b"x") == (Address("a", is_verified=True), Verdict.VERIFIED)
    wrong, verdict = judged(address, b"y")
    assert (verdict, wrong and wrong.failed) == (Verdict.WRONG, 1)
    assert judged(address, b"x", NOW + HOUR) == (address, Verdict.EXPIRED)
    assert judged(address, b"x", NOW + HOUR + codes.RECOGNISED_TTL)[1] is Verdict.NOT_PENDING
    assert judged(structs.replace(address, failed=5), b"x")[1] is Verdict.EXHAUSTED
    assert judged(Address("a", is_verified=True), b"y")[1] is Verdict.ALREADY_VERIFIED


def test_a_second_code_leaves_the_first_alive_and_a_third_does_not() -> None:
    """At most two live codes; a new one renews the attempts; expired ones are remembered."""
    address = Address("a", failed=4)
    for number in range(3):
        address = issue(address, codes.Code(bytes([number]), NOW, NOW + HOUR), NOW)
    assert [code.digest for code in address.codes] == [b"\x01", b"\x02"]
    assert address.failed == 0
    later = issue(address, codes.Code(b"\x03", NOW + 2 * HOUR, NOW + 3 * HOUR), NOW + 2 * HOUR)
    assert [code.digest for code in later.codes] == [b"\x01", b"\x02", b"\x03"]


def test_a_code_follows_another_after_a_pause() -> None:
    """Counted from the last code of the address, whatever became of it; a clock set far back does not add to it."""
    pause = timedelta(seconds=30)
    address = issue(Address("a"), codes.Code(b"x", NOW, NOW + HOUR), NOW)
    contact = Contact(email=address).without_codes()
    assert contact.email == Address("a", coded_at=NOW)
    for after, left in ((0, 30), (29, 1), (30, 0), (-5, 35), (-30, 0)):
        now = NOW + timedelta(seconds=after)
        assert resend_pause(contact, Channel.EMAIL, now, pause) == timedelta(seconds=left)
    assert not resend_pause(contact, Channel.PHONE, NOW, pause)
    assert not resend_pause(Contact(email=Address("a")), Channel.EMAIL, NOW, pause)


def test_resends_are_counted_over_any_24_hours() -> None:
    """For each channel; the oldest makes room as it turns 24 hours old, and is forgotten then."""
    day, contact = timedelta(days=1), Contact(phone=Address("+1"))
    for hours in (0, 1, 2):
        contact = contact.resent(Channel.EMAIL, NOW + hours * HOUR)
    contact = contact.resent(Channel.PHONE, NOW + 2 * HOUR)
    now = NOW + 3 * HOUR
    assert resends_spent(contact, Channel.EMAIL, now, 3) == NOW + day - now
    assert resends_spent(contact, Channel.EMAIL, now, 2) == NOW + HOUR + day - now
    assert not resends_spent(contact, Channel.EMAIL, now, 4)
    assert not resends_spent(contact, Channel.EMAIL, NOW + day, 3)
    assert resends_spent(contact, Channel.EMAIL, NOW + day, 2) == HOUR
    assert not resends_spent(contact, Channel.PHONE, now, 2)
    later = contact.resent(Channel.EMAIL, NOW + day + HOUR)
    assert [each.at for each in later.resends] == [NOW + 2 * HOUR, NOW + 2 * HOUR, NOW + day + HOUR]
    assert later.without_codes().resends == later.put(Channel.EMAIL, None).resends == later.resends
    assert later.resends[1] == Resend(Channel.PHONE, NOW + 2 * HOUR)


def test_a_week_of_codes_is_recognised() -> None:
    """As many as are made by eleven a day: each is still told from a wrong one when it is expired."""
    address, gap = Address("a"), timedelta(days=1) / 11
    for number in range(76):
        now = NOW + number * gap
        address = issue(address, codes.Code(bytes([number]), now, now + HOUR), now)
    later = NOW + 75 * gap + HOUR
    assert {judged(address, bytes([number]), later)[1] for number in range(76)} == {Verdict.EXPIRED}


@pytest.mark.parametrize(
    ("number", "country", "prefix"),
    [
        ("+41791234567", "CH", "+4179123"),
        ("+12025550123", "US", "+1202555"),
        ("+14165550123", "CA", "+1416555"),
        ("+18765550123", "JM", "+1876555"),
        ("+80012345678", "001", "+8001234"),
        ("+15555550100", None, "+1555555"),
    ],
)
def test_numbers_have_a_country_and_a_prefix(number: str, country: str | None, prefix: str) -> None:
    """Of countries that share a code each has its own; a prefix is what 10,000 numbers share."""
    assert (country_of(number), number_prefix(number)) == (country, prefix)
    assert country is None or is_country(country) is country.isalpha()


def test_digests_are_bound_to_everything() -> None:
    """Another organization, user, channel, address or key gives another digest; case and white space do not."""
    binding = codes.Binding("o", "u", "email", "a@example.com")
    one = codes.digest(b"k", binding, "ABCDEF")
    assert codes.digest(b"k", binding, " abcdef ") == one
    others = [
        replace(binding, organization_id="p"),
        replace(binding, user_id="v"),
        replace(binding, channel="phone"),
        replace(binding, address="b@example.com"),
        codes.Binding("ou", "", "email", "a@example.com"),
    ]
    assert one not in {codes.digest(b"k", other, "ABCDEF") for other in others}
    assert codes.digest(b"l", binding, "ABCDEF") != one


def test_codes_are_drawn_from_characters_that_do_not_look_alike() -> None:
    """As many as asked for, each by one choice."""
    assert codes.draw(8, lambda alphabet: alphabet[0]) == "A" * 8
    assert not set("0O1IL2Z5S8B") & set(codes.ALPHABET)
    assert len(set(codes.ALPHABET)) == len(codes.ALPHABET) == 25


def test_masks_show_enough_and_no_more() -> None:
    """The owner recognises the address, others learn little."""
    assert masked(Channel.EMAIL, "minnie@example.com") == "m••••@example.com"
    assert masked(Channel.PHONE, "+41791234567") == "+41••••67"


_LABELS = st.sampled_from(["a", "A-b", "a--b", "xn--a", "-a", "a-", "9", "com", "local", "test", "x" * 63, "x" * 64])


@given(
    st.text("aZ9.+_-", max_size=66), st.lists(_LABELS, min_size=1, max_size=5).map(".".join), st.sampled_from(["@", ""])
)
def test_plain_addresses_are_what_the_library_says(local: str, domain: str, at: str) -> None:
    """The short way for plain addresses answers as the long way does."""
    text = f"{local or 'a'}{at}{domain}"
    plain = contact._PLAIN_ADDRESS.fullmatch(text)
    if plain is not None:
        found = validate_email(text, check_deliverability=False, globally_deliverable=False)
        assert normalise_email(text) == f"{found.local_part}@{(found.ascii_domain or '').lower()}"
