"""Verification by any sequence of requests, against a small model of what the contract promises.

All but the model is real: the commands, the store, a database. The clock is moved by hand.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schema_user.commands.contacts import ResendCode, VerifyContact, resend_code, verify_contact
from schema_user.commands.users import UpdateUser, move_user, update_user
from schema_user.delivery.worker import is_dead
from schema_user.domain.contact import Channel, ReturnCode, SendCode
from schema_user.domain.user import Transition
from tests.conftest import fresh_uri, prepared, settings_for
from tests.property.verification_asking import WAYS, Asking, Stage
from tests.property.verification_model import (
    ATTEMPTS,
    DAY,
    LIVE,
    RECOGNISED,
    SECOND,
    TICK,
    TIGHT,
    TTL,
    Caps,
    Line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


CHANNELS = st.sampled_from(list(Channel))


@pytest.fixture(scope="module")
def stage(mongod_uri: str) -> Iterator[Stage]:
    """Prepare one database for all examples: each has an organization, a user and addresses of its own."""
    with asyncio.Runner() as runner:
        opened = prepared(settings_for(fresh_uri(mongod_uri), code_attempts=ATTEMPTS))
        yield Stage(runner, runner.run(opened.__aenter__()).wiring)
        runner.run(opened.__aexit__(None, None, None))


class VerificationMachine(Asking):
    """Requests about one user, in any order."""

    @initialize()
    def create(self) -> None:
        """Make the user, and let it have codes."""
        self.make_user()
        self.begin_anew("returnCode")

    @rule(channel=CHANNELS, which=st.integers(0, 2), way=st.sampled_from(list(WAYS)))
    def set_address(self, channel: Channel, which: int, way: str) -> None:
        """Set an address, the present one or another."""
        line, value = self.model.lines[channel], self.address(channel, which)
        outcome = self.ask(update_user, UpdateUser(wishes=(self.wish(channel, which, way),)))
        if not self.model.usable and way in {"sendCode", "returnCode"}:
            self.expect(outcome, "USER_NOT_ACTIVE")
            return
        vouched = way == "isVerified"
        sends = self.model.usable and value != line.address and way in {"sendCode", "nothing"}
        if sends and (full := self.model.full(channel, value)):
            self.expect_capped(self.expect(outcome, "CODE_MESSAGE_LIMIT"), full)
            return
        decision = self.expect(outcome, "ok")
        if value == line.address:
            self.expect_no_code(decision)
            self.expect_told(decision, None)
            if vouched and not line.verified:
                line.put(value, verified=True)
                self.model.sequence += 1
            return
        old = line.address if line.verified else None
        line.put(value, verified=vouched)
        self.model.sequence += 1
        self.expect_told(decision, old)
        if self.model.usable and not vouched:
            self.expect_code(decision, channel, returned=way == "returnCode")
        else:
            self.expect_no_code(decision)

    @rule(channel=CHANNELS, rarely=st.integers(0, 3))
    def remove_now_and_then(self, channel: Channel, rarely: int) -> None:
        """Remove an address, less often than it is asked for codes."""
        if rarely == 0:
            self.remove(channel)

    def remove(self, channel: Channel) -> None:
        """Remove the address."""
        line = self.model.lines[channel]
        decision = self.expect(self.ask(update_user, UpdateUser(remove=frozenset({channel}))), "ok")
        self.expect_no_code(decision)
        self.expect_told(decision, line.address if line.verified else None)
        if line.address is not None:
            line.put(None, verified=False)
            self.model.sequence += 1

    @rule(channel=CHANNELS, returned=st.booleans())
    def resend(self, channel: Channel, returned: bool) -> None:
        """Ask for another code."""
        line, caps, now = self.model.lines[channel], self.model.caps, self.model.now
        outcome = self.ask(resend_code, ResendCode(channel, ReturnCode() if returned else SendCode()))
        if line.address is None:
            self.expect(outcome, "CONTACT_MISSING")
        elif line.verified:
            self.expect(outcome, "ALREADY_VERIFIED")
        elif not self.model.usable:
            self.expect(outcome, "USER_NOT_ACTIVE")
        elif line.too_often(caps, now) and not (line.too_soon(caps, now) and outcome[0] == "RESEND_TOO_SOON"):
            counting = sorted(each for each in line.resends if now < each + DAY)
            self.expect_wait(self.expect(outcome, "RESEND_LIMIT"), counting[-caps.resends] + DAY)
        elif line.too_soon(caps, now):
            assert line.coded_at is not None
            self.expect_wait(self.expect(outcome, "RESEND_TOO_SOON"), line.coded_at + caps.resend_after)
        elif not returned and (full := self.model.full(channel, line.address)):
            self.expect_capped(self.expect(outcome, "CODE_MESSAGE_LIMIT"), full)
        else:
            decision = self.expect(outcome, "ok")
            line.resends.append(now)
            self.expect_told(decision, None)
            self.expect_code(decision, channel, returned=returned)

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), times=st.integers(2, 8), returned=st.booleans(), expired=st.booleans())
    def resend_again_and_again(self, data: st.DataObject, times: int, returned: bool, expired: bool) -> None:
        """Ask for a code as soon as one may, or when the one before has just expired."""
        channel = data.draw(st.sampled_from(self.pending), label="line").channel
        for _ in range(times):
            self.model.now += TTL[channel] if expired else self.model.caps.resend_after
            self.resend(channel, returned=returned)

    def verify(self, channel: Channel, text: str) -> None:
        """Give a code back."""
        line = self.model.lines[channel]
        reason, left = line.answer(text, self.model.now)
        found = self.expect(
            self.ask(verify_contact, VerifyContact(channel, text)),
            "ok" if reason in {"verified", "unchanged"} else reason,
        )
        if reason == "CODE_INVALID":
            line.wrong += 1
            assert found.metadata == {"attemptsLeft": str(left)}
        elif reason == "CODE_ATTEMPTS_EXHAUSTED":
            assert found.retry_after > 0
        elif reason == "verified":
            assert line.address is not None
            line.put(line.address, verified=True)
            self.model.sequence += 1

    @rule(channel=CHANNELS, lower=st.booleans())
    def verify_with_the_newest(self, channel: Channel, lower: bool) -> None:
        """Give back the code that was made last for the present address, in either case."""
        codes = self.model.lines[channel].codes
        text = codes[-1].text if codes else "AAAAAA"
        self.verify(channel, f" {text.lower()} " if lower else text)

    @precondition(lambda self: self.held)
    @rule(channel=CHANNELS, data=st.data())
    def verify_with_any(self, channel: Channel, data: st.DataObject) -> None:
        """Give back any code that anybody was ever given: old, expired, of another address or channel."""
        index = data.draw(st.integers(0, len(self.held) - 1), label="code")
        self.verify(channel, self.held[-1 - index].text)

    @rule(channel=CHANNELS, times=st.integers(1, ATTEMPTS + 1))
    def verify_with_a_wrong_one(self, channel: Channel, times: int) -> None:
        """Guess; no code has such characters."""
        for _ in range(times):
            self.verify(channel, "000000")

    @precondition(lambda self: self.held)
    @rule()
    def ask_of_each_code_what_it_is_worth(self) -> None:
        """Judge every code on both channels without spending an attempt."""
        for channel, line in self.model.lines.items():
            for each in {each.text for each in self.held[-6:]}:
                reason, _ = line.answer(each, self.model.now)
                said, _ = self.ask(verify_contact, VerifyContact(channel, each), dry=True)
                assert said == ("ok" if reason in {"verified", "unchanged"} else reason)

    @rule(transition=st.sampled_from(list(Transition)), rarely=st.integers(0, 3))
    def move_now_and_then(self, transition: Transition, rarely: int) -> None:
        """Move the user, less often than it is asked for codes."""
        if rarely == 0:
            self.move(transition)

    def move(self, transition: Transition) -> None:
        """Deactivate, reactivate, lock or unlock."""
        model = self.model
        reached = {
            Transition.DEACTIVATE: not model.active,
            Transition.REACTIVATE: model.active,
            Transition.LOCK: model.locked,
            Transition.UNLOCK: not model.locked,
        }[transition]
        outcome = self.ask(move_user, transition)
        if reached:
            self.expect(outcome, "USER_STATE")
            return
        self.expect(outcome, "ok")
        model.active = transition is Transition.REACTIVATE or (model.active and transition is not Transition.DEACTIVATE)
        model.locked = transition is Transition.LOCK or (model.locked and transition is not Transition.UNLOCK)
        model.sequence += 1
        if not model.usable:
            for line in model.lines.values():
                line.forget()

    @precondition(lambda self: not self.model.usable or self.settled_lines)
    @rule(ways=st.sampled_from(["sendCode", "returnCode", "nothing"]))
    def begin_anew(self, ways: str) -> None:
        """Make the user active and give it codes again, so that few examples end early."""
        if not self.model.active:
            self.move(Transition.REACTIVATE)
        if self.model.locked:
            self.move(Transition.UNLOCK)
        for line in self.settled_lines:
            present = [which for which in range(3) if self.address(line.channel, which) == line.address]
            self.set_address(line.channel, (present[0] + 1) % 3 if present else 0, ways)

    @property
    def pending(self) -> list[Line]:
        """Give the channels on which a code is known."""
        return [line for line in self.model.lines.values() if line.codes]

    @property
    def settled_lines(self) -> list[Line]:
        """Give the channels on which no code is known."""
        return [line for line in self.model.lines.values() if not line.codes]

    @rule(by=st.sampled_from([TICK, 30 * SECOND - TICK, 30 * SECOND, 30 * SECOND, DAY - TICK, DAY]))
    def wait(self, by: timedelta) -> None:
        """Let a little time pass."""
        self.model.now += by

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), early=st.booleans(), week=st.sampled_from([False, False, False, True]))
    def wait_for_an_expiry(self, data: st.DataObject, early: bool, week: bool) -> None:
        """Move to where a code expires, or is forgotten: to that moment, or to the last one before it."""
        codes = [each for line in self.pending for each in line.codes[-3:]]
        at = data.draw(st.sampled_from([each.expires_at for each in codes]), label="expiry")
        at += (RECOGNISED if week else timedelta(0)) - (TICK if early else timedelta(0))
        self.model.now = max(self.model.now, at)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def verify_with_a_known_one(self, data: st.DataObject) -> None:
        """Give back a code of the present address that was not replaced, live or expired."""
        line = data.draw(st.sampled_from(self.pending), label="line")
        self.verify(line.channel, data.draw(st.sampled_from([each.text for each in line.codes]), label="code"))

    @precondition(lambda self: self.sent)
    @rule()
    def deliver(self) -> None:
        """Messages of live codes are sent, those of dead ones are not; whoever lost an address is told in any case."""
        user = self.stage.run(self.wiring.users.find(self.user_id))
        for each in self.sent[-12:]:
            dead = is_dead(each.message, user, self.model.now)
            if each.code is None:
                assert not dead
                continue
            line = self.model.lines[each.message.channel]
            if line.wrong >= ATTEMPTS:
                continue  # useless until a resend; whether it is sent is not said
            assert dead == (each.code not in line.live(self.model.now))

    # -- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def reads_as_the_model_says(self) -> None:
        """State, sequence and addresses are those of the model, and no code stands in the user."""
        user = self.stage.run(self.wiring.users.read(self.user_id))
        if user is None:  # before it is made
            return
        assert (user.active, user.locked, user.sequence) == (self.model.active, self.model.locked, self.model.sequence)
        for channel, line in self.model.lines.items():
            found = user.contact.on(channel)
            seen = (None, False) if found is None else (found.value, found.is_verified)
            assert seen == (line.address, line.verified)
            live = [each for each in (found.codes if found else ()) if each.expires_at > self.model.now]
            assert len(live) <= LIVE


@pytest.mark.parametrize("caps", [Caps(), TIGHT], ids=["far caps", "tight caps"])
def test_any_sequence_of_requests_is_answered_as_promised(stage: Stage, caps: Caps) -> None:
    """Every answer, every message and what is stored are what the contract says, whatever came before."""
    staged = type("Staged", (VerificationMachine,), {"stage": stage, "caps": caps})
    lenient = settings(max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(staged, settings=lenient)
