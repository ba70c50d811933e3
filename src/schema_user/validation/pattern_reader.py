r"""Reads a regular expression of ECMA-262, as far as its cost needs, and refuses what the linear engine can't take.

It is no judge of syntax: what it reads generously the engine still refuses. But it refuses what the engine would take
with another meaning than ECMA-262 has for it (``\<``, ``\A``, ``a++``, inline flags such as ``x``).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Final

from schema_user.validation.automaton import ASCII, ASCII_SIZE, Atom, Choice, Mark, Repeat

_MAX_NESTING: Final = 100
_COUNT: Final = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_GROUP: Final = re.compile(r"\(\?(?:(=|!|<=|<!)|P?<[A-Za-z_]\w*>|([a-zA-Z-]*)([:)]))")
_CLASS: Final = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPED: Final = r"\\(?:[pP](?:\{[^}]*\}|.)|u\{[0-9A-Fa-f]{1,6}\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|c[A-Za-z]|.)"
_ESCAPE: Final = re.compile(_ESCAPED, re.DOTALL)
_MEMBER: Final = re.compile(f"{_ESCAPED}|.", re.DOTALL)
_FLAGS: Final = frozenset("is-")
_CONTROLS: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11}


class Refused(Exception):
    """A pattern that is not taken."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def _mask(text: str) -> int:
    return sum(1 << ord(each) for each in text)


_DIGITS: Final = _mask("0123456789")
_WORDS: Final = _mask("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") | _DIGITS
_SPACES: Final = _mask(" \t\n\r\f\v")
_NAMED: Final = {
    "d": Atom("\\d", _DIGITS),
    "D": Atom("\\D", ASCII & ~_DIGITS, others=True),
    "w": Atom("\\w", _WORDS),
    "W": Atom("\\W", ASCII & ~_WORDS, others=True),
    "s": Atom("\\s", _SPACES, others=None),
    "S": Atom("\\S", ASCII & ~_SPACES, others=None),
    ".": Atom(".", ASCII & ~_mask("\n"), others=True),
}


def _escaped(text: str) -> Atom | int:
    """Read one escape, as a class or as a code point."""
    kind = text[1]
    if kind in "pP":
        return Atom(text, 0, ASCII, None)
    if kind in _NAMED and kind != ".":
        return _NAMED[kind]
    if kind == "c" and text[2:]:
        return ord(text[2]) % 32
    if kind in "ux" and text[2:]:
        return int(text[2:].strip("{}"), 16)
    return _CONTROLS.get(kind, ord(kind))


def _folded(mask: int) -> int:
    """Add the other case of each letter."""
    upper, lower = mask >> 65 & 0x3FFFFFF, mask >> 97 & 0x3FFFFFF
    return mask | upper << 97 | lower << 65


@dataclass(slots=True)
class _Members:
    """The members of a class while they are read."""

    known: int = 0
    maybe: int = 0
    others: bool | None = False

    def add(self, item: Atom | int, upto: int) -> None:
        if isinstance(item, Atom):
            self.known |= item.known
            self.maybe |= item.maybe
            if item.others is not False:
                self.others = item.others if self.others is False else None
            return
        if item < ASCII_SIZE:
            self.known |= ((1 << min(upto + 1, ASCII_SIZE)) - 1) & ~((1 << item) - 1)
        if upto >= ASCII_SIZE and self.others is False:
            self.others = None


def _class(text: str) -> Atom:
    """Read a class from ``[`` to ``]``."""
    negated = text[1] == "^"
    members, items = _Members(), _MEMBER.findall(text[1 + negated : -1])
    index = 0
    while index < len(items):
        item = _member(items[index])
        upto = item if isinstance(item, int) else 0
        if isinstance(item, int) and items[index + 1 : index + 2] == ["-"] and index + 2 < len(items):
            end = _member(items[index + 2])
            if isinstance(end, int):
                upto, index = max(end, item), index + 2
        members.add(item, upto)
        index += 1
    known, maybe = members.known, members.maybe & ~members.known
    if not negated:
        return Atom(text, known, maybe, members.others)
    others = None if members.others is None else not members.others
    return Atom(text, ASCII & ~known & ~maybe, maybe, others)


def _member(text: str) -> Atom | int:
    return _escaped(text) if text[0] == "\\" and len(text) > 1 else ord(text)


