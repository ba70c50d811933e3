"""Webhooks: subscribe a URL to event types, change that, end it."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from schema_user.commands.change import require_active_organization
from schema_user.domain.access import reached_organization, reached_webhook, require
from schema_user.domain.keyring import SealError
from schema_user.domain.permission import Permission
from schema_user.domain.webhook import MOST_OF_INSTANCE, MOST_WEBHOOKS, Secret, Webhook, url_problem
from schema_user.errors import Aborted, Malformed, Unmet, Violation
from schema_user.outbound import AddressRefused, checked_addresses

if TYPE_CHECKING:
    from schema_user.domain.caller import Caller
    from schema_user.domain.webhook import EventType
    from schema_user.wiring import Wiring

_TRIES: Final = 10
_SECRET_BYTES: Final = 32
_LOOKUP_TIMEOUT: Final = 3.0
"""Seconds to resolve a host while the caller waits."""

OLD_SECRET_TTL: Final = timedelta(hours=24)
"""How long a secret that was replaced signs beside the new one."""


@dataclass(frozen=True, slots=True)
class CreateWebhook:
    """Subscribe a URL to event types; ``organization_id`` None makes the webhook the instance's."""

    url: str
    event_types: tuple[EventType, ...]
    organization_id: str | None


@dataclass(frozen=True, slots=True)
class UpdateWebhook:
    """Change what is given; ``rotate_secret`` makes a new secret."""

    url: str | None = None
    event_types: tuple[EventType, ...] | None = None
    active: bool | None = None
    rotate_secret: bool = False


@dataclass(frozen=True, slots=True)
class SavedWebhook:
    """A webhook after a command; ``secret`` at the only moment at which it is told, if a new one was made."""

    webhook: Webhook
    secret: str | None = None


async def create_webhook(wiring: Wiring, caller: Caller, command: CreateWebhook) -> SavedWebhook:
    """Create a webhook; it hears of changes everywhere within five seconds.

    Raises:
        Malformed: for a URL that is none, or that leads to an address that is not public.
        Missing, Denied, Unmet: if the caller may not, or the organization is not there or not active.
        Unmet: ``WEBHOOK_LIMIT``, if there are too many already.
    """
    owner = command.organization_id
    if owner is not None:
        reached_organization(caller, owner, exists=await wiring.organizations.known(owner) is not None)
    require(caller, Permission.WEBHOOK_WRITE, owner)
    await _check_url(wiring, command.url)
    if owner is not None:
        await require_active_organization(wiring, owner)
    key, now = secrets.token_bytes(_SECRET_BYTES), wiring.now()
    webhook = Webhook(
        webhook_id=wiring.new_id(),
        organization_id=owner,
        url=command.url,
        event_types=command.event_types,
        secrets=(Secret(key),),
        created_at=now,
        changed_at=now,
    )
    most = MOST_OF_INSTANCE if owner is None else MOST_WEBHOOKS
    if not await wiring.webhooks.insert(webhook, most):
        raise Unmet("WEBHOOK_LIMIT", f"there are {most} webhooks already", metadata={"limit": str(most)})
    return SavedWebhook(webhook, shown(key))


def shown(key: bytes) -> str:
    """Write a secret as Standard Webhooks does."""
    return "whsec_" + base64.b64encode(key).decode()


async def _check_url(wiring: Wiring, url: str) -> None:
    """Refuse a URL that is none, or whose host has an address that is not public.

    A name that does not resolve now may do so later: each delivery looks again.
    """
    problem = url_problem(url)
    if problem is None:
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT):
                await checked_addresses(
                    parts.hostname or "", parts.port or 443, allow_private=wiring.settings.private_addresses_allowed
                )
        except AddressRefused:
            problem = "leads to an address that is not public"
        except OSError:
            return
    if problem is not None:
        raise Malformed("WEBHOOK_URL_INVALID", f"url {problem}", [Violation("url", problem, "url")])


async def update_webhook(wiring: Wiring, caller: Caller, webhook_id: str, command: UpdateWebhook) -> SavedWebhook:
    """Change a webhook; what waits for it goes to where it leads now.

    Raises:
        Malformed: for a URL, as on creation.
        Missing, Denied, Unmet: if it is not there for the caller, or may not be changed.
        Aborted: if others changed it again and again at the same time.
    """
    checked = False
    for _ in range(_TRIES):
        found = reached_webhook(caller, await wiring.webhooks.find(webhook_id), webhook_id)
        await _require_write(wiring, caller, found, Permission.WEBHOOK_WRITE)
        if command.url is not None and not checked:
            await _check_url(wiring, command.url)
            checked = True
        key = secrets.token_bytes(_SECRET_BYTES) if command.rotate_secret else None
        after = _updated(found, command)
        if key is not None:
            after = replace(after, secrets=(Secret(key), *await _retired(wiring, webhook_id)))
        if after == found:
            return SavedWebhook(found)
        after = replace(after, changed_at=max(wiring.now(), found.changed_at), version=found.version + 1)
        if await wiring.webhooks.replace(found, after):
            return SavedWebhook(after, None if key is None else shown(key))
    raise Aborted("RACE_LOST", "others changed the webhook at the same time; try again", retry_after=1)


def _updated(webhook: Webhook, command: UpdateWebhook) -> Webhook:
    active = webhook.active if command.active is None else command.active
    return replace(
        webhook,
        url=webhook.url if command.url is None else command.url,
        event_types=webhook.event_types if command.event_types is None else command.event_types,
        active=active,
        gone=webhook.gone and not active,
    )


async def _retired(wiring: Wiring, webhook_id: str) -> tuple[Secret, ...]:
    """Give the newest secret as it goes on signing for a while; none if no key that is set opens it."""
    try:
        held = await wiring.webhooks.with_secrets(webhook_id)
    except SealError:
        return ()
    return () if held is None else (Secret(held.secrets[0].key, wiring.now() + OLD_SECRET_TTL),)


async def _require_write(wiring: Wiring, caller: Caller, webhook: Webhook, permission: Permission) -> None:
    require(caller, permission, webhook.organization_id)
    if webhook.organization_id is not None:
        await require_active_organization(wiring, webhook.organization_id)


async def delete_webhook(wiring: Wiring, caller: Caller, webhook_id: str) -> Webhook:
    """Delete a webhook, and drop what it was not told yet.

    Raises:
        Missing, Denied, Unmet: as for a change.
    """
    found = reached_webhook(caller, await wiring.webhooks.find(webhook_id), webhook_id)
    await _require_write(wiring, caller, found, Permission.WEBHOOK_DELETE)
    await wiring.webhooks.delete(found)
    await wiring.outbox.drop_of_webhook(webhook_id, wiring.now())
    return found


async def delete_webhooks_of(wiring: Wiring, organization_id: str) -> None:
    """Delete the webhooks of an organization that was deleted; what a crash leaves hears of nothing any more."""
    for webhook in await wiring.webhooks.of_organization(organization_id):
        await wiring.webhooks.delete(webhook)
        await wiring.outbox.drop_of_webhook(webhook.webhook_id, wiring.now())
