"""Organizations: create, update, activate, delete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from schema_user.commands.change import expect_sequence
from schema_user.commands.repetition import before_writing, begin_making, keep, numbered
from schema_user.commands.webhooks import delete_webhooks_of
from schema_user.commands.wording import wording_violations
from schema_user.domain.access import reached_organization, require
from schema_user.domain.contact import is_country
from schema_user.domain.identifier import CLIENT_ID_RULE, is_client_id
from schema_user.domain.organization import Organization, OrganizationSettings
from schema_user.domain.password import OwnPolicy
from schema_user.domain.permission import Permission
from schema_user.domain.repetition import Answered
from schema_user.errors import Aborted, Conflict, Malformed, Unmet, Violation
from schema_user.store.organizations import KNOWN_TTL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.password import Policy
    from schema_user.domain.rate import OwnRates
    from schema_user.domain.repetition import Known, Once
    from schema_user.wiring import Wiring

_TRIES: Final = 10
_CACHES_EMPTY: Final = KNOWN_TTL + 1
"""Seconds after which no process uses what it knew of an organization before."""

_AT_MOST: Final = {
    "email_code_ttl": "emailCodeTtl",
    "phone_code_ttl": "phoneCodeTtl",
    "code_attempts": "codeAttempts",
    "resends_per_day": "resendsPerDay",
    "codes_per_address": "codesPerAddress",
    "codes_per_organization": "codesPerOrganization",
    "codes_per_phone_prefix": "codesPerPhonePrefix",
}
_AT_LEAST: Final = {"code_length": "codeLength", "resend_after": "resendAfter"}
"""Settings of an organization that are bounded by the instance's, and their names on the wire."""


@dataclass(frozen=True, slots=True)
class CreateOrganization:
    """Make an organization; without an id the service makes one."""

    name: str
    organization_id: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateOrganization:
    """Change what is given; ``settings`` replaces all of them."""

    name: str | None = None
    settings: OrganizationSettings | None = None


@dataclass(frozen=True, slots=True)
class OrganizationTarget:
    """The organization that a caller wants to change, and the sequence at which it expects it."""

    caller: Caller
    organization_id: str
    expected_sequence: int | None = None
    validate_only: bool = False
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class SavedOrganization:
    """An organization after a command; or the answer of before, given again."""

    organization: Organization
    replayed: bool = False


async def create_organization(
    wiring: Wiring,
    caller: Caller,
    command: CreateOrganization,
    *,
    validate_only: bool = False,
    once: Once | None = None,
) -> SavedOrganization:
    """Create an organization.

    Raises:
        Malformed: for an id that a client may not give.
        Denied: without permission over the instance.
        Conflict: if the id was used before.
    """
    if command.organization_id is not None and not is_client_id(command.organization_id):
        violation = Violation("organizationId", CLIENT_ID_RULE, "pattern")
        raise Malformed("FIELD_INVALID", f"organizationId {CLIENT_ID_RULE}", [violation])
    require(caller, Permission.INSTANCE, None)
    now = wiring.now()
    organization_id = command.organization_id or wiring.new_id()
    if once is not None:
        organization_id, is_new = await begin_making(wiring, once, organization_id)
        made = None if is_new else await _made_before(wiring, once, organization_id)
        if made is not None:
            return made
    organization = Organization(organization_id, command.name, now, now)
    answered = _answer_of(once, organization)
    if validate_only:
        taken = await wiring.organizations.exists(organization_id)
    else:
        taken = not await wiring.organizations.insert(organization, answered)
    if taken:
        made = await _made_before(wiring, once, organization_id) if once else None
        if made is not None:  # a twin under the same key was faster
            return made
        raise Conflict(
            "ORGANIZATION_ID_TAKEN",
            "the organization id was used before",
            [Violation("organizationId", "was used before", "unique")],
        )
    await keep(wiring, answered)
    return SavedOrganization(organization)


async def _made_before(wiring: Wiring, once: Once, organization_id: str) -> SavedOrganization | None:
    """Give the answer to a creation again, if there was one."""
    organization = await wiring.organizations.made(organization_id)
    return None if organization is None else await _earlier(wiring, once, organization, first=False)


