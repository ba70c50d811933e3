"""What is read before a server starts its HTTP processes, and before a command knows what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = {
    "asyncio", "cryptography", "email_validator", "granian", "jinja2", "jsonschema_rs", "litestar", "phonenumbers",
    "prometheus_client", "pymongo", "rich", "uvloop",
}  # fmt: skip


@pytest.mark.parametrize("module", ["schema_user.cli", "schema_user.server"])
def test_little_is_read_at_first(module: str) -> None:
    """The command line and the serving process begin without anything that takes long to read."""
    script = f"import sys, {module}; print(*sys.modules)"
    read = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert module in read.split()
    assert _HEAVY.intersection(read.split()) == set()
