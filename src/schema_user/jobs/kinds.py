"""Every kind of job, and what does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.domain.job import JobKind
from schema_user.jobs import backfill, dry_run, migration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_user.jobs.runner import Kind

KINDS: Final[Mapping[JobKind, Kind]] = {
    JobKind.BACK_FILL: backfill.work,
    JobKind.DRY_RUN: dry_run.work,
    JobKind.MIGRATION: migration.work,
}
