"""What takes minutes on purpose: ``make soak``."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.soak
def test_a_hundred_thousand_updates_keep_every_promise() -> None:
    """The demo at ten times its length: none lost, each invalid one refused rightly, memory flat."""
    command = [sys.executable, "-m", "bench.demo", "--updates", "100000", "--clients", "32"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-2000:]
