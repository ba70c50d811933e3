"""What the holder of a signed link may do: see how an address stands, give back its code, ask for another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.commands.change import Target
from schema_user.commands.contact_rules import contact_rules
from schema_user.commands.contacts import ResendCode, VerifyContact, resend_code, verify_contact
from schema_user.domain.caller import Caller
from schema_user.domain.contact import SendCode, masked
from schema_user.domain.link import Standing, code_waits, standing
from schema_user.domain.user import preferred_language
from schema_user.errors import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.contact import Channel
    from schema_user.domain.link import Link
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

HOLDER: Final = "link"
"""Stands in the history where a token's id stands otherwise; ids of tokens are numbers."""

_RESENDABLE: Final = frozenset({Standing.EXPIRED, Standing.EXHAUSTED})
_VERIFIABLE: Final = frozenset({Standing.OPEN, Standing.EXPIRED, Standing.EXHAUSTED, Standing.VERIFIED})


@dataclass(frozen=True, slots=True)
class Opened:
    """What a genuine link leads to.

    ``address`` is masked. ``code_waits``: a code, of this link or of another one, can be entered. ``service`` is the
    name that the organization chose for its messages; None: the instance's.
    """

    standing: Standing
    address: str
    language: str | None
    code_waits: bool
    service: str | None


async def open_link(wiring: Wiring, link: Link) -> Opened | None:
    """Look at a link; nothing is counted. None: it is not genuine, or leads to nothing that could be verified."""
    if link.channel is None:
        return None
    organization = await wiring.organizations.known(link.organization_id)
    rules = await contact_rules(wiring, link.organization_id)
    user = await wiring.users.read(link.user_id)
    found = _standing(wiring, link, user, rules)
    address = None if user is None else user.contact.on(link.channel)
    if found is None or user is None or address is None or organization is None or not organization.active:
        return None
    return Opened(
        found,
        masked(link.channel, address.value),
        preferred_language(user.data),
        found is not Standing.EXHAUSTED and code_waits(address, wiring.now()),
        organization.settings.sender.name if organization.settings.sender else None,
    )


def _standing(wiring: Wiring, link: Link, user: User | None, rules: ContactRules) -> Standing | None:
    return standing(
        link,
        user,
        keys=wiring.keyring.link_keys,
        code_keys=wiring.keyring.code_keys,
        now=wiring.now(),
        attempts=rules.code_attempts,
    )


async def verify_by_link(wiring: Wiring, link: Link, code: str, request_id: str) -> None:
    """Verify the address of a link by a code, as ``verify_contact`` does, and with its refusals.

    Raises:
        Missing: if the link is not, or no longer, genuine; then nothing was counted or compared.
    """
    command = VerifyContact(_channel(link), code)
    condition = await _while(wiring, link, _VERIFIABLE)
    await verify_contact(wiring, _target(link, request_id), command, condition)


async def resend_by_link(wiring: Wiring, link: Link, request_id: str) -> None:
    """Send another code to the address of a link whose own code is of no more use, as ``resend_code`` does.

    Raises:
        Missing: for any other link.
    """
    command = ResendCode(_channel(link), SendCode())
    condition = await _while(wiring, link, _RESENDABLE)
    await resend_code(wiring, _target(link, request_id), command, condition)


def _channel(link: Link) -> Channel:
    if link.channel is None:  # it leads to a new password
        raise _missing()
    return link.channel


def _missing() -> Missing:
    return Missing("USER_NOT_FOUND", "user not found")


def _target(link: Link, request_id: str) -> Target:
    """Act as the user itself, and in the link's organization only."""
    holder = Caller(HOLDER, (), link.user_id, link.organization_id, link.organization_id)
    return Target(holder, link.user_id, request_id=request_id)


async def _while(wiring: Wiring, link: Link, needed: Collection[Standing]) -> Callable[[User], None]:
    """Ask a link again of the document that is about to be changed: its code may have died since the page was made."""
    rules = await contact_rules(wiring, link.organization_id)

    def condition(user: User) -> None:
        if _standing(wiring, link, user, rules) not in needed:
            raise _missing()

    return condition
