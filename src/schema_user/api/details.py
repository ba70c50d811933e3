"""What every answer about a resource says of it: sequence, dates, owner."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from datetime import datetime


class View(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The base of everything that is answered: lowerCamelCase, absent fields left out."""


class DetailsView(View, kw_only=True):
    """Which version of a resource this is, and who owns it."""

    sequence: str
    creation_date: str
    change_date: str
    resource_owner: str


class _Resource(Protocol):
    @property
    def sequence(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def changed_at(self) -> datetime: ...


@functools.lru_cache(maxsize=64)  # an import makes many of one moment
def rfc3339(moment: datetime) -> str:
    """Write a UTC time with milliseconds: ``2025-01-03T13:39:46.859Z``."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def details(resource: _Resource, owner: str) -> DetailsView:
    """Give the details of a resource; 64-bit integers travel as strings."""
    created_at, changed_at = resource.created_at, resource.changed_at
    created = rfc3339(created_at)
    return DetailsView(
        sequence=str(resource.sequence),
        creation_date=created,
        change_date=created if changed_at is created_at else rfc3339(changed_at),
        resource_owner=owner,
    )
