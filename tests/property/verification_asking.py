"""A user about whom requests are made, and what is checked of every answer to them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from hypothesis.stateful import RuleBasedStateMachine

from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.contact import Channel, IsVerified, ReturnCode, SendCode
from schema_user.domain.message import ADDRESS_CHANGED, Message
from schema_user.domain.organization import Organization
from schema_user.domain.permission import Role
from schema_user.domain.user import User
from schema_user.errors import Fault
from tests.property.verification_model import START, Caps, Issued, Meter, Model

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from schema_user.commands.change import Decision
    from schema_user.domain.contact import Verification
    from schema_user.wiring import Wiring

WAYS: Final[dict[str, Verification | None]] = {
    "nothing": None,
    "sendCode": SendCode(),
    "returnCode": ReturnCode(),
    "isVerified": IsVerified(),
}
OWNER: Final = Caller("machine", (Grant(Role.INSTANCE_OWNER),))
_numbers = itertools.count(1)


@dataclass
class Stage:
    """A prepared database, and the loop in which it is used."""

    runner: asyncio.Runner
    wiring: Wiring

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something with the database."""
        return self.runner.run(work)


@dataclass
class Sent:
    """A message that a change left, and what the model knows of its code."""

    message: Message
    code: Issued | None


class Asking(RuleBasedStateMachine):
    """Asks about one user of an instance with these caps, and remembers each code and message that came of it."""

    stage: Stage
    caps: Caps

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_numbers)
        self.user_id = f"user-{self.number}"
        self.model = Model(START)
        self.wiring = replace(self.stage.wiring, now=lambda: self.model.now)
        self.sent: list[Sent] = []
        self.held: list[Issued] = []

    def make_user(self) -> None:
        """Make the user, in an organization of its own."""
        at, organization_id = self.model.now, f"org-{self.number}"
        caps = self.model.caps = self.caps
        chosen: dict[str, Any] = {
            "resend_after": caps.resend_after,
            "resends_per_day": caps.resends,
            "codes_per_address": caps.messages["address"],
            "codes_per_phone_prefix": caps.messages["phonePrefix"],
            "codes_per_organization": caps.messages["organization"],
        }
        self.wiring = replace(self.wiring, settings=replace(self.wiring.settings, **chosen))
        user = User(self.user_id, organization_id, "human", 1, {}, at, at)
        assert self.stage.run(self.wiring.organizations.insert(Organization(organization_id, "Test", at, at)))
        assert self.stage.run(self.wiring.users.insert(user))

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, command: Callable[..., Any], *arguments: Any, dry: bool = False) -> tuple[str, Any]:
        """Ask for a change; give its outcome, ``ok`` or the reason, and the decision or the fault."""
        target = Target(OWNER, self.user_id, validate_only=dry)
        try:
            return "ok", self.stage.run(command(self.wiring, target, *arguments))
        except Fault as fault:
            return fault.reason, fault

    def address(self, channel: Channel, which: int) -> str:
        """Name one of the addresses that are tried."""
        if channel is Channel.EMAIL:
            return f"m{which}-{self.number}@example.com"
        return f"+4179{self.number % 1000:03}000{which}"

    def wish(self, channel: Channel, which: int, way: str) -> AddressWish:
        """Wish for an address."""
        return AddressWish(channel, self.address(channel, which), WAYS[way], "")

    # -- what is checked of each answer ----------------------------------------------------------------------------

    def expect(self, outcome: tuple[str, Any], reason: str) -> Any:
        """Check the outcome, and give the decision or the fault."""
        said, found = outcome
        assert said == reason, f"{said} instead of {reason}"
        return found

    def expect_code(self, decision: Decision, channel: Channel, *, returned: bool) -> None:
        """Check that exactly one code was made, sent or given back, and take it down."""
        line = self.model.lines[channel]
        messages = [each for each in decision.user.messages if each.code is not None]
        if returned:
            assert not messages
            text = decision.codes[channel]
        else:
            assert not decision.codes
            [message] = messages
            assert (message.recipient, message.channel) == (line.address, channel)
            assert message.code is not None
            text = message.code
            for meter in self.model.counted(channel, message.recipient).values():
                meter.count(self.model.now)
        issued = line.issue(text, self.model.now)
        self.held.append(issued)
        self.sent += [Sent(each, issued) for each in messages]

    def expect_capped(self, fault: Fault, full: dict[str, Meter]) -> None:
        """Check that a refusal names a cap that is used up, and when there is room again."""
        assert fault.metadata is not None
        meter = full[fault.metadata["cap"]]
        self.expect_wait(fault, meter.ends_at)

    def expect_wait(self, fault: Fault, until: datetime) -> None:
        """Check that a refusal tells the seconds to wait: enough, and less than one too many."""
        assert fault.retry_after is not None
        assert timedelta(0) <= self.model.now + timedelta(seconds=fault.retry_after) - until < timedelta(seconds=1)

    def expect_no_code(self, decision: Decision) -> None:
        """Check that no code was made."""
        assert not decision.codes
        assert not [each for each in decision.user.messages if each.code is not None]

    def expect_told(self, decision: Decision, old: str | None) -> None:
        """Check that an address was told of its end, or that none was."""
        told = [each for each in decision.user.messages if each.kind == ADDRESS_CHANGED]
        assert [each.recipient for each in told] == ([] if old is None else [old])
        self.sent += [Sent(each, None) for each in told]
