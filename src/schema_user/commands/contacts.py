"""Contacts: set, verify, resend, remove; the same steps for email and phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.code_limits import next_code_in, refuse_resend
from schema_user.commands.contact_rules import contact_rules
from schema_user.domain import code as codes
from schema_user.domain.access import lacking, require_user
from schema_user.domain.contact import (
    Channel,
    IsVerified,
    Placed,
    ReturnCode,
    SendCode,
    SetAddress,
    Unverified,
    Verdict,
    Verification,
    country_of,
    issue,
    masked,
    normalise_email,
    normalise_phone,
    place,
    verify,
)
from schema_user.domain.link import sign
from schema_user.domain.message import ADDRESS_CHANGED, VERIFY, Message, fill, make_message_id, template_problem
from schema_user.domain.permission import Permission
from schema_user.domain.user import binding, preferred_language
from schema_user.errors import Exhausted, Fault, Malformed, Unmet, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.caller import Caller
    from schema_user.domain.contact import Address
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

_NOT_AN_ADDRESS: Final = {
    Channel.EMAIL: "must be an email address without a display name",
    Channel.PHONE: "must be a phone number; begin with + and the country code",
}


class AddressWish(msgspec.Struct, frozen=True):
    """An address as a caller wrote it, and where it stands in the request (for the pointers of violations)."""

    channel: Channel
    text: str
    verification: Verification | None
    at: str
    """The pointer of the object that holds the address, with a trailing slash unless it is the body itself."""
    name: str = ""
    """What the address is called in that object, where it is not ``address`` or ``number``."""

    @property
    def field(self) -> str:
        """The pointer of the address itself."""
        return self.at + (self.name or ("address" if self.channel is Channel.EMAIL else "number"))


@dataclass(frozen=True, slots=True)
class VerifyContact:
    """Give back the code that was sent to the user's address on a channel."""

    channel: Channel
    code: str


@dataclass(frozen=True, slots=True)
class ResendCode:
    """Make another code for the user's address on a channel."""

    channel: Channel
    verification: SendCode | ReturnCode


def check_wishes(wishes: Iterable[AddressWish]) -> None:
    """Check what can be checked before the user is looked for.

    Raises:
        Malformed: with every violation.
    """
    violations = [violation for wish in wishes for violation in _form_violations(wish)]
    if violations:
        raise _malformed(violations)


def _form_violations(wish: AddressWish) -> list[Violation]:
    found = []
    national = wish.channel is Channel.PHONE and not wish.text.lstrip().startswith("+")
    if not national and _normalised(wish.channel, wish.text, None) is None:
        found.append(Violation(wish.field, _NOT_AN_ADDRESS[wish.channel], "format"))
    if isinstance(wish.verification, SendCode) and wish.verification.url_template is not None:
        problem = template_problem(wish.verification.url_template, None)
        if problem:
            found.append(Violation(f"{wish.at}sendCode/urlTemplate", problem, "urlTemplate"))
    return found


def _normalised(channel: Channel, text: str, region: str | None) -> str | None:
    return normalise_email(text) if channel is Channel.EMAIL else normalise_phone(text, region)


def _malformed(violations: list[Violation]) -> Malformed:
    only_templates = all(violation.reason == "urlTemplate" for violation in violations)
    first = violations[0]
    return Malformed(
        "URL_TEMPLATE_INVALID" if only_templates else "FIELD_INVALID",
        f"{first.field} {first.description}",
        violations,
    )


def resolve(wish: AddressWish, rules: ContactRules) -> SetAddress:
    """Turn a wish into a normalised one, by the rules of the user's organization.

    Raises:
        Malformed: for a number without a region, or a template that leads to a host that is not allowed.
    """
    value = _normalised(wish.channel, wish.text, rules.region)
    if value is None:
        raise _malformed([Violation(wish.field, _NOT_AN_ADDRESS[wish.channel], "format")])
    check_template(wish.verification, rules, wish.at)
    return SetAddress(wish.channel, value, wish.verification)


def check_template(verification: Verification | None, rules: ContactRules, at: str) -> None:
    """Raise Malformed for a URL template that the organization's rules do not allow."""
    if isinstance(verification, SendCode) and verification.url_template is not None:
        require_template(verification.url_template, rules.hosts, f"{at}sendCode/urlTemplate")


def require_template(template: str, hosts: frozenset[str] | None, field: str) -> None:
    """Raise Malformed for a URL template that is not one, or leads to another host than these; None: to any."""
    problem = template_problem(template, hosts)
    if problem:
        raise _malformed([Violation(field, problem, "urlTemplate")])


