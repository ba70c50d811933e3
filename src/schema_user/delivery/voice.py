"""In whose name a message is written: the instance's, with what its organization chose laid over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_user.delivery.email import instance_voice
from schema_user.domain.wording import Sender, Voice

if TYPE_CHECKING:
    from collections.abc import Container

    from schema_user.domain.organization import OrganizationSettings
    from schema_user.wiring import Wiring


class Voices:
    """The voices of all organizations."""

    def __init__(self, wiring: Wiring) -> None:
        """Read the instance's voice from the settings.

        Raises:
            ValueError: if its sender is not exactly one address.
        """
        settings = wiring.settings
        self.instance = instance_voice(settings.mail_from, settings.public_url)
        self._allowed_domains = frozenset(settings.mail_from_domains)
        self._organizations = wiring.organizations

    async def of(self, organization_id: str) -> Voice:
        """Give the voice of an organization, at most as old as what every request knows of it; of none: the instance's.

        Raises:
            Unavailable: if the database does not answer.
        """
        organization = await self._organizations.known(organization_id)
        if organization is None:
            return self.instance
        return overlaid(self.instance, organization.settings, self._allowed_domains)


def overlaid(instance: Voice, own: OrganizationSettings, allowed_domains: Container[str]) -> Voice:
    """Lay an organization's choices over the instance's voice.

    Its address counts only within the domains that are allowed now: they may be fewer than when it was chosen.
    """
    sender = own.sender or Sender()
    name, address = sender.name, sender.address
    if address is not None and address.rpartition("@")[2] not in allowed_domains:
        address = None
    return Voice(
        service=name or instance.service,
        sender_name=name or instance.sender_name,
        sender_address=address or instance.sender_address,
        languages=own.languages or (),
        texts=own.texts or {},
    )
