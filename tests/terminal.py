"""The command ``schema-user``, run in this process: one of its own would read all the modules again, for a second."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from typing import TYPE_CHECKING
from unittest import mock

from schema_user.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping

    Ended = subprocess.CompletedProcess[str]


def ran(environment: Mapping[str, str], *arguments: str) -> Ended:
    """Run the command with an environment and no other; not for a test that runs in an event loop."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch("schema_user.cli.configure_logging"),  # the logs of this process are pytest's
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(arguments)
        except SystemExit as end:  # a wrong argument
            status = int(end.code or 0)
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, status, said, complained)