def _literal(code: int, text: str) -> Atom:
    return (
        Atom(text, 1 << code)
        if code < ASCII_SIZE
        else Atom(chr(code) if code <= sys.maxunicode else text, 0, others=None, exact=True)
    )


@dataclass(slots=True)
class Parsed:
    """A pattern as a tree, and what of its syntax matters for its cost."""

    tree: Choice
    boundaries: bool = False


class _Reader:
    """Reads a pattern from left to right, with a stack of the groups that are open."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.open = [Choice()]
        self.boundaries = False
        self.folds = False

    def read(self) -> Parsed:
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "(":
                self._begin()
            elif sign == "|":
                self.open[-1].branches.append([])
                self.at += 1
            elif sign == ")":
                if len(self.open) == 1:
                    raise Refused("patternSyntax", "has a ) without its (")
                self.at += 1
                self._add(self.open.pop())
            elif sign in "^$":
                self.at += 1
                self._add(Mark(sign))
            elif sign == "\\":
                self._escape()
            else:
                self._plain(sign)
        if len(self.open) > 1:
            raise Refused("patternSyntax", "has a ( without its )")
        return Parsed(self.open[0], self.boundaries)

    def _begin(self) -> None:
        head = _GROUP.match(self.text, self.at)
        if head is None:
            if self.text.startswith("(?", self.at):
                raise Refused("patternSyntax", "has a group that starts with (? and is of no known kind")
            self.at += 1
        else:
            self.at = head.end()
            if head[1]:
                raise Refused("patternLookAround", "looks around, with (?= (?! (?<= or (?<!, which is not supported")
            if head[2]:
                self._flags(head[2])
            if head[3] == ")":
                return
        if len(self.open) > _MAX_NESTING:
            raise Refused("patternCost", f"nests groups deeper than {_MAX_NESTING}")
        self.open.append(Choice())

    def _flags(self, flags: str) -> None:
        if not _FLAGS.issuperset(flags):
            raise Refused("patternSyntax", "has an inline flag other than i and s")
        self.folds = self.folds or "i" in flags

    def _escape(self) -> None:
        found = _ESCAPE.match(self.text, self.at)
        if found is None:
            raise Refused("patternSyntax", "ends in a backslash")
        text, kind = found[0], found[0][1]
        if kind in "123456789k":
            raise Refused("patternBackReference", "refers back to a group, which is not supported")
        if kind in "<>AzZG" or self.text.startswith(("b{", "B{"), found.end() - 1):
            raise Refused("patternSyntax", f"escapes {kind}, which has no meaning in ECMA-262")
        self.at = found.end()
        if kind in "bB":
            self.boundaries = True
            self._add(Mark("b"))
            return
        atom = _escaped(text)
        self._add(atom if isinstance(atom, Atom) else _literal(atom, text))

    def _plain(self, sign: str) -> None:
        if sign == "[":
            found = _CLASS.match(self.text, self.at)
            if found is None:
                raise Refused("patternSyntax", "has a [ without its ]")
            self.at = found.end()
            self._add(_class(found[0]))
            return
        self.at += 1
        self._add(_NAMED["."] if sign == "." else _literal(ord(sign), sign))

    def _add(self, node: Atom | Choice | Mark) -> None:
        low, high = self._repeats()
        if self.folds and isinstance(node, Atom):
            node = Atom(node.text, _folded(node.known), _folded(node.maybe), node.others or None)
        self.open[-1].branches[-1].append(Repeat(node, low, high))

    def _repeats(self) -> tuple[int, int | None]:
        sign = self.text[self.at : self.at + 1]
        bounds: tuple[int, int | None] = (1, 1)
        if sign and sign in "*+?":
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            self.at += 1
        elif count := _COUNT.match(self.text, self.at):
            low = int(count[1])
            bounds = (low, low if not count[2] else int(count[3]) if count[3] else None)
            self.at = count.end()
        else:
            return bounds
        if self.text.startswith("?", self.at):
            self.at += 1
        if self.text[self.at : self.at + 1] in tuple("*+?") or _COUNT.match(self.text, self.at):
            raise Refused("patternSyntax", "repeats a repetition")
        return bounds


def read(pattern: str) -> Parsed:
    """Read a pattern.

    Raises:
        Refused: if it is of a kind that is not taken; some wrong syntax is left for the engine to find.
    """
    return _Reader(pattern).read()