def forbidden_to_self(verification: Verification | None, at: str) -> list[Violation]:
    """List what needs ``user.write`` even of the user itself.

    Who may vouch for an address, or be given its code, may take one that belongs to somebody else.
    """
    if isinstance(verification, ReturnCode):
        return [Violation(f"{at}returnCode", f"needs {Permission.USER_WRITE}", "permission")]
    if isinstance(verification, (IsVerified, Unverified)):
        return [Violation(f"{at}isVerified", f"needs {Permission.USER_WRITE}", "permission")]
    return []


def put_address(wiring: Wiring, decision: Decision, wish: AddressWish, rules: ContactRules) -> Decision:
    """Put an address into a user that is being changed: the one path for create, update and set, on both channels."""
    user = decision.user
    wanted = resolve(wish, rules)
    if isinstance(wish.verification, (SendCode, ReturnCode)) and not user.usable:
        raise not_usable(wish.channel)
    before = user.contact.on(wish.channel)
    address, placed = place(before, wanted)
    if placed is Placed.UNCHANGED:
        return decision
    user = replace(user, contact=user.contact.put(wish.channel, address))
    decision = replace(decision, user=user)
    if placed is Placed.REPLACED:
        decision = _tell_old(wiring, decision, wish.channel, before, wanted.value)
        if not address.is_verified and user.usable:
            verification = wish.verification or SendCode()
            if isinstance(verification, Unverified):
                return decision
            require_country(verification, address, wish.channel, rules, wish.field)
            decision = issue_code(wiring, decision, wish.channel, verification, rules)
    return decision


def require_country(
    verification: Verification, address: Address, channel: Channel, rules: ContactRules, field: str = ""
) -> None:
    """Raise Unmet if a code would be sent to a number of a country that codes are not sent to.

    Such a number may be stored, vouched for, and verified by a code that the caller delivers.
    """
    if channel is not Channel.PHONE or rules.countries is None or not isinstance(verification, SendCode):
        return
    if country_of(address.value) not in rules.countries:
        raise Unmet(
            "PHONE_COUNTRY_NOT_ALLOWED",
            "no codes are sent to numbers of this country",
            [Violation(field, "is of a country to which no codes are sent", "country")] if field else (),
            metadata={"countries": ",".join(sorted(rules.countries))},
        )


def not_usable(channel: str) -> Unmet:
    """Give the fault for a code that is asked for of a user who is inactive or locked."""
    return Unmet("USER_NOT_ACTIVE", f"no {channel} code is made for a user who is not active")


def _tell_old(wiring: Wiring, decision: Decision, channel: Channel, old: Address | None, new: str | None) -> Decision:
    """Tell a verified address that another took its place, so that nobody loses an account in silence."""
    if old is None or not old.is_verified:
        return decision
    message = replace(
        message_to(wiring, decision.user, ADDRESS_CHANGED, channel, old.value),
        other=None if new is None else masked(channel, new),
    )
    return with_message(decision, message)


def issue_code(
    wiring: Wiring,
    decision: Decision,
    channel: Channel,
    verification: SendCode | ReturnCode | IsVerified,
    rules: ContactRules,
) -> Decision:
    """Make a code for the address on a channel, and send it or give it back."""
    user, now = decision.user, wiring.now()
    address = user.contact.on(channel)
    if address is None:
        return decision
    plain = codes.draw(rules.code_length, wiring.choose)
    digest = codes.digest(wiring.keyring.code_keys[0], binding(user, channel, address), plain)
    new = codes.Code(digest, now, now + rules.ttl(channel))
    user = replace(user, contact=user.contact.put(channel, issue(address, new, now)))
    decision = replace(decision, user=user)
    if not isinstance(verification, SendCode):
        return replace(decision, codes={**decision.codes, channel: plain})
    template = verification.url_template
    message = replace(
        message_to(wiring, user, VERIFY, channel, address.value),
        code=plain,
        code_digest=digest,
        expires_at=new.expires_at,
        url=fill(template, user_id=user.user_id, organization_id=user.organization_id, code=plain)
        if template
        else sign(wiring.keyring.link_keys[0], user, channel, digest, plain).url(wiring.settings.public_url),
    )
    return with_message(decision, message)


def message_to(wiring: Wiring, user: User, kind: str, channel: Channel, recipient: str) -> Message:
    """Begin a message to one of a user's addresses."""
    return Message(
        message_id=make_message_id(user.user_id, wiring.random_bits(96)),
        kind=kind,
        channel=channel,
        user_id=user.user_id,
        organization_id=user.organization_id,
        recipient=recipient,
        created_at=wiring.now(),
        language=preferred_language(user.data),
    )


def with_message(decision: Decision, message: Message) -> Decision:
    """Let a message wait in the user that is being changed."""
    user = decision.user
    return replace(decision, user=replace(user, messages=(*user.messages, message)))


