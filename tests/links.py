"""The links that people get."""

from __future__ import annotations

import email
import email.policy
import re
import time
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from schema_user.domain.contact import Channel
from schema_user.domain.link import RESET_PATH, Link

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Server

_LINK = re.compile(r"https?://\S+/ui/(?:verify/|password/reset)\S+")


def links_to(server: Server, recipient: str, count: int = 1) -> list[str]:
    """Wait until that many messages with a link came to somebody, and give the links from old to new."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        texts = (
            text for file in sorted((server.data_dir / "mailbox").glob("*.*")) if recipient in (text := _text(file))
        )
        found = [match[0] for text in texts if (match := _LINK.search(text))]
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no message with a link came to {recipient}")


@cache
def _text(file: Path) -> str:
    """The words of a message with its recipient; of a mail the plain text. A message is there whole, and stays so."""
    if file.suffix == ".txt":
        return str(file.read_text(encoding="utf-8"))
    if file.suffix != ".eml":
        return ""
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    body = mail.get_body(("plain",))
    assert body is not None
    return f"{mail['To']}\n{body.get_content()}"


def code_in(link: str) -> str:
    """The code that a link fills in."""
    return parse_qs(urlsplit(link).query)["code"][0]


def wrong(code: str) -> str:
    """Another code of the same form."""
    return ("A" if code[0] != "A" else "C") + code[1:]


def read_link(url: str) -> Link:
    """Take a link apart."""
    parts = urlsplit(url)
    values = {name: value for name, (value,) in parse_qs(parts.query).items()}
    channel = None if parts.path == RESET_PATH else Channel(parts.path.rpartition("/")[2])
    return Link(channel, values["userID"], values["orgID"], values["code"], values["sig"])
