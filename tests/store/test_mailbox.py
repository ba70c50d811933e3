"""The local mailbox on a real disk."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from schema_user.delivery.email import MailWriter
from schema_user.delivery.mailbox import MailboxTransport
from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.domain.contact import Channel
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.wording import Voice
from schema_user.store.mailbox import Mailbox

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
VOICE = Voice("Example", "Example", "no-reply@example.com")


def message(channel: Channel, number: int = 1, code: str = "ACDEF3") -> Message:
    """Make a message; a higher number makes a newer one."""
    return Message(
        message_id=f"user:{number}",
        kind=VERIFY,
        channel=channel,
        user_id="user",
        organization_id="default",
        recipient="minnie@example.com" if channel is Channel.EMAIL else "+41791234567",
        created_at=NOW + timedelta(seconds=number),
        code=code,
        expires_at=NOW + timedelta(hours=1),
    )


def transport(data_dir: Path, kept: int = 1000) -> MailboxTransport:
    """Make the transport of a data directory."""
    texts = Texts()
    writer = MailWriter("http://127.0.0.1:8080", texts)
    return MailboxTransport(Mailbox(data_dir, kept), writer, texts, lambda: NOW)


async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """The folder is 0700 and each file 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        for channel in Channel:
            await transport(tmp_path / "data").send(message(channel), VOICE)
    finally:
        os.umask(before)
    folder = tmp_path / "data" / "mailbox"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600, 0o600]


async def test_the_newest_come_first(tmp_path: Path) -> None:
    """Names sort by time, and the listing gives what a reader wants to see of each."""
    for number, channel in enumerate((Channel.EMAIL, Channel.PHONE, Channel.EMAIL), 1):
        await transport(tmp_path).send(message(channel, number), VOICE)
    letters = Mailbox(tmp_path).newest(2)
    assert [letter.at for letter in letters] == [NOW + timedelta(seconds=3), NOW + timedelta(seconds=2)]
    assert [letter.recipient for letter in letters] == ["minnie@example.com", "+41791234567"]
    assert [letter.subject for letter in letters] == ["Confirm your email address for Example", None]
    assert all("ACDEF3" in letter.text for letter in letters)


async def test_sent_twice_is_kept_once(tmp_path: Path) -> None:
    """A repeat after a crash takes the place of the first."""
    for _ in range(2):
        await transport(tmp_path).send(message(Channel.EMAIL), VOICE)
    assert len(Mailbox(tmp_path).newest(10)) == 1


async def test_the_oldest_go(tmp_path: Path) -> None:
    """The mailbox keeps a bounded number of files, what a crash left half written included."""
    (tmp_path / "mailbox").mkdir()
    (tmp_path / "mailbox" / "20250101T000000000000Z-0123456789abcdef.eml.part").write_bytes(b"half")
    for number in range(1, 6):
        await transport(tmp_path, kept=3).send(message(Channel.PHONE, number), VOICE)
    assert len(list((tmp_path / "mailbox").iterdir())) == 3
    assert [letter.at.second for letter in Mailbox(tmp_path).newest(10)] == [5, 4, 3]


async def test_what_is_not_ours_is_not_shown(tmp_path: Path) -> None:
    """Foreign files, folders and broken ones don't stop the page."""
    await transport(tmp_path).send(message(Channel.EMAIL), VOICE)
    folder = tmp_path / "mailbox"
    (folder / "notes.txt").write_text("mine")
    (folder / "99991231T000000000000Z-0123456789abcdef.eml").mkdir()
    (folder / "99991231T000000000000Z-0123456789abcdef.txt").write_bytes(b"To: \xff\n\n\xff")
    assert len(Mailbox(tmp_path).newest(10)) == 1


def test_no_mailbox_is_an_empty_one(tmp_path: Path) -> None:
    """Before the first message there is no folder."""
    assert Mailbox(tmp_path).newest(10) == []


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    """What cannot be written stays in the outbox, and the reason tells no path."""
    (tmp_path / "mailbox").write_text("in the way")
    with pytest.raises(Undelivered, match=r"^mailbox: FileExistsError$") as caught:
        await transport(tmp_path).send(message(Channel.EMAIL), VOICE)
    assert not caught.value.permanent


async def test_a_write_cut_short_leaves_nothing(tmp_path: Path) -> None:
    """What cannot take its place is not left half written either."""
    await transport(tmp_path).send(message(Channel.EMAIL), VOICE)
    [file] = (tmp_path / "mailbox").iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(Undelivered, match=r"^mailbox: IsADirectoryError$"):
        await transport(tmp_path).send(message(Channel.EMAIL), VOICE)
    assert list((tmp_path / "mailbox").iterdir()) == [file]
