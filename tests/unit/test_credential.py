"""What is known of a user's password: counted tries, the lock, codes for a new one; and messages that bring them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs

from schema_user.delivery.worker import is_dead
from schema_user.domain import code as codes
from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact, Verdict
from schema_user.domain.credential import Credential, Reset, first, reset_binding, reset_bindings, reset_digests
from schema_user.domain.history import changes, snapshot, undo
from schema_user.domain.link import Standing, reset_standing, sign
from schema_user.domain.message import PASSWORD_RESET, Message
from schema_user.domain.user import Transition, User, advanced, erased, moved

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SPAN, HOUR = timedelta(minutes=15), timedelta(hours=1)
TRIES, KEY = 3, b"k" * 32
CONTACT = Contact(Address("m@example.com", is_verified=True), Address("+41791234567"))


def user_with(credential: Credential | None) -> User:
    """Give a user."""
    return User("1", "org", "schema", 1, {}, NOW, NOW, contact=CONTACT, credential=credential)


def issued(channel: Channel | None = None, address: str = "") -> tuple[Reset, Code]:
    """Give what is known of a code that was just made."""
    digest = codes.digest(KEY, reset_binding("org", "1", channel, address), "ACDEFG")
    new = Code(digest, NOW, NOW + HOUR)
    return Reset().issued(new, NOW), new


class TestTries:
    def test_the_last_one_locks_and_the_first_after_that_begins_anew(self) -> None:
        """Until the time is over nothing is compared; then there is a whole round again."""
        credential = Credential("hash")
        for number in (1, 2, 3):
            assert not credential.locked_for(NOW, SPAN)
            credential = credential.counted(NOW, TRIES, SPAN)
            assert credential.failed == number
        assert credential.locked_for(NOW, SPAN) == SPAN
        assert credential.locked_for(NOW + SPAN / 3, SPAN) == SPAN * 2 / 3
        assert not credential.locked_for(NOW + SPAN, SPAN)
        again = credential.counted(NOW + SPAN, TRIES, SPAN)
        assert (again.failed, again.locked_until) == (1, None)
        assert credential.proven() == Credential("hash")
        assert credential.with_password("other", NOW, change_required=True).failed == 0

    def test_a_clock_that_was_set_back_locks_nobody_for_long(self) -> None:
        """What lies further ahead than a lock lasts is none."""
        locked = Credential("hash", failed=3, locked_until=NOW + timedelta(days=365))
        assert not locked.locked_for(NOW, SPAN)

    def test_what_was_never_compared_is_taken_back(self) -> None:
        """With the lock that it brought, and never below nothing."""
        locked = Credential("hash", failed=2).counted(NOW, TRIES, SPAN)
        assert locked.uncounted(TRIES) == Credential("hash", failed=2)
        assert Credential("hash").uncounted(TRIES) == Credential("hash")

    def test_the_hash_is_not_shown(self) -> None:
        """Not by what a log would write of it."""
        assert "secret hash" not in repr(first("secret hash", NOW, change_required=False))
        assert "secret hash" not in repr(user_with(first("secret hash", NOW, change_required=False)))


class TestResetCodes:
    def test_a_code_is_good_for_what_it_was_made_for(self) -> None:
        """Another user, organization, address, or one that is not verified: it is wrong."""
        reset, _ = issued(Channel.EMAIL, "m@example.com")
        others = (
            ("org", "1", Contact(Address("m@example.com"))),
            ("org", "1", Contact(Address("n@example.com", is_verified=True))),
            ("org", "2", CONTACT),
            ("other", "1", CONTACT),
        )
        for organization_id, user_id, contact in others:
            digests = reset_digests([KEY], reset_bindings(organization_id, user_id, contact), "ACDEFG")
            after, verdict = reset.judged(digests, NOW, 5)
            assert (verdict, after.failed) == (Verdict.WRONG, 1)
        digests = reset_digests([b"new", KEY], reset_bindings("org", "1", CONTACT), "acdefg")
        assert reset.judged(digests, NOW, 5) == (Reset(asked=(NOW,)), Verdict.VERIFIED)
        assert reset.judged(digests, NOW + HOUR, 5)[1] is Verdict.EXPIRED
        spent = dataclasses.replace(reset, failed=5)
        assert spent.judged(digests, NOW, 5) == (spent, Verdict.EXHAUSTED)

    def test_at_most_two_are_good(self) -> None:
        """The one before stays; older ones are dead."""
        reset = Reset()
        for number in range(3):
            reset = reset.issued(Code(bytes([number]), NOW, NOW + HOUR), NOW)
        assert [each.digest for each in reset.codes] == [b"\x01", b"\x02"]

    def test_how_often_they_are_asked_for(self) -> None:
        """A pause after each, so many a day; what was long ago does not count."""
        reset, _ = issued()
        assert reset.pause(NOW + timedelta(seconds=10), timedelta(seconds=30)) == timedelta(seconds=20)
        assert not reset.pause(NOW + timedelta(seconds=30), timedelta(seconds=30))
        assert reset.spent(NOW + HOUR, 1) == timedelta(hours=23)
        assert not reset.spent(NOW + timedelta(days=1), 1)
        assert not reset.spent(NOW, 2)

    def test_they_die_with_any_address_and_with_the_state(self) -> None:
        """That one is verified, or data changes, leaves them alone."""
        reset, _ = issued()
        before = user_with(Credential("hash", generation=1, reset=reset))
        email, phone = before.contact.email, before.contact.phone
        assert email
        assert phone
        verified = before.contact.put(Channel.PHONE, structs.replace(phone, is_verified=True))
        for contact, alive in (
            (before.contact.put(Channel.PHONE, None), False),
            (before.contact.put(Channel.EMAIL, structs.replace(email, value="n@example.com")), False),
            (verified, True),
        ):
            after = advanced(before, structs.replace(before, contact=contact), NOW)
            assert after
            assert after.credential
            assert bool(after.credential.reset.codes) is alive
        locked = moved(before, Transition.LOCK)
        assert locked
        assert locked.credential == Credential("hash", generation=1, reset=Reset(asked=(NOW,)))
        assert erased(before).credential is None

    def test_tries_and_codes_are_seen_by_nobody(self) -> None:
        """They raise the version only; a new password raises the sequence, and its history has no values."""
        before = user_with(first("one", NOW, change_required=False))
        assert before.credential
        counted = advanced(before, structs.replace(before, credential=before.credential.counted(NOW, 9, SPAN)), NOW)
        assert counted
        assert (counted.sequence, counted.version) == (1, 2)
        other = before.credential.with_password("two", NOW, change_required=False)
        after = advanced(before, structs.replace(before, credential=other), NOW)
        assert after
        assert after.sequence == 2
        assert changes(before, after) == [{"pointer": "/password"}]
        assert undo(snapshot(after), changes(before, after)) == snapshot(before)


class TestMessagesAndLinks:
    def test_a_message_dies_with_its_code(self) -> None:
        """And with its user's state, its address, or its time."""
        reset, new = issued(Channel.EMAIL, "m@example.com")
        user = user_with(Credential(reset=reset))
        message = Message(
            "1:a",
            PASSWORD_RESET,
            Channel.EMAIL,
            "1",
            "org",
            "m@example.com",
            NOW,
            code="ACDEFG",
            code_digest=new.digest,
            expires_at=NOW + HOUR,
        )
        assert not is_dead(message, user, NOW)
        assert is_dead(message, user_with(None), NOW)
        assert is_dead(message, user_with(Credential(reset=reset.without_codes())), NOW)
        assert is_dead(message, user, NOW + HOUR)
        assert is_dead(message, structs.replace(user, contact=Contact()), NOW)
        assert is_dead(message, structs.replace(user, locked=True), NOW)

    def test_a_link_is_good_as_long_as_its_code_is_known(self) -> None:
        """For this user, this purpose and this code only."""
        reset, new = issued(Channel.EMAIL, "m@example.com")
        user = user_with(Credential(reset=reset))
        link = sign(KEY, user, None, new.digest, "ACDEFG")
        assert link.url("https://users.example.com").startswith("https://users.example.com/ui/password/reset?userID=1&")

        def judged(who: User | None, **other: Any) -> Standing | None:
            given = dataclasses.replace(link, **other)
            return reset_standing(given, who, keys=[b"new", KEY], now=NOW, attempts=5)

        assert judged(user) is Standing.OPEN
        assert judged(user, code="other") is Standing.OPEN  # the signature is of the code that was made
        assert judged(user_with(Credential(reset=dataclasses.replace(reset, failed=5)))) is Standing.EXHAUSTED
        for who in (None, user_with(None), structs.replace(user, locked=True)):
            assert judged(who) is None
        assert judged(user, user_id="2") is None
        assert judged(user, organization_id="other") is None
        assert judged(user, signature=sign(KEY, user, Channel.EMAIL, new.digest, "ACDEFG").signature) is None
        late = reset_standing(link, user, keys=[KEY], now=NOW + HOUR, attempts=5)
        assert late is Standing.EXPIRED
