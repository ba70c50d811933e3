"""The official JSON-Schema-Test-Suite, from the package registry.

The source distribution of ``jsonschema`` carries it; ``requirements/dev.txt`` pins that by its hash. It is fetched once
and kept in pytest's cache. A registry that can't be reached fails the tests: there is no conformance without the suite.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOCK = Path(__file__).parents[2] / "requirements" / "dev.txt"
_PIN = re.compile(r"(?m)^jsonschema==(\S+)(?: \\\n +--hash=\S+)+$")
# pip asks every source distribution for its metadata, and for that would install and run what builds it. Nothing is
# built here, so a stand-in of that name answers, and pip has nothing to do but to fetch and to compare the hash.
_STAND_IN = """
from pathlib import Path

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    place = Path(directory, "jsonschema-{version}.dist-info")
    place.mkdir()
    place.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: jsonschema\\nVersion: {version}\\n")
    return place.name
"""


def _fetch(pin: str, version: str, work: Path) -> Path:
    """Fetch the source distribution by the machine's own settings for pip, whatever registry they name."""
    (work / "hatchling").mkdir()
    (work / "hatchling" / "__init__.py").touch()
    (work / "hatchling" / "build.py").write_text(_STAND_IN.format(version=version), encoding="utf-8")
    (work / "pin.txt").write_text(pin + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jsonschema"]
    command += ["--no-build-isolation", "--require-hashes", "--requirement", "pin.txt", "--dest", "fetched"]
    environment = {**os.environ, "PYTHONPATH": str(work), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the test suite could not be fetched:\n{done.stdout}{done.stderr}"
    (archive,) = (work / "fetched").iterdir()
    return archive


def _tests(members: Iterable[tarfile.TarInfo]) -> list[tarfile.TarInfo]:
    return [each for each in members if each.name.split("/")[1:3] == ["json", "tests"]]


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder with a folder of tests for each draft."""
    pin = _PIN.search(_LOCK.read_text(encoding="utf-8"))
    assert pin, "requirements/dev.txt does not pin jsonschema"
    work = tmp_path_factory.mktemp("suite")
    keep = pytestconfig.cache.mkdir("json-schema-test-suite") / pin[1]
    if not keep.exists():
        with tarfile.open(_fetch(pin[0], pin[1], work)) as archive:
            archive.extractall(work / "all", members=_tests(archive), filter="data")
        shutil.move(work / "all" / f"jsonschema-{pin[1]}" / "json" / "tests", keep)
    return keep