def remove_address(wiring: Wiring, decision: Decision, channel: Channel) -> Decision:
    """Remove the address on a channel; a verified one is told."""
    user = decision.user
    old = user.contact.on(channel)
    decision = _tell_old(wiring, decision, channel, old, None)
    return replace(decision, user=replace(decision.user, contact=user.contact.put(channel, None)))


async def resend_code(
    wiring: Wiring, target: Target, command: ResendCode, condition: Callable[[User], None] | None = None
) -> Decision:
    """Make another code; the one before stays good until its own expiry.

    ``condition`` raises for a user, as it is just before the change, who shall get none after all.

    Raises:
        Malformed: for a URL template that is not one.
        Unmet: without an address that waits to be verified, for a user who is not active, or for a number of a country
            to which no codes are sent.
        Exhausted: ``RESEND_TOO_SOON``, ``RESEND_LIMIT``, ``CODE_MESSAGE_LIMIT``.
    """
    at = ""
    if isinstance(command.verification, SendCode) and command.verification.url_template is not None:
        require_template(command.verification.url_template, None, "sendCode/urlTemplate")

    def permit(user: User) -> None:
        require_user(target.caller, Permission.USER_WRITE, user)
        require_write_for(target.caller, user, forbidden_to_self(command.verification, at))
        if condition is not None:
            condition(user)

    async def decide(user: User) -> Decision:
        rules = await contact_rules(wiring, user.organization_id)
        check_template(command.verification, rules, at)
        address = user.contact.on(command.channel)
        if address is None:
            raise Unmet("CONTACT_MISSING", f"the user has no {command.channel}")
        if address.is_verified:
            raise Unmet("ALREADY_VERIFIED", f"the {command.channel} is verified already")
        if not user.usable:
            raise not_usable(command.channel)
        require_country(command.verification, address, command.channel, rules)
        now = wiring.now()
        refuse_resend(user.contact, command.channel, rules, now)
        user = replace(user, contact=user.contact.resent(command.channel, now))
        return issue_code(wiring, Decision(user), command.channel, command.verification, rules)

    return await change_user(wiring, target, permit, decide)


def require_write_for(caller: Caller, user: User, violations: list[Violation]) -> None:
    """Raise Denied if there are fields that need ``user.write`` and the caller does not hold it."""
    if violations and not caller.may(Permission.USER_WRITE, user.organization_id):
        raise lacking(Permission.USER_WRITE, violations)


async def verify_contact(
    wiring: Wiring, target: Target, command: VerifyContact, condition: Callable[[User], None] | None = None
) -> Decision:
    """Verify an address by its code. The attempt is stored before anything is said about it.

    ``condition`` raises for a user, as it is just before the change, whose codes shall not be tried after all.

    Raises:
        Malformed: ``CODE_INVALID``, with the attempts left.
        Unmet: ``CODE_EXPIRED`` or ``CODE_NOT_PENDING``.
        Exhausted: ``CODE_ATTEMPTS_EXHAUSTED``.
    """

    def permit(user: User) -> None:
        require_user(target.caller, Permission.USER_WRITE, user)
        if condition is not None:
            condition(user)

    async def decide(user: User) -> Decision:
        def candidates(address: Address) -> list[bytes]:
            bound = binding(user, command.channel, address)
            return [codes.digest(key, bound, command.code) for key in wiring.keyring.code_keys]

        rules, now = await contact_rules(wiring, user.organization_id), wiring.now()
        known = user.contact.on(command.channel)
        address, verdict = verify(known, candidates, now, rules.code_attempts)
        left = rules.code_attempts - (0 if address is None else address.failed)
        refusal = code_refusal(verdict, left, next_code_in(user.contact, command.channel, rules, now))
        if address is known:
            return Decision(user, refusal=refusal)
        return Decision(replace(user, contact=user.contact.put(command.channel, address)), refusal=refusal)

    return await change_user(wiring, target, permit, decide)


def code_refusal(verdict: Verdict, left: int, next_in: int, field: str = "verificationCode") -> Fault | None:
    """Say what is wrong with a returned code that stood in ``field``; None: it was right.

    ``left`` are the attempts that are left, ``next_in`` the seconds until another code may be asked for.
    """
    if verdict is Verdict.WRONG:
        left = max(0, left)
        return Malformed(
            "CODE_INVALID",
            f"the code is wrong; attempts left: {left}",
            [Violation(field, "is wrong", "code")],
            metadata={"attemptsLeft": str(left)},
        )
    if verdict is Verdict.EXHAUSTED:
        return Exhausted("CODE_ATTEMPTS_EXHAUSTED", "too many wrong codes; ask for another one", retry_after=next_in)
    if verdict is Verdict.EXPIRED:
        return Unmet("CODE_EXPIRED", "the code has expired; ask for another one")
    if verdict is Verdict.NOT_PENDING:
        return Unmet("CODE_NOT_PENDING", "no code is pending")
    return None
