"""Organizations: the tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from schema_user.domain.password import OwnPolicy
    from schema_user.domain.rate import OwnRates
    from schema_user.domain.wording import OwnTexts, Sender


@dataclass(frozen=True, slots=True)
class OrganizationSettings:
    """What an organization chooses for itself; None means: as the instance has it."""

    url_template_hosts: tuple[str, ...] | None = None
    default_phone_region: str | None = None
    email_code_ttl: timedelta | None = None
    phone_code_ttl: timedelta | None = None
    phone_countries: tuple[str, ...] | None = None
    code_length: int | None = None
    code_attempts: int | None = None
    resend_after: timedelta | None = None
    resends_per_day: int | None = None
    codes_per_address: int | None = None
    codes_per_organization: int | None = None
    codes_per_phone_prefix: int | None = None
    rate_limits: OwnRates | None = None
    sender: Sender | None = None
    languages: tuple[str, ...] | None = None
    texts: OwnTexts | None = None
    password_policy: OwnPolicy | None = None


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant. ``version`` counts every write of the stored document, ``sequence`` those a client can see."""

    organization_id: str
    name: str
    created_at: datetime
    changed_at: datetime
    sequence: int = 1
    active: bool = True
    settings: OrganizationSettings = OrganizationSettings()
    version: int = 1
