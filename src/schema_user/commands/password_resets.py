"""Codes for a new password: asked for, and used by the link that brings one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.code_limits import refuse_reset
from schema_user.commands.contact_rules import contact_rules
from schema_user.commands.contacts import (
    message_to,
    not_usable,
    require_country,
    require_template,
    require_write_for,
    with_message,
)
from schema_user.commands.passwords import PasswordWish, password_policy, set_password
from schema_user.domain import code as codes
from schema_user.domain.access import require_user
from schema_user.domain.caller import Caller
from schema_user.domain.contact import ReturnCode, SendCode
from schema_user.domain.credential import RESET, Credential, reset_binding
from schema_user.domain.link import Standing, reset_standing, sign
from schema_user.domain.message import PASSWORD_RESET, fill
from schema_user.domain.permission import Permission
from schema_user.domain.user import preferred_language
from schema_user.errors import Missing, Unmet, Violation

if TYPE_CHECKING:
    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.code import Code
    from schema_user.domain.contact import Address, Channel
    from schema_user.domain.link import Link
    from schema_user.domain.password import Policy
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

_HOLDER = "link"
"""Stands in the history where a token's id stands otherwise, as for the links of ``commands/links.py``."""


@dataclass(frozen=True, slots=True)
class SendLink:
    """The code goes to the user's verified address on a channel; ``url_template`` is where the link leads."""

    channel: Channel
    url_template: str | None = None


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Make a code with which a new password can be set, and send it or give it back."""

    way: SendLink | ReturnCode


async def reset_password(wiring: Wiring, target: Target, command: ResetPassword) -> Decision:
    """Make a code for a new password; the one before stays good until its own expiry.

    Raises:
        Malformed: for a URL template that is not one.
        Missing, Denied, StaleSequence, Aborted: as ``change_user()``.
        Unmet: for a user who is not active, without a verified address, or with a number of a country to which no
            codes are sent.
        Exhausted: ``RESEND_TOO_SOON``, ``RESEND_LIMIT``, ``CODE_MESSAGE_LIMIT``.
    """
    way = command.way
    if isinstance(way, SendLink) and way.url_template is not None:
        require_template(way.url_template, None, "sendLink/urlTemplate")

    def permit(user: User) -> None:
        require_user(target.caller, Permission.USER_WRITE, user)
        if isinstance(way, ReturnCode):
            needs = Violation("returnCode", f"needs {Permission.USER_WRITE}", "permission")
            require_write_for(target.caller, user, [needs])

    async def decide(user: User) -> Decision:
        rules, now = await contact_rules(wiring, user.organization_id), wiring.now()
        address = _address(user, way, rules) if isinstance(way, SendLink) else None
        if not user.usable:
            raise not_usable("password")
        refuse_reset((user.credential or Credential()).reset, rules, now)
        return _issued(wiring, user, way, address, rules)

    return await change_user(wiring, target, permit, decide)


def _address(user: User, way: SendLink, rules: ContactRules) -> Address:
    """Give the address that a code goes to: nobody who only claims one gets a code for the account."""
    if way.url_template is not None:
        require_template(way.url_template, rules.hosts, "sendLink/urlTemplate")
    address = user.contact.on(way.channel)
    if address is None:
        raise Unmet("CONTACT_MISSING", f"the user has no {way.channel}")
    if not address.is_verified:
        raise Unmet("CONTACT_NOT_VERIFIED", f"the user's {way.channel} is not verified")
    require_country(SendCode(), address, way.channel, rules)
    return address


def _issued(
    wiring: Wiring, user: User, way: SendLink | ReturnCode, address: Address | None, rules: ContactRules
) -> Decision:
    """Make the code; ``address`` is there if it is sent."""
    now, channel = wiring.now(), way.channel if isinstance(way, SendLink) else None
    value = "" if address is None else address.value
    bound = reset_binding(user.organization_id, user.user_id, channel, value)
    plain = codes.draw(rules.code_length, wiring.choose)
    digest = codes.digest(wiring.keyring.code_keys[0], bound, plain)
    new = codes.Code(digest, now, now + (rules.email_ttl if channel is None else rules.ttl(channel)))
    credential = user.credential or Credential()
    user = replace(user, credential=dataclasses.replace(credential, reset=credential.reset.issued(new, now)))
    if not isinstance(way, SendLink):
        return Decision(user, {RESET: plain})
    url = _url(wiring, user, way.url_template, new, plain)
    message = message_to(wiring, user, PASSWORD_RESET, way.channel, value)
    message = replace(message, code=plain, code_digest=digest, expires_at=new.expires_at, url=url)
    return with_message(Decision(user), message)


def _url(wiring: Wiring, user: User, template: str | None, new: Code, plain: str) -> str:
    if template is not None:
        return fill(template, user_id=user.user_id, organization_id=user.organization_id, code=plain)
    return sign(wiring.keyring.link_keys[0], user, None, new.digest, plain).url(wiring.settings.public_url)


@dataclass(frozen=True, slots=True)
class OpenedReset:
    """What a genuine link to a new password leads to; ``service`` is the name that the organization chose, if any."""

    standing: Standing
    policy: Policy
    language: str | None
    service: str | None


async def open_reset(wiring: Wiring, link: Link) -> OpenedReset | None:
    """Look at a link; nothing is counted. None: it is not genuine, or was used."""
    organization = await wiring.organizations.known(link.organization_id)
    rules = await contact_rules(wiring, link.organization_id)
    user = await wiring.users.read(link.user_id)
    found = _standing(wiring, link, user, rules)
    if found is None or user is None or organization is None or not organization.active:
        return None
    return OpenedReset(
        found,
        await password_policy(wiring, link.organization_id),
        preferred_language(user.data),
        organization.settings.sender.name if organization.settings.sender else None,
    )


def _standing(wiring: Wiring, link: Link, user: User | None, rules: ContactRules) -> Standing | None:
    keys = wiring.keyring.link_keys
    return reset_standing(link, user, keys=keys, now=wiring.now(), attempts=rules.code_attempts)


async def set_password_by_link(wiring: Wiring, link: Link, password: str, request_id: str) -> None:
    """Set a new password by the code in a link, as the user itself, and with the refusals of ``set_password()``.

    Raises:
        Missing: if the link is not, or no longer, genuine; then nothing was counted or compared.
    """
    rules = await contact_rules(wiring, link.organization_id)

    def condition(user: User) -> None:
        if _standing(wiring, link, user, rules) is None:
            raise Missing("USER_NOT_FOUND", "user not found")

    holder = Caller(_HOLDER, (), link.user_id, link.organization_id, link.organization_id)
    wish = PasswordWish("password", plain=password, code=link.code)
    await set_password(wiring, Target(holder, link.user_id, request_id=request_id), wish, condition)
