"""Organizations in MongoDB."""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from schema_user.domain.organization import Organization, OrganizationSettings
from schema_user.domain.password import OwnPolicy
from schema_user.domain.rate import OwnRates, parse_rate
from schema_user.domain.wording import Sender
from schema_user.store.connection import DuplicateKey
from schema_user.store.known import Known
from schema_user.store.requests import RequestStore, found_in, kept_in
from schema_user.store.search import SearchStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_user.domain.keyring import Keyring
    from schema_user.domain.repetition import Answered, Once
    from schema_user.domain.repetition import Known as KnownRequest
    from schema_user.store.connection import Database, Document

KNOWN_TTL: Final = 2.0
"""Seconds for which an organization may be used without asking; its deactivation holds everywhere within five."""

_KEPT: Final = 10_000
_SPANS: Final = ("email_code_ttl", "phone_code_ttl", "resend_after")
_LISTS: Final = ("url_template_hosts", "phone_countries", "languages")


def _settings_document(settings: OrganizationSettings) -> Document:
    document: Document = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, OwnRates):
            value = {part.name: str(rate) for part in fields(value) if (rate := getattr(value, part.name)) is not None}
        if isinstance(value, (Sender, OwnPolicy)):
            value = {part: chosen for part, chosen in asdict(value).items() if chosen is not None}
        if value is not None:
            document[each.name] = list(value) if isinstance(value, tuple) else value
    return document


def _settings(document: Document) -> OrganizationSettings:
    values = dict(document)
    for name in _SPANS:
        if name in values:
            values[name] = timedelta(seconds=values[name])
    for name in _LISTS:
        if name in values:
            values[name] = tuple(values[name])
    if "rate_limits" in values:
        values["rate_limits"] = OwnRates(**{part: parse_rate(rate) for part, rate in values["rate_limits"].items()})
    if "sender" in values:
        values["sender"] = Sender(**values["sender"])
    if "password_policy" in values:
        values["password_policy"] = OwnPolicy(**values["password_policy"])
    return OrganizationSettings(**values)


def _to_document(organization: Organization) -> Document:
    return {
        "_id": organization.organization_id,
        "name": organization.name,
        "created_at": organization.created_at,
        "changed_at": organization.changed_at,
        "sequence": organization.sequence,
        "version": organization.version,
        "active": organization.active,
        "state": "active" if organization.active else "inactive",
        "settings": _settings_document(organization.settings),
        "deleted": False,
    }


def _from_document(document: Document) -> Organization:
    return Organization(
        organization_id=document["_id"],
        name=document["name"],
        created_at=document["created_at"],
        changed_at=document["changed_at"],
        sequence=document["sequence"],
        active=document["active"],
        settings=_settings(document["settings"]),
        version=document["version"],
    )


class OrganizationStore(SearchStore[Organization]):
    """The collection ``organizations``."""

    fields = {  # noqa: RUF012 -- declared a ClassVar by the base
        "id": "_id",
        "name": "name",
        "state": "state",
        "creation_date": "created_at",
        "change_date": "changed_at",
    }

    def __init__(self, database: Database, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a database; ``clock`` is monotonic, in seconds."""
        self._patience = database.timeout
        self._organizations = database.collection("organizations")
        self._requests = RequestStore(database)
        self._known: Known[str, Organization | None] = Known(
            lambda organization_id, _: self.find(organization_id), KNOWN_TTL, _KEPT, clock
        )
        super().__init__(self._organizations.durable(), keyring, _from_document)

    async def known(self, organization_id: str) -> Organization | None:
        """Find an organization, at most ``KNOWN_TTL`` seconds old; what every request uses."""
        return await self._known.get(organization_id)

    async def find(self, organization_id: str) -> Organization | None:
        """Find an organization as the primary has it."""
        document = await self._organizations.find_one({"_id": organization_id, "deleted": False})
        return None if document is None else _from_document(document)

    async def made(self, organization_id: str) -> Organization | None:
        """Find an organization, also what is left of a deleted one; for the answer to its creation."""
        document = await self._organizations.find_one({"_id": organization_id})
        return None if document is None else _from_document(document)

    async def settled(self, organization: Organization) -> None:
        """Wait until a majority holds what was read for a change; then an answer may speak of it.

        Raises:
            Unavailable: if none does in time.
        """
        await self._organizations.settled(organization.organization_id, organization.version, self._patience)

    async def answer(self, organization: Organization, once: Once) -> KnownRequest | None:
        """Find the answer to a request inside the document that it changed, once a majority holds it.

        Raises:
            Unavailable: if none does in time.
        """
        return await found_in(self._organizations, organization.organization_id, once, self._patience)

    async def exists(self, organization_id: str) -> bool:
        """Whether the id was ever used."""
        return await self._organizations.find_one({"_id": organization_id}, {"_id": 1}) is not None

    async def insert(self, organization: Organization, answered: Answered | None = None) -> bool:
        """Store a new organization, and the answer with it; False if the id was used before."""
        document = _to_document(organization)
        if answered is not None:
            document["requests"] = [kept_in(answered, organization.created_at)]
        try:
            await self._organizations.insert(document)
        except DuplicateKey:
            return False
        self._known.forget(organization.organization_id)
        return True

    async def replace(self, before: Organization, after: Organization, answered: Answered | None = None) -> bool:
        """Store a change, and the answer with it; False if the organization moved on since it was read."""
        change = _to_document(after)
        change.pop("_id")
        if answered is not None:
            await self._requests.take_in(self._organizations, before.organization_id, self._patience)
            change["requests"] = [kept_in(answered, after.changed_at)]
        update = {"$set": change}
        won = await self._organizations.update({"_id": before.organization_id, "version": before.version}, update)
        self._known.forget(before.organization_id)
        return won

    async def erase(self, before: Organization) -> bool:
        """Leave only a mark of a deleted organization, so that its id is not used again; False if it moved on."""
        won = await self._organizations.update(
            {"_id": before.organization_id, "version": before.version},
            {"$set": {"deleted": True, "active": False, "state": "deleted", "version": before.version + 1, "name": ""}},
        )
        self._known.forget(before.organization_id)
        return won
