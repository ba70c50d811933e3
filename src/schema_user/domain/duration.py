"""Spans of time as people write them: ``90s``, ``10m``, ``1h``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``10m``, ``1h``, ``7d`` or ``250ms``; a bare number is seconds. ValueError otherwise."""
    match = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)?", text.strip(), re.ASCII)
    if match is None:
        raise ValueError
    return timedelta(seconds=int(match[1]) * _UNITS[match[2] or "s"])
