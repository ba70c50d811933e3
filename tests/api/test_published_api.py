"""The service against its own OpenAPI document: whatever is sent, the answer is one that the document knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "use_after_free",
    "ignored_auth",
)
"""Not among them: checks that take a 400 for a precondition, or a null for an absent field, to be a mistake."""


@pytest.fixture
def server(short_dir: Path) -> Iterator[Server]:
    """Run a server of its own: the requests may delete whatever is there."""
    running = Server(short_dir / "published").start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.mark.timeout(240)
def test_every_operation_answers_as_the_document_says(server: Server, tmp_path: Path) -> None:
    """Never a 5xx, and no status, header or body that is not published, over generated requests to every operation."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        server.url + "/openapi.json",
        *("--header", f"Authorization: Bearer {server.token}"),
        *("--checks", ",".join(_CHECKS)),
        *("--phases", "examples,fuzzing"),
        *("--max-examples", "1"),
        *("--workers", "2"),
        # Nor the import: the tester writes no lines of JSON. tests/api/test_import_export.py does.
        *("--exclude-path-regex", "^/(health|metrics|docs|ui|openapi)|/users/import$"),
        *("--warnings", "off"),
        "--generation-deterministic",
    ]
    # The tester itself must not be measured for coverage: it would take several times as long.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=220, check=False
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
