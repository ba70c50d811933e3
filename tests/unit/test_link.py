"""Signed links and where requests come from, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from msgspec.structs import replace as with_fields

from schema_user.api.peer import peer_address, peer_network
from schema_user.domain import code as codes
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.keyring import Keyring
from schema_user.domain.link import Link, Standing, sign, standing
from schema_user.domain.user import User, binding

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD = Keyring(["the old secret of the tests, long enough"])
ROTATED = Keyring(["the new secret of the tests, long enough", "the old secret of the tests, long enough"])
PLAIN = "ACDEFG"


def waiting(keyring: Keyring = OLD, plain: str = PLAIN) -> tuple[User, Link]:
    """Make a user whose address waits for a code, and the link to it."""
    user = User("u", "o", "s", 1, {}, NOW, NOW, contact=Contact(email=Address("m@example.com")))
    address = user.contact.email
    assert address is not None
    digest = codes.digest(keyring.code_keys[0], binding(user, Channel.EMAIL, address), plain)
    code = codes.Code(digest, NOW, NOW + timedelta(hours=1))
    user = with_fields(user, contact=Contact(email=structs.replace(address, codes=(code,))))
    return user, sign(keyring.link_keys[0], user, Channel.EMAIL, digest, plain)


def judged(link: Link, user: User | None, keyring: Keyring = OLD, now: datetime = NOW) -> Standing | None:
    """Judge a link, with five attempts."""
    keys = {"keys": keyring.link_keys, "code_keys": keyring.code_keys}
    return standing(link, user, **keys, now=now, attempts=5)


def verified(user: User) -> User:
    """The user with a verified address, of which no code is known."""
    return with_fields(user, contact=Contact(email=Address("m@example.com", is_verified=True)))


class TestStanding:
    def test_a_link_lives_with_its_code(self) -> None:
        """Open until the code expires, known for a week after that, then nothing."""
        user, link = waiting()
        assert judged(link, user) is Standing.OPEN
        assert judged(link, user, now=NOW + timedelta(hours=1)) is Standing.EXPIRED
        assert judged(link, user, now=NOW + timedelta(days=8)) is None

    def test_a_rotated_keyring_knows_the_links_of_before(self) -> None:
        """Every key is tried, for a pending address as for a verified one; without the old one the link is dead."""
        user, link = waiting()
        fresh = Keyring(["the new secret of the tests, long enough"])
        assert judged(link, user, ROTATED) is Standing.OPEN
        assert judged(link, verified(user), ROTATED) is Standing.VERIFIED
        assert judged(link, user, fresh) is None
        assert judged(link, verified(user), fresh) is None

    def test_the_code_in_a_link_only_fills_in_the_form(self) -> None:
        """With another code it opens all the same; but a verified address knows the link by nothing else."""
        user, link = waiting()
        other = replace(link, code="AAAAAA")
        assert judged(other, user) is Standing.OPEN
        assert judged(link, verified(user)) is Standing.VERIFIED
        assert judged(other, verified(user)) is None

    @pytest.mark.parametrize("part", ["user_id", "organization_id", "signature", "channel"])
    def test_each_part_is_signed(self, part: str) -> None:
        """Another user, organization or channel, even with the same address and codes, needs another signature."""
        user, link = waiting()
        changed: dict[str, Any] = {part: Channel.PHONE if part == "channel" else "other"}
        other = replace(link, **changed)
        twin = with_fields(user, user_id=other.user_id, organization_id=other.organization_id)
        assert judged(other, with_fields(twin, contact=structs.replace(user.contact, phone=user.contact.email))) is None

    def test_whoever_is_not_usable_has_no_links(self) -> None:
        """Inactive, locked, deleted, unknown, without an address, or with another one."""
        user, link = waiting()
        others = [with_fields(user, **{name: value}) for name, value in (("active", False), ("locked", True))]
        others += [with_fields(user, deleted=True), with_fields(user, contact=Contact())]
        others += [with_fields(user, contact=Contact(email=Address("other@example.com", is_verified=True)))]
        assert [judged(link, each) for each in (*others, None)] == [None] * 6

    def test_without_attempts_it_is_exhausted(self) -> None:
        """Whether the code has expired or not."""
        user, link = waiting()
        address = user.contact.email
        assert address is not None
        spent = with_fields(user, contact=Contact(email=structs.replace(address, failed=5)))
        assert judged(link, spent) is Standing.EXHAUSTED
        assert judged(link, spent, now=NOW + timedelta(days=1)) is Standing.EXHAUSTED

    def test_a_signature_that_is_no_ascii_is_only_wrong(self) -> None:
        """It comes from whoever made up the link."""
        user, link = waiting()
        assert judged(replace(link, signature="ä" * 16), user) is None


PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("client", "headers", "found"),
    [
        ("203.0.113.9", {}, "203.0.113.9"),
        ("203.0.113.9", {b"x-forwarded-for": b"198.51.100.1"}, "203.0.113.9"),
        ("10.0.0.1", {b"x-forwarded-for": b"198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {b"x-forwarded-for": b"1.1.1.1, 198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {b"x-forwarded-for": b"1.1.1.1, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"),
        ("10.0.0.1", {b"x-forwarded-for": b"10.0.0.3,10.0.0.2"}, "10.0.0.3"),
        ("10.0.0.1", {b"x-forwarded-for": b"198.51.100.1, unknown"}, "10.0.0.1"),
        ("10.0.0.1", {b"x-forwarded-for": b""}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b'for=1.1.1.1, for="198.51.100.1:80";proto=https'}, "198.51.100.1"),
        ("10.0.0.1", {b"forwarded": b'By=10.0.0.1; For="[2001:db8::1]:443"'}, "2001:db8::1"),
        ("10.0.0.1", {b"forwarded": b"for=_hidden"}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b"proto=https"}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b"for=1.1.1.1", b"x-forwarded-for": b"198.51.100.1"}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b"for=1.1.1.1", b"x-forwarded-for": b"1.1.1.1"}, "1.1.1.1"),
        ("::ffff:10.0.0.1", {b"x-forwarded-for": b"::ffff:198.51.100.1"}, "198.51.100.1"),
        ("fd00::1", {b"x-forwarded-for": b"198.51.100.1:4711"}, "198.51.100.1"),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(client: str, headers: dict[bytes, bytes], found: str) -> None:
    """From the right, as far as they go; what is no address, or is contradicted, ends it."""
    assert str(peer_address({"client": (client, 1)}, headers, PROXIES)) == found


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_customer_is_one_peer(client: str, counted: str) -> None:
    """An IPv6 customer has a network of addresses."""
    none: tuple[IPv4Network | IPv6Network, ...] = ()
    assert peer_network({"client": (client, 1)}, {}, none) == counted


def test_a_peer_without_an_address_is_counted_too() -> None:
    """All who come over a socket without addresses share one count."""
    assert peer_network({"client": None}, {}, ()) == "None"