async def _earlier(wiring: Wiring, once: Once, before: Organization, *, first: bool) -> SavedOrganization | None:
    """Give the answer that the request got before, if it did."""

    async def kept() -> Known | None:
        return await wiring.organizations.answer(before, once)

    answered = await before_writing(wiring, once, kept, first=first)
    if answered is None:
        return None
    return SavedOrganization(replace(before, sequence=answered.sequence, changed_at=answered.changed_at), replayed=True)


def _answer_of(once: Once | None, organization: Organization) -> Answered | None:
    return None if once is None else Answered(once, organization.sequence, organization.changed_at)


async def _change(
    wiring: Wiring,
    target: OrganizationTarget,
    permission: Permission,
    decide: Callable[[Organization], Organization],
) -> SavedOrganization:
    for attempt in range(_TRIES):
        before = await _permitted(wiring, target, permission)
        if target.once is not None:
            earlier = await _earlier(wiring, target.once, before, first=attempt == 0)
            if earlier is not None:
                return earlier
        expect_sequence(target.expected_sequence, before.sequence)
        after = numbered(before, decide(before), wiring.now(), keyed=target.once is not None)
        if after is None:
            await wiring.organizations.settled(before)
            return SavedOrganization(before)
        answered = _answer_of(target.once, after)
        if target.validate_only or await wiring.organizations.replace(before, after, answered):
            await keep(wiring, answered)
            return SavedOrganization(after)
    raise _race_lost()


async def _permitted(wiring: Wiring, target: OrganizationTarget, permission: Permission) -> Organization:
    found = await wiring.organizations.find(target.organization_id)
    reached_organization(target.caller, target.organization_id, exists=found is not None)
    require(target.caller, permission, target.organization_id)
    if found is None:
        message = "reached_organization lets only existing organizations through"
        raise AssertionError(message)
    return found


async def update_organization(
    wiring: Wiring, target: OrganizationTarget, command: UpdateOrganization
) -> SavedOrganization:
    """Change an organization's name or settings.

    Raises:
        Malformed: for a limit beyond the instance's, or words that messages must not have.
        Unmet: if the organization is not active.
    """
    _check_settings(wiring, command.settings)

    def decide(organization: Organization) -> Organization:
        if not organization.active:
            raise Unmet("ORGANIZATION_INACTIVE", "the organization is not active")
        return replace(
            organization,
            name=organization.name if command.name is None else command.name,
            settings=organization.settings if command.settings is None else command.settings,
        )

    return await _change(wiring, target, Permission.ORG_WRITE, decide)


def _check_settings(wiring: Wiring, settings: OrganizationSettings | None) -> None:
    """An organization may limit codes more than the instance does, never less."""
    if settings is None:
        return
    found = []
    for name, wire in _AT_MOST.items():
        wanted, limit = getattr(settings, name), getattr(wiring.settings, name)
        if wanted is not None and wanted > limit:
            found.append(Violation(f"settings/{wire}", f"must be at most the instance's {_shown(limit)}", "maximum"))
    for name, wire in _AT_LEAST.items():
        wanted, limit = getattr(settings, name), getattr(wiring.settings, name)
        if wanted is not None and wanted < limit:
            found.append(Violation(f"settings/{wire}", f"must be at least the instance's {_shown(limit)}", "minimum"))
    found += _beyond_rates(wiring, settings.rate_limits)
    found += _beyond_countries(settings.phone_countries or (), wiring.settings.phone_countries)
    found += _below_policy(settings.password_policy, wiring.settings.password_policy)
    found += wording_violations(settings, wiring.settings.mail_from_domains)
    if found:
        raise Malformed("FIELD_INVALID", f"{found[0].field} {found[0].description}", found)


def _shown(limit: int | timedelta) -> str:
    return f"{int(limit.total_seconds())}s" if isinstance(limit, timedelta) else str(limit)


