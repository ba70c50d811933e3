"""Output for people. Commands import this module where they run, for it takes long to read."""

from __future__ import annotations

from typing import Final

from rich.console import Console

OUT: Final = Console(highlight=False)
_NO_TERMINAL: Final = 10_000
"""Columns of a pipe or a file."""


def unbroken() -> Console:
    """Give a console that breaks no line except at a terminal: a pointer in two halves cannot be found."""
    return OUT if OUT.is_terminal else Console(highlight=False, width=_NO_TERMINAL)


def counted(count: int, noun: str) -> str:
    """Say how many there are of something whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Show what would move the cursor or colour the screen: names of properties are whatever the file says."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
