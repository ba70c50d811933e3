"""The guide to changing a schema, pasted into one bash beside a real server: what it says is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?ms)^```bash\n(.*?)^```$")
GUIDE = BLOCK.findall((ROOT / "docs/evolving.md").read_text(encoding="utf-8"))
HELPERS = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0]
URL = "http://127.0.0.1:8080"
END = "--- the end of a block ---"
LACKS = "its stored data fails revision 2 too, at data/display, data/family, data/surname"


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    """Run a server of the guide's own."""
    running = Server(short_dir / "guide").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def outputs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paste the tour's helpers and every block of the guide into one bash; what each block showed."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / ".venv").symlink_to(sys.prefix)
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input="".join(f"{block}echo; echo '{END}'\n" for block in (HELPERS, *GUIDE)).replace(URL, server.url),
        cwd=folder,
        env=server.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    _, *shown, rest = ended.stdout.split(END + "\n")
    assert (len(shown), rest) == (len(GUIDE), ""), ended.stdout
    return shown


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_every_block_does_what_the_guide_says(outputs: list[str]) -> None:
    """The statuses of all calls and the findings that the prose relies on, block by block."""
    expected: list[tuple[list[int], list[str]]] = [
        ([201, 201, 201, 201], []),
        ([], ["`/family` was added, and is required", '`/born` must be of the format "date"', "breaking"]),
        ([], ["of 3 users 0 would pass, 3 would not"]),
        ([202, 200], ['"state": "JOB_STATE_DONE"', '"failed": 3']),
        ([], ["of 3 users 2 would pass, 1 would not"]),
        (
            [200, 400, 200, 200, 400],
            ["the dry run found 3 users who would fail", "display is required; the user", LACKS],
        ),
        ([202, 200, 200], ['"moved": 2', '"failed": 1', '"display": "Minnie Mouse"', '"loans": 0']),
        ([200], ['"totalResult": "1"', '"userId": "daisy"']),
        ([], ["1 user would be moved (such as daisy), 2 left alone, 0 would", "1 user moved, 2 left alone, 0 failed"]),
        ([200, 200], ["is the value of another user too  daisy, minnie", '"filled": 3', '"holderId": "daisy"']),
        ([200, 202, 200], ['"duplicates": []']),
        ([200] * 5, []),
        ([201, 200, 400, 200], ["2 users moved, 0 left alone, 0 failed"]),
    ]
    for shown, (statuses, words) in zip(outputs, expected, strict=True):
        assert [int(status) for status in re.findall(r"(?m)^HTTP (\d{3})$", shown)] == statuses, shown
        assert [each for each in words if each not in shown] == [], shown


@pytest.mark.soak
def test_the_searches_find_whom_the_guide_names(outputs: list[str]) -> None:
    """Text, range, date, array and their opposite, in this order."""
    (shown,) = [each for each, block in zip(outputs, GUIDE, strict=True) if "find_users()" in block]
    found = [re.findall(r"(?m)^'userId': '(\w+)'$", part) for part in re.split(r"(?m)^HTTP 200$", shown)[1:]]
    assert found == [["daisy"], ["daisy"], ["minnie"], ["minnie"], ["max", "daisy"]]
