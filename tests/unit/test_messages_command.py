"""``schema-user messages``: what a person at the terminal, or a script, gets to see."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import re
import struct
import sys
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest_asyncio

from schema_user import cli
from schema_user.domain.organization import Organization
from tests.conftest import fresh_uri, prepared, settings_for
from tests.store.post import SECRETS, outbox, person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from schema_user.rooms import Rooms

SECRET_KEY: Final = "a secret of these tests that is long enough"
ERROR: Final = "SMTPRecipientRefused 550 5.1.1"


@dataclass(frozen=True)
class Ran:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """A database with messages, and the command at work on it."""

    rooms: Rooms

    async def run(self, *arguments: str) -> Ran:
        """Run the command in a thread of this process: one of its own would read all the modules again."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = await asyncio.to_thread(_status, "messages", *arguments)
        assert not any(secret in out.getvalue() + err.getvalue() for secret in SECRETS)
        return Ran(status, out.getvalue(), err.getvalue())

    async def message(self, *, parked: bool = True, organization_id: str = "default") -> str:
        """Make a user whose message was parked, or waits."""
        wiring = self.rooms.wiring
        user = await person(wiring, organization_id=organization_id)
        await wiring.relay.sweep()
        message_id = user.messages[0].message_id
        if parked:
            change = {"$set": {"state": "parked", "tries": 1, "last_error": ERROR}}
            assert await self.rooms.database.collection("outbox").update({"_id": message_id}, change)
        return message_id

    async def states(self) -> dict[str, str]:
        """Give the state of each message."""
        return {each["_id"]: each["state"] for each in await outbox(self.rooms)}


def _status(*arguments: str) -> int:
    """Run the command, and give the status that its process would end with."""
    try:
        return cli.main(arguments)
    except SystemExit as end:  # a wrong argument
        return int(end.code or 0)


@pytest_asyncio.fixture
async def desk(mongod_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Give an empty database, and what a command needs to find it."""
    uri = fresh_uri(mongod_uri)
    settings = settings_for(uri, secret_keys=(SECRET_KEY,))
    own = {
        "SCHEMA_USER_MONGODB_URI": uri,
        "SCHEMA_USER_SECRET_KEY": SECRET_KEY,
        "SCHEMA_USER_PUBLIC_URL": settings.public_url,
    }
    for name in os.environ:
        if name.startswith("SCHEMA_USER_"):
            monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli, "configure_logging", lambda _: None)  # the logs of this process are pytest's
    async with prepared(settings) as rooms:
        yield Desk(rooms)


async def test_messages_are_listed(desk: Desk) -> None:
    """One a line, with ids that can be copied; a state and an organization narrow the list."""
    assert (await desk.run("list")).out == "no messages\n"
    parked = await desk.message()
    pending = await desk.message(parked=False)
    listed = await desk.run("list")
    assert (listed.status, listed.err) == (0, "")
    lines = [line.strip() for line in listed.out.splitlines()][1:]
    assert [line.split()[0] for line in lines] == [parked, pending]
    for word in ("parked", "verify email", "m••••@example.com", " 1 ", ERROR):
        assert word in lines[0]
    only = await desk.run("list", "--state", "pending", "--organization", "default")
    assert pending in only.out
    assert parked not in only.out
    assert (await desk.run("list", "--state", "lost")).status == 2


async def test_a_terminal_gets_lines_that_it_has_room_for(desk: Desk) -> None:
    """In 80 columns the id can still be copied, and nothing is cut off."""
    parked = await desk.message()
    terminal, process_end = os.openpty()
    fcntl.ioctl(process_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schema_user.cli", "messages", "list"), stdout=process_end
    )
    os.close(process_end)
    assert await process.wait() == 0
    lines = os.read(terminal, 100_000).decode().splitlines()
    os.close(terminal)
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, shown)) <= 80
    [line] = [line for line in shown if parked in line]
    assert "parked" in line
    assert set(ERROR.split()) < set(" ".join(shown).split())


async def test_messages_are_listed_for_programs(desk: Desk) -> None:
    """One JSON object a line, as the API shows it."""
    parked = await desk.message()
    await desk.message(parked=False)
    shown = [json.loads(line) for line in (await desk.run("list", "--json")).out.splitlines()]
    assert shown[0]["messageId"] == parked
    assert [each["state"] for each in shown] == ["MESSAGE_STATE_PARKED", "MESSAGE_STATE_PENDING"]
    assert shown[0]["lastError"] == ERROR


async def test_one_message_is_tried_again_or_dropped(desk: Desk) -> None:
    """A message that is done, or not there, is a sentence and status 1."""
    first, second = await desk.message(), await desk.message()
    assert await desk.run("retry", first) == Ran(0, f"{first} is tried again now\n", "")
    assert await desk.run("drop", second) == Ran(0, f"{second} is dropped\n", "")
    assert await desk.states() == {first: "pending", second: "dropped"}
    assert await desk.run("retry", second) == Ran(1, "", "schema-user: the message was dropped already\n")
    assert await desk.run("drop", "nobody") == Ran(1, "", "schema-user: message not found\n")
    assert (await desk.run("retry")).status == 2
    assert (await desk.run("retry", first, "--all-parked")).status == 2


async def test_all_parked_messages_are_tried_again(desk: Desk) -> None:
    """Those of one organization if it is named, else all; others stay as they are."""
    wiring = desk.rooms.wiring
    now = wiring.now()
    for name in ("theirs", "asleep"):
        assert await wiring.organizations.insert(Organization(name, name, now, now, active=name != "asleep"))
    mine, theirs = await desk.message(), await desk.message(organization_id="theirs")
    waiting = await desk.message(parked=False)
    one = await desk.run("retry", "--all-parked", "--organization", "theirs")
    assert one == Ran(0, "messages tried again now: 1\n", "")
    assert await desk.states() == {mine: "parked", theirs: "pending", waiting: "pending"}
    unknown = await desk.run("retry", "--all-parked", "--organization", "nowhere")
    assert unknown == Ran(1, "", "schema-user: organization not found\n")
    asleep = await desk.message(organization_id="asleep")
    ran = await desk.run("retry", "--all-parked")
    assert ran.out == "messages tried again now: 1; that could not be: 1\n"
    assert ran.err == f"schema-user: {asleep}: the organization is not active\n"
    assert ran.status == 1
    assert await desk.states() == {mine: "pending", theirs: "pending", waiting: "pending", asleep: "parked"}
