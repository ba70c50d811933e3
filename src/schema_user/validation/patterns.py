r"""Regular expressions of ECMA-262, read as far as must be known before an engine compiles them.

That is: whether a pattern looks around or refers back, which only a backtracking engine can match; about how many bytes
it compiles to; and whether it is of a syntax that the engine would take with another meaning than ECMA-262 has for it
(``\<``, ``\A``, ``a++``, inline flags such as ``x``). Other wrong syntax is left for the engine to find.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from schema_user.validation.annex_b import ESCAPE, strict_pattern

MAX_BYTES: Final = 10 * 1024 * 1024
"""What one pattern may compile to."""

_COUNT: Final = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_GROUP: Final = re.compile(r"\(\?(?:(=|!|<=|<!)|P?<[A-Za-z_]\w*>|([a-zA-Z-]*)([:)]))")
_CLASS: Final = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]", re.DOTALL)
_NAME: Final = re.compile(r"<\w*>")
_FLAGS: Final = frozenset("is-")
_PROPERTY_BYTES: Final = 46_000
_UNICODE_BYTES: Final = 1_100
_ASCII_BYTES: Final = 150
_HELD_FOR_EACH: Final = 1.6


class Refused(Exception):
    """A pattern that is not taken."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Pattern(NamedTuple):
    r"""What is known of a pattern.

    ``size`` is an estimate of the bytes that it compiles to, generous: measured are 43 KB for a property such as
    ``\p{L}``, 1 KB for a dot. ``backtracks`` tells whether it needs an engine that does.
    """

    size: int
    backtracks: bool


class _Reader:
    """Reads a pattern from left to right, with a stack of the sizes of the groups that are open."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.sizes = [0]
        self.backtracks = False

    def read(self) -> Pattern:
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "(":
                self._begin()
            elif sign == ")":
                if len(self.sizes) == 1:
                    raise Refused("patternSyntax", "has a ) without its (")
                self.at += 1
                self._add(self.sizes.pop())
            elif sign == "\\":
                self._escape()
            elif sign == "[":
                self._class()
            else:
                self.at += 1
                if sign not in "^$|":
                    self._add(_ASCII_BYTES if sign.isascii() and sign != "." else _UNICODE_BYTES)
        if len(self.sizes) > 1:
            raise Refused("patternSyntax", "has a ( without its )")
        return Pattern(self.sizes[0], self.backtracks)

    def _begin(self) -> None:
        head = _GROUP.match(self.text, self.at)
        if head is None:
            if self.text.startswith("(?", self.at):
                raise Refused("patternSyntax", "has a group that starts with (? and is of no known kind")
            self.at += 1
        else:
            self.at = head.end()
            self.backtracks = self.backtracks or head[1] is not None
            if head[2] and not _FLAGS.issuperset(head[2]):
                raise Refused("patternSyntax", "has an inline flag other than i and s")
            if head[3] == ")":
                return
        self.sizes.append(0)

    def _escape(self) -> None:
        found = ESCAPE.match(self.text, self.at)
        if found is None:
            raise Refused("patternSyntax", "ends in a backslash")
        kind = found[0][1]
        if kind in "<>AzZG" or self.text.startswith(("b{", "B{"), found.end() - 1):
            raise Refused("patternSyntax", f"escapes {kind}, which has no meaning in ECMA-262")
        self.at = found.end()
        if name := kind == "k" and _NAME.match(self.text, self.at):
            self.at = name.end()
        self.backtracks = self.backtracks or kind in "123456789k"
        if kind in "pP":
            self._add(_PROPERTY_BYTES)
        else:
            self._add(_UNICODE_BYTES if kind in "DWsSu" else _ASCII_BYTES)

    def _class(self) -> None:
        found = _CLASS.match(self.text, self.at)
        if found is None:
            raise Refused("patternSyntax", "has a [ without its ]")
        self.at = found.end()
        text = found[0]
        if "\\p" in text.lower():
            self._add(_PROPERTY_BYTES)
        else:
            narrow = text.isascii() and text[1] != "^" and not re.search(r"\\[DWsSu]", text)
            self._add(_ASCII_BYTES if narrow else _UNICODE_BYTES)

    def _add(self, size: int) -> None:
        self.sizes[-1] += size * self._times()

    def _times(self) -> int:
        """Read how often what stands before is repeated, and give how many copies of it that compiles to."""
        times = 1
        if self.text[self.at : self.at + 1] in tuple("*+?"):
            self.at += 1
        elif count := _COUNT.match(self.text, self.at):
            times = max(int(count[3] or count[1]), 1)
            self.at = count.end()
        else:
            return times
        if self.text.startswith("?", self.at):
            self.at += 1
        if self.text[self.at : self.at + 1] in tuple("*+?") or _COUNT.match(self.text, self.at):
            raise Refused("patternSyntax", "repeats a repetition")
        return times


def read(pattern: str) -> Pattern:
    """Read a pattern, in linear time.

    Raises:
        Refused: ``patternSyntax``, if it is of a syntax that is not taken.
    """
    return _Reader(strict_pattern(pattern)).read()


def patterns_in(document: Any) -> set[str]:
    """Collect what may be a pattern in a schema: inside ``const`` and the like it is none, and is collected too."""
    patterns: set[str] = set()
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
            if isinstance(value.get("pattern"), str):
                patterns.add(value["pattern"])
            if isinstance(value.get("patternProperties"), dict):
                patterns.update(value["patternProperties"])
        elif isinstance(value, list):
            stack.extend(value)
    return patterns


def summed(patterns: set[str]) -> Pattern:
    """Give the memory that several patterns hold once compiled, and whether one of them needs backtracking."""
    size, backtracks = 0.0, False
    for pattern in patterns:
        try:
            one = read(pattern)
        except Refused:
            continue
        size += min(one.size, MAX_BYTES) * _HELD_FOR_EACH
        backtracks = backtracks or one.backtracks
    return Pattern(int(size), backtracks)
