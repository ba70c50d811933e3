"""What holds for the contacts of an organization: the instance's settings, narrowed by its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from schema_user.domain.contact import Channel
from schema_user.domain.organization import OrganizationSettings

if TYPE_CHECKING:
    from datetime import timedelta

    from schema_user.wiring import Wiring


@dataclass(frozen=True, slots=True)
class ContactRules:
    """The rules of one organization; None of ``hosts`` or ``countries``: every one."""

    region: str | None
    hosts: frozenset[str] | None
    countries: frozenset[str] | None
    email_ttl: timedelta
    phone_ttl: timedelta
    code_length: int
    code_attempts: int
    resend_after: timedelta
    resends_per_day: int

    def ttl(self, channel: Channel) -> timedelta:
        """How long a code of the channel is good."""
        return self.email_ttl if channel is Channel.EMAIL else self.phone_ttl


async def contact_rules(wiring: Wiring, organization_id: str) -> ContactRules:
    """Find the rules of an organization; where it says nothing, the instance's hold.

    What the instance allows may have shrunk since the organization chose: then the instance's holds.
    """
    settings, own = wiring.settings, await own_settings(wiring, organization_id)
    return ContactRules(
        region=own.default_phone_region or settings.default_phone_region,
        hosts=_within(_instance_hosts(wiring), own.url_template_hosts),
        countries=_within(frozenset(settings.phone_countries) or None, own.phone_countries),
        email_ttl=min(own.email_code_ttl or settings.email_code_ttl, settings.email_code_ttl),
        phone_ttl=min(own.phone_code_ttl or settings.phone_code_ttl, settings.phone_code_ttl),
        code_length=max(own.code_length or settings.code_length, settings.code_length),
        code_attempts=min(own.code_attempts or settings.code_attempts, settings.code_attempts),
        resend_after=max(own.resend_after or settings.resend_after, settings.resend_after),
        resends_per_day=min(own.resends_per_day or settings.resends_per_day, settings.resends_per_day),
    )


async def own_settings(wiring: Wiring, organization_id: str) -> OrganizationSettings:
    """Give what an organization chose for itself."""
    organization = await wiring.organizations.known(organization_id)
    return organization.settings if organization else OrganizationSettings()


def _instance_hosts(wiring: Wiring) -> frozenset[str] | None:
    settings = wiring.settings
    if settings.url_template_hosts:
        return frozenset(settings.url_template_hosts)
    return None if settings.embedded else frozenset({urlsplit(settings.public_url).hostname or ""})


def _within(allowed: frozenset[str] | None, chosen: tuple[str, ...] | None) -> frozenset[str] | None:
    """Narrow what the instance allows to what an organization chose of it; nothing chosen: all that is allowed."""
    if not chosen:
        return allowed
    return frozenset(chosen) if allowed is None else allowed & frozenset(chosen)
