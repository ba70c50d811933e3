"""A progress bar at a terminal. Commands import this module where they run, for it takes long to read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID


@contextlib.contextmanager
def progress(words: str, total: float | None) -> Iterator[tuple[Progress, TaskID]]:
    """Show how far something is, on standard error and at a terminal only; without a total how long it has gone on."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    with bar:
        yield bar, bar.add_task(words, total=total)
