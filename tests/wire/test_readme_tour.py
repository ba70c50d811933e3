"""The tour of the README, run block by block against a real server: what a newcomer pastes works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## A tour in five minutes\n")[2].partition("\n## ")[0]
BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
URL = "http://127.0.0.1:8080"
END = "--- the end of a block ---"


@dataclass(frozen=True)
class Call:
    """One call of the API, as the terminal shows it."""

    status: int
    answer: Any


@dataclass(frozen=True)
class Step:
    """A block of commands, the answer that the README shows after it, and what the terminal really showed."""

    commands: str
    shown: str | None
    output: str

    @property
    def calls(self) -> list[Call]:
        """The calls in the output."""
        parts = re.split(r"(?m)^HTTP (\d{3})\n", self.output)[1:]
        return [
            Call(int(status), json.loads(body)) for status, body in zip(parts[::2], map(str, parts[1::2]), strict=True)
        ]


def told() -> list[tuple[str, str | None]]:
    """The blocks of commands, each with the answer that follows it."""
    found: list[tuple[str, str | None]] = []
    for language, text in BLOCK.findall(SECTION):
        if language == "bash":
            found.append((text, None))
        else:
            assert found[-1][1] is None
            found[-1] = (found[-1][0], text)
    return found


def settled(text: str) -> str:
    """An output without what differs each time: ids, times, codes."""
    text = re.sub(r'"\d{15,19}"', '"id"', text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "time", text)
    return re.sub(r'("(?:requestId|phoneCode|emailCode|verificationCode)": )"\w+"', r'\1"…"', text).strip()


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    """Run a server of the tour's own."""
    running = Server(short_dir / "tour").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def steps(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Paste every block into one bash, in order, as a newcomer would."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / ".venv").symlink_to(sys.prefix)
    blocks = told()
    pasted = "".join(f"{commands}echo; echo '{END}'\n" for commands, _ in blocks).replace(URL, server.url)
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input=pasted,
        cwd=folder,
        env=server.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    outputs = ended.stdout.split(END + "\n")
    assert len(outputs) == len(blocks) + 1, ended.stdout
    return [Step(commands, shown, output) for (commands, shown), output in zip(blocks, outputs, strict=False)]


def step(steps: list[Step], words: str) -> Step:
    """The one block with these words."""
    (found,) = [each for each in steps if words in each.commands]
    return found


def test_every_block_can_be_pasted() -> None:
    """Nothing that an interactive bash would take for a completion or for its history is in a block."""
    for commands, _ in told():
        assert "\t" not in commands
        assert "!" not in commands


def test_every_call_answers_as_the_tour_says(steps: list[Step]) -> None:
    """The statuses of all calls, block by block."""
    assert [[call.status for call in each.calls] for each in steps] == [
        [],
        [201],
        [201, 200],
        [200],
        [400],
        [200],
        [200, 200],
        [200, 200],
        [412],
        [200],
        [200],
        [201, 201, 404],
        [200, 200, 200],
        [200, 200, 200],
    ]


def test_the_answers_shown_are_the_real_ones(steps: list[Step]) -> None:
    """What the README prints after a block is what the terminal shows, but for ids, times and codes."""
    shown = [each for each in steps if each.shown is not None]
    assert len(shown) == 2
    for each in shown:
        assert settled(each.shown or "") == settled(each.output)


def test_a_code_that_came_back_and_one_that_was_sent_verify(steps: list[Step]) -> None:
    """After the two codes, both addresses are verified and the update is stored."""
    user = step(steps, "/ui/mailbox").calls[1].answer["user"]
    assert user["contact"] == {
        "email": {"address": "minnie@example.org", "isVerified": True},
        "phone": {"number": "+41791234567", "isVerified": True},
    }
    assert user["data"] == {"name": "Minerva Mouse", "born": "1928-11-18", "shelf": "crime"}
    assert user["username"] == "minnie"


def test_refused_and_rehearsed_updates_change_nothing(steps: list[Step]) -> None:
    """After the stale and the validate-only update, a search finds the user as it was."""
    found = step(steps, "/users/search").calls[0].answer
    assert found["details"]["totalResult"] == "1"
    assert found["result"][0]["data"]["name"] == "Minerva Mouse"
    assert found["result"][0]["contact"]["email"] == {"address": "minerva@example.net", "isVerified": True}


def test_a_new_revision_waits_for_the_next_write(steps: list[Step]) -> None:
    """The stored data does not match the new revision, the data written then does."""
    saved, validated, _ = step(steps, "/validate").calls
    assert saved.answer["revision"] == 2
    assert validated.answer["valid"] is False
    assert {each["field"] for each in validated.answer["violations"]} == {"data/born", "data/card", "data/shelf"}


def test_messages_went_with_their_user(steps: list[Step], server: Server) -> None:
    """The tour took a code out of the mailbox; at its end the user was deleted, and with it what was sent to it."""
    assert steps
    mails = [path.read_text(encoding="utf-8") for path in (server.data_dir / "mailbox").glob("*.eml")]
    assert [mail for mail in mails if "minnie@example" in mail] == []


def test_the_tour_leaves_nothing_behind(steps: list[Step], server: Server) -> None:
    """It can be pasted once more: its user, schema and organization are gone."""
    assert steps
    with server.client() as admin:
        assert admin.ok("POST", "/v3alpha/users/search")["details"]["totalResult"] == "0"
        schemas = admin.ok("POST", "/v3alpha/user_schemas/search")["result"]
        assert "reader" not in {each["type"] for each in schemas}
        organizations = admin.ok("POST", "/v3alpha/organizations/search")["result"]
        assert [each["organizationId"] for each in organizations] == ["default"]
