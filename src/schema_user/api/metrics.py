"""Counts and times of requests, for Prometheus."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from schema_user.process import MULTIPROCESS_DIR

if TYPE_CHECKING:
    from collections.abc import Callable

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4"
"""The framework adds the charset."""


class Metrics:
    """The metrics of this process; with several processes, what they all wrote into one directory is shown."""

    def __init__(self) -> None:
        """Make a registry of its own, so that two applications in one process do not clash."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "schema_user_requests",
            "Requests by operation and HTTP status",
            ["operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "schema_user_request_seconds", "Time to answer", ["operation"], registry=self._registry, buckets=_BUCKETS
        )

        self._bound: dict[tuple[str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """Count one request."""
        bound = self._bound.get((operation, status))
        if bound is None:
            # Kept, since finding it by its labels costs as much as counting; there are as many as operations answer.
            counter, histogram = self._requests.labels(operation, str(status)), self._seconds.labels(operation)
            bound = self._bound[operation, status] = (counter.inc, histogram.observe)
        bound[0]()
        bound[1](seconds)

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        if os.environ.get(MULTIPROCESS_DIR):
            shared = CollectorRegistry()
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            return generate_latest(shared)
        return generate_latest(self._registry)
