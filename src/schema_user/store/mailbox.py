"""The mailbox of the local default: every message a file that only its owner can read, in place of a real delivery.

It is a convenience for one machine: a file survives the end of the process, not a loss of power. Everything here
blocks; call it through a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import default
from typing import TYPE_CHECKING, Final

from schema_user.domain.message import user_of

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path

KEPT: Final = 1000
"""Files in the mailbox; of more, the oldest go."""

_FOLDER: Final = "mailbox"
_TIME: Final = "%Y%m%dT%H%M%S%fZ"
_NAME: Final = re.compile(r"(?P<at>\d{8}T\d{12}Z)-(?:[0-9a-f]{16}-)?[0-9a-f]{16}\.(?P<kind>eml|txt)")
"""When, a digest of the user's id, a digest of the message's."""
_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as the mailbox shows it; a text message has no subject."""

    at: datetime
    recipient: str
    subject: str | None
    text: str


class Mailbox:
    """The folder ``mailbox`` in the data directory."""

    def __init__(self, data_dir: Path, kept: int = KEPT) -> None:
        """Use the mailbox of a data directory; the first message makes the folder."""
        self._folder = data_dir / _FOLDER
        self._kept = kept

    def put_mail(self, at: datetime, message_id: str, mail: bytes) -> None:
        """Keep a mail as an ``.eml`` file; the same message again takes the place of the first.

        Raises:
            OSError: if it cannot be written; nothing of it is left then.
        """
        self._put(at, message_id, "eml", mail)

    def put_text(self, at: datetime, message_id: str, recipient: str, text: str) -> None:
        """Keep a text message as a ``.txt`` file, likewise."""
        head = f"To: {recipient}\nDate: {at:%Y-%m-%d %H:%M:%S} UTC\n\n"
        self._put(at, message_id, "txt", f"{head}{text}\n".encode())

    def _put(self, at: datetime, message_id: str, kind: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digests = f"{_digest(user_of(message_id))}-{_digest(message_id)}"
        path = self._folder / f"{at.astimezone(UTC).strftime(_TIME)}-{digests}.{kind}"
        part = path.with_name(path.name + _PART)
        try:
            with open(part, "wb", opener=_private) as file:
                file.write(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self._prune()

    def _prune(self) -> None:
        """Remove the oldest files; the names sort by time, and what a crash left half written ages with the rest."""
        for name in sorted(os.listdir(self._folder))[: -self._kept]:  # noqa: PTH208 -- a thousand names, no paths
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def forget(self, user_id: str) -> None:
        """Remove every message to a user, what a crash left half written among them.

        Raises:
            OSError: if one can't be removed.
        """
        theirs = f"-{_digest(user_id)}-"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):  # noqa: PTH208 -- likewise
                if theirs in name:
                    (self._folder / name).unlink(missing_ok=True)

    def newest(self, limit: int) -> list[Letter]:
        """Read the newest messages, the newest first; a file that went meanwhile, or is none of ours, is left out."""
        try:
            names = sorted(os.listdir(self._folder), reverse=True)  # noqa: PTH208 -- likewise
        except OSError:
            return []
        letters: list[Letter] = []
        for name in names:
            if len(letters) == limit:
                break
            if match := _NAME.fullmatch(name):
                with contextlib.suppress(OSError, ValueError):
                    letters.append(_letter(match, (self._folder / name).read_bytes()))
        return letters


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _letter(name: re.Match[str], content: bytes) -> Letter:
    at = datetime.strptime(name["at"], _TIME).replace(tzinfo=UTC)
    if name["kind"] == "txt":
        head, _, text = content.decode().partition("\n\n")
        return Letter(at, head.partition("\n")[0].removeprefix("To: "), None, text.strip())
    mail: EmailMessage = BytesParser(policy=default).parsebytes(content)
    body = mail.get_body(preferencelist=("plain",))
    text = "" if body is None else str(body.get_content())
    return Letter(at, str(mail["To"]), str(mail["Subject"]), text.strip())