def _beyond_rates(wiring: Wiring, chosen: OwnRates | None) -> list[Violation]:
    """Compare rates by requests a second: what is let through at once is bounded by both (``domain/rate.py``)."""
    if chosen is None:
        return []
    pairs = {
        "perToken": (chosen.per_token, wiring.settings.rate_limit_token),
        "perOrganization": (chosen.per_organization, wiring.settings.rate_limit_organization),
    }
    return [
        Violation(f"settings/rateLimits/{wire}", f"must be at most the instance's {limit}", "maximum")
        for wire, (wanted, limit) in pairs.items()
        if wanted is not None and limit is not None and wanted.per_second > limit.per_second
    ]


def _below_policy(chosen: OwnPolicy | None, policy: Policy) -> list[Violation]:
    """A policy may ask for more of passwords than the instance's does, never for less."""
    if chosen is None or chosen.over(policy).is_at_least(policy):
        return []
    places = (
        ("minLength", OwnPolicy(min_length=chosen.min_length)),
        ("hasLowercase", OwnPolicy(has_lowercase=chosen.has_lowercase)),
        ("hasUppercase", OwnPolicy(has_uppercase=chosen.has_uppercase)),
        ("hasNumber", OwnPolicy(has_number=chosen.has_number)),
        ("hasSymbol", OwnPolicy(has_symbol=chosen.has_symbol)),
    )
    return [
        Violation(f"settings/passwordPolicy/{wire}", "must ask for as much as the instance's does", "minimum")
        for wire, own in places
        if not own.over(policy).is_at_least(policy)
    ]


def _beyond_countries(chosen: Sequence[str], allowed: Sequence[str]) -> list[Violation]:
    found = []
    for index, country in enumerate(chosen):
        field = f"settings/phoneCountries/{index}"
        if not is_country(country):
            found.append(Violation(field, "is no region that has phone numbers", "enum"))
        elif allowed and country not in allowed:
            found.append(Violation(field, "is not among the instance's countries", "enum"))
    return found


async def set_organization_state(wiring: Wiring, target: OrganizationTarget, *, active: bool) -> SavedOrganization:
    """Deactivate or reactivate an organization; an inactive one can be read only.

    Raises:
        Unmet: if it is in that state already.
    """

    def decide(organization: Organization) -> Organization:
        if organization.active is active:
            state = "active" if active else "inactive"
            raise Unmet("ORGANIZATION_STATE", f"the organization is {state} already")
        return replace(organization, active=active)

    return await _change(wiring, target, Permission.ORG_WRITE, decide)


async def delete_organization(wiring: Wiring, target: OrganizationTarget) -> SavedOrganization:
    """Delete an organization that has neither users nor schemas; its id is not used again.

    It is made read-only first, and no process may still know it as it was, before it is looked through.

    Raises:
        Unmet: ``ORGANIZATION_IN_USE``.
    """
    before = await _permitted(wiring, target, Permission.INSTANCE)
    expect_sequence(target.expected_sequence, before.sequence)
    await _require_empty(wiring, before)
    blocked = replace(before, active=False, version=before.version + 1)
    await _store(wiring, before, blocked)
    await asyncio.sleep(_CACHES_EMPTY)
    try:
        await _require_empty(wiring, before)
    except Unmet:
        await _store(wiring, blocked, replace(before, version=blocked.version + 1))
        raise
    if not await wiring.organizations.erase(blocked):
        raise _race_lost()
    await delete_webhooks_of(wiring, before.organization_id)
    gone = replace(before, sequence=before.sequence + 1, changed_at=max(wiring.now(), before.changed_at))
    return SavedOrganization(gone)


async def _store(wiring: Wiring, before: Organization, after: Organization) -> None:
    if not await wiring.organizations.replace(before, after):
        raise _race_lost()


async def _require_empty(wiring: Wiring, organization: Organization) -> None:
    users = await wiring.users.count_of_organization(organization.organization_id)
    schemas = await wiring.schemas.count_of_organization(organization.organization_id)
    if users or schemas:
        raise Unmet(
            "ORGANIZATION_IN_USE",
            f"the organization has {users} users and {schemas} user schemas",
            metadata={"users": str(users), "schemas": str(schemas)},
        )


def _race_lost() -> Aborted:
    return Aborted("RACE_LOST", "others changed the organization at the same time; try again", retry_after=1)
