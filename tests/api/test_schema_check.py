"""``schema-user schema check`` and ``POST /v3alpha/user_schemas/check``: one judgement, on two ways."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from schema_user.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Api

_SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "mail": {"format": "email"}, "shade": {"format": "color"}},
}


@dataclass(frozen=True)
class Finished:
    """How the command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def written(folder: Path, schema: Any, data: Any) -> list[str]:
    """Put these documents into files, and give the command's arguments; a text is written as it is."""
    arguments = ["schema", "check"]
    for name, document in {"": schema, "--data": data}.items():
        if document is not None:
            file = folder / f"{name or 'schema'}.json"
            file.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
            arguments += [name, str(file)] if name else [str(file)]
    return arguments


def bare_environment() -> dict[str, str]:
    """Give the environment without settings that the tests' own shell may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")}


def check(folder: Path, schema: Any, data: Any = None, *options: str) -> Finished:
    """Run the command in this process, which has read its modules already."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, bare_environment(), clear=True),
        mock.patch("schema_user.cli.configure_logging"),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main([*written(folder, schema, data), *options])
    return Finished(status, out.getvalue(), err.getvalue())


def check_by_hand(folder: Path, schema: Any, data: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    command = [sys.executable, "-m", "schema_user.cli", *written(folder, schema, data)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=folder, env=bare_environment()
    )


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        pytest.param(_SCHEMA, None, id="good"),
        pytest.param(_SCHEMA, {"name": "Minnie", "mail": "用户@例子.example"}, id="good data"),
        pytest.param(_SCHEMA, {"mail": "Minnie <m@example.com>"}, id="bad data"),
        pytest.param({"type": "nothing", "properties": {"a": {"pattern": "("}}}, {"a": 1}, id="bad schema"),
        pytest.param({"$schema": "urn:x"}, None, id="unknown dialect"),
        pytest.param([], None, id="no object"),
    ],
)
def test_both_say_the_same(tmp_path: Path, admin: Api, schema: Any, data: Any) -> None:
    """The answer as JSON is the same, and the status is 1 where anything is wrong."""
    body = {"schema": schema} if data is None else {"schema": schema, "data": data}
    expected = admin.ok("POST", "/v3alpha/user_schemas/check", body)
    finished = check(tmp_path, schema, data, "--json")
    assert json.loads(finished.stdout) == expected
    assert finished.returncode == (0 if expected["valid"] else 1)


def test_a_table_for_people(tmp_path: Path) -> None:
    """Without a terminal there is no colour and no frame, and no pointer is broken over two lines."""
    name = "n" * 150
    data = {"name": 1, "mail": {}, name: "\x1b[31m"}
    finished = check_by_hand(tmp_path, {**_SCHEMA, "propertyNames": {"maxLength": 100}}, data)
    assert finished.returncode == 1
    lines = finished.stdout.splitlines()
    assert lines[0].split() == ["where", "rule", "what"]
    told = {line.split()[1]: line.strip() for line in lines[1:-1]}
    assert told["data/name"].split(None, 3) == ["refused", "data/name", "type", "must be of type string, not integer"]
    assert told["schema/properties/shade/format"].startswith("warning")
    assert f" data/{name} " in finished.stdout
    assert lines[-1] == "the schema would be taken, but the data does not match it"
    assert "\x1b" not in finished.stdout
    assert not (tmp_path / "var").exists()  # no server and no database was needed


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Control characters and markup in a name are shown, not obeyed."""
    finished = check(tmp_path, {"additionalProperties": False}, {"\x1b]0;owned\x07[red]": 1})
    assert r"data/\x1b]0;owned\x07[red]" in finished.stdout


@pytest.mark.parametrize(
    ("schema", "data", "field"),
    [
        ('{"a": 1, "a": 2}', None, "schema/a"),
        ("{}", '{"a": NaN}', "data/a"),
        ("{}", '{"a.b": 1}', "data/a.b"),
        ("{}", "[]", "data"),
    ],
    ids=str,
)
def test_what_the_wire_refuses_is_refused(tmp_path: Path, schema: str, data: str | None, field: str) -> None:
    """Repeated keys, numbers out of range and keys that cannot be stored are findings, too."""
    finished = check(tmp_path, schema, data, "--json")
    assert finished.returncode == 1
    assert [each["field"] for each in json.loads(finished.stdout)["violations"]] == [field]
    assert check(tmp_path, schema, data).stdout.splitlines()[-1] == "refused"


@pytest.mark.parametrize("content", ["{", "\ufeff{}", '{"schema": {}}, {'], ids=ascii)
def test_a_file_that_is_no_json(tmp_path: Path, content: str) -> None:
    """It is said in a sentence, on standard error."""
    finished = check(tmp_path, content)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "cannot be read as JSON" in finished.stderr
    assert "Traceback" not in finished.stderr
