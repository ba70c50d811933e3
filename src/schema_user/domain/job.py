"""Jobs: work over many users that takes minutes, and what is known of it while it lasts and afterwards."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

KEPT_TTL: Final = timedelta(days=7)
"""How long a job can be read after its end."""

MOST_FOUND: Final = 8 * 1024 * 1024
"""Bytes that a job may hold of what it found; a document of the database takes 16 MiB."""


class JobKind(enum.StrEnum):
    """What a job does; ``jobs/runner.py`` says how to add one."""

    BACK_FILL = "back_fill"
    DRY_RUN = "dry_run"
    MIGRATION = "migration"


class JobState(enum.StrEnum):
    """How far a job is. It runs from its first turn on, also while it waits for its next one."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self not in UNFINISHED


UNFINISHED: Final = (JobState.PENDING, JobState.RUNNING)


class Progress(msgspec.Struct, frozen=True):
    """How far a job came: stored as one, so that who goes on from ``cursor`` has what was found up to there.

    ``found`` is JSON of the kind's own, at most ``MOST_FOUND`` bytes. ``total`` is what ``done`` will be at the end, as
    far as it is known; 0: not yet.
    """

    cursor: str = ""
    found: bytes = b""
    done: int = 0
    total: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, about one user schema.

    ``organizations`` are those whose users it covers, None all of them. ``owner_id`` is the organization whose limits
    it counts for, None the instance. ``asked`` is JSON of the kind's own: what it shall do. ``token_id`` and
    ``user_id`` say who started it. ``cancelling``: somebody wants it to end. ``error`` says why it failed (upper
    snake).
    """

    job_id: str
    kind: JobKind
    schema_id: str
    owner_id: str | None
    organizations: tuple[str, ...] | None
    asked: bytes
    created_at: datetime
    token_id: str
    user_id: str | None = None
    state: JobState = JobState.PENDING
    progress: Progress = Progress()
    cancelling: bool = False
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def within(self, organizations: Collection[str] | None) -> bool:
        """Whether all that it covers lies in these organizations; None: everywhere."""
        if organizations is None:
            return True
        return self.organizations is not None and set(self.organizations) <= set(organizations)
