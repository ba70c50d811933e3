r"""Patterns of ECMA-262 for Python's own engine: those that mean the same there and can't go back and forth for long.

Python's ``$`` also matches before a last newline, its ``\d``, ``\w`` and ``\s`` know all scripts, ``\Z`` and ``a++``
mean something that ECMA-262 doesn't know. So a pattern is read in full and written anew, each class as its code points.
What isn't read here is refused, among it ``\b``, ``\p{…}``, back-references, look-around and inline flags.

Python tries one way after the other. If at each repetition and alternative the next character says which way is right,
it never goes back far: the time is linear in the text. Where it doesn't say, the ways multiply: they may come to
``MAX_WAYS`` at most, and what repeats without bounds must be certain, unless a ``maxLength`` beside the pattern bounds
it. A pattern that doesn't begin with ``^`` is tried from each character on, so there its longest match counts too.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.patterns import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    Ranges = tuple[tuple[int, int], ...]

MAX_CHARACTERS: Final = 1_000
MAX_WAYS: Final = 100
MAX_STEPS: Final = 1_000_000
"""Ways times characters, where a ``maxLength`` of at most ``MAX_LONGEST`` stands beside the pattern: about 20 ms."""
MAX_LONGEST: Final = 1_000
_MAX_NESTING: Final = 20
_MAX_COUNT: Final = 10_000
_COUNT: Final = re.compile(r"\{([0-9]{1,5})(?:(,)([0-9]{0,5}))?\}")
_GROUP: Final = re.compile(r"\((?:\?(?::|<[A-Za-z_][A-Za-z0-9_]*>))?(?!\?)")
_ESCAPE: Final = re.compile(
    r"\\(?:u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2})|c([A-Za-z])|(.))", re.DOTALL
)
_CONTROLS: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11}
_PUNCTUATION: Final = frozenset("^$\\.*+?()[]{}|/-")


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return tuple(result)


def _others(ranges: Ranges) -> Ranges:
    """Give all code points that are not in these."""
    result, start = [], 0
    for low, high in ranges:
        if start < low:
            result.append((start, low - 1))
        start = high + 1
    if start <= sys.maxunicode:
        result.append((start, sys.maxunicode))
    return tuple(result)


def _meet(one: Ranges, other: Ranges) -> bool:
    return any(low <= top and bottom <= high for low, high in one for bottom, top in other)


_DIGITS: Final = ((48, 57),)
_WORDS: Final = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACES: Final = _merged([
    (9, 13), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
])  # fmt: skip
_END: Final = ((-2, -2),)
"""Stands for the end of a pattern among the characters that may follow."""
_ANY: Final = rf"[\x00-\U{sys.maxunicode:08x}]"
_NAMED: Final = {
    "d": _DIGITS,
    "D": _others(_DIGITS),
    "w": _WORDS,
    "W": _others(_WORDS),
    "s": _SPACES,
    "S": _others(_SPACES),
    ".": _others(((10, 10),)),
}


def _between(start: Ranges, end: Ranges) -> Ranges:
    """Give the range from one code point to another."""
    codes = {each for ranges in (start, end) for each in ranges}
    if not len(start) == len(end) == 1 or any(low != high for low, high in codes) or start > end:
        raise Refused("patternSyntax", "has a range in [ ] that is none")
    return ((start[0][0], end[0][0]),)


@dataclass(frozen=True, slots=True)
class _Chars:
    """One character of a class; or, without any, a place: the beginning or the end."""

    ranges: Ranges
    place: str = ""


@dataclass(slots=True)
class _Group:
    """Alternatives, each a sequence."""

    branches: list[list[_Repeat]] = field(default_factory=lambda: [[]])


@dataclass(frozen=True, slots=True)
class _Repeat:
    node: _Chars | _Group
    low: int = 1
    high: int | None = 1
    lazy: bool = False


class _Reader:
    """Reads a pattern from left to right, with a stack of the groups that are open."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.open = [_Group()]

    def read(self) -> _Group:
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "(":
                self._begin()
                continue
            if sign == "\\":
                self._add(_Chars(self._escape()))
                continue
            self.at += 1
            if sign == "|":
                self.open[-1].branches.append([])
            elif sign == ")" and len(self.open) > 1:
                self._add(self.open.pop())
            elif sign in "^$":
                self._add(_Chars((), sign))
            elif sign == "[":
                self._add(_Chars(self._class()))
            elif sign == ".":
                self._add(_Chars(_NAMED["."]))
            elif sign in _PUNCTUATION - {"/", "-"}:
                raise Refused(
                    "patternUnsupported", f"has a {sign} at a place where the python validator doesn't know it"
                )
            else:
                self._add(_Chars(((ord(sign), ord(sign)),)))
        if len(self.open) > 1:
            raise Refused("patternSyntax", "has a ( without its )")
        return self.open[0]

    def _begin(self) -> None:
        head = _GROUP.match(self.text, self.at)
        if head is None:
            raise Refused("patternUnsupported", "has a group that the python validator doesn't know")
        if len(self.open) > _MAX_NESTING:
            raise Refused("patternCost", f"nests groups deeper than {_MAX_NESTING}")
        self.at = head.end()
        self.open.append(_Group())

    def _escape(self) -> Ranges:
        found = _ESCAPE.match(self.text, self.at)
        if found is None:
            raise Refused("patternSyntax", "ends in a backslash")
        self.at = found.end()
        digits, sign = found[1] or found[2] or found[3], found[5]
        if digits:
            code = int(digits, 16)
        elif found[4]:
            code = ord(found[4]) % 32
        elif sign in _NAMED and sign != ".":
            return _NAMED[sign]
        elif sign in _CONTROLS:
            code = _CONTROLS[sign]
        elif sign in _PUNCTUATION:
            code = ord(sign)
        else:
            raise Refused("patternUnsupported", f"escapes {sign}, which the python validator doesn't know")
        if code > sys.maxunicode or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 -- the surrogates
            raise Refused("patternUnsupported", "escapes half a character: write it as one, \\u{…}")
        return ((code, code),)

    def _class(self) -> Ranges:
        negated = self.text.startswith("^", self.at)
        self.at += negated
        ranges: list[tuple[int, int]] = []
        while (sign := self.text[self.at : self.at + 1]) != "]":
            if not sign:
                raise Refused("patternSyntax", "has a [ without its ]")
            item = self._member()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                end = self._member()
                if (
                    len(item) > 1
                    or len(end) > 1
                    or item[0][0] != item[0][1]
                    or not item[0][0] <= end[0][0] == end[0][1]
                ):
                    raise Refused("patternSyntax", "has a range in [ ] that is none")
                item = ((item[0][0], end[0][0]),)
            ranges += item
        self.at += 1
        members = _others(_merged(ranges)) if negated else _merged(ranges)
        if not ranges or not members:
            raise Refused("patternUnsupported", "has a class of nothing, or of everything but nothing: [] or [^]")
        return members

    def _member(self) -> Ranges:
        sign = self.text[self.at : self.at + 1]
        if sign == "\\":
            return self._escape()
        if sign == "[" or self.text[self.at : self.at + 2] in {"&&", "--", "~~"}:
            raise Refused("patternUnsupported", f"has {sign} in [ ]: write \\{sign}")
        self.at += 1
        return ((ord(sign), ord(sign)),) if sign else ()

    def _add(self, node: _Chars | _Group) -> None:
        self.open[-1].branches[-1].append(self._repeated(node))

    def _repeated(self, node: _Chars | _Group) -> _Repeat:
        low: int
        high: int | None
        sign = self.text[self.at : self.at + 1]
        if sign and sign in "*+?":
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            self.at += 1
        elif count := _COUNT.match(self.text, self.at):
            low = int(count[1])
            high = low if not count[2] else int(count[3]) if count[3] else None
            self.at = count.end()
        else:
            return _Repeat(node)
        if isinstance(node, _Chars) and node.place:
            raise Refused("patternUnsupported", f"repeats {node.place}")
        if max(low, high or 0) > _MAX_COUNT or (high is not None and high < low):
            raise Refused("patternCost", f"repeats more than {_MAX_COUNT} times, or less than never")
        lazy = self.text.startswith("?", self.at)
        self.at += lazy
        return _Repeat(node, low, high, lazy)


def _can_be_empty(item: _Repeat) -> bool:
    if item.low == 0:
        return True
    if isinstance(item.node, _Chars):
        return bool(item.node.place)
    return any(all(map(_can_be_empty, branch)) for branch in item.node.branches)


def _first(node: _Chars | _Group) -> Ranges:
    """Give the characters that it can begin with."""
    if isinstance(node, _Chars):
        return node.ranges
    ranges: list[tuple[int, int]] = []
    for branch in node.branches:
        for item in branch:
            ranges += _first(item.node)
            if not _can_be_empty(item):
                break
    return _merged(ranges)


class _Judge:
    """Counts the ways in which a pattern can match one and the same text of at most ``longest`` characters."""

    def __init__(self, longest: int | None) -> None:
        self._without_bounds = MAX_WAYS + 1 if longest is None else longest + 1
        self._most = MAX_WAYS if longest is None else max(MAX_STEPS // (longest + 1), MAX_WAYS)

    def ways(self, group: _Group, after: Ranges) -> int:
        """Count the ways through a group that stands before one of the characters ``after``."""
        counted: list[tuple[Ranges, int]] = []
        for branch in group.branches:
            ways, follow = 1, after
            for item in reversed(branch):
                ways = self.bounded(ways * self._ways_of(item, follow))
                follow = _merged([*_first(item.node), *(follow if _can_be_empty(item) else ())])
            counted.append((follow, ways))
        alike = (sum(ways for other, ways in counted if _meet(first, other)) for first, _ in counted)
        return self.bounded(max(alike, default=1))

    def _ways_of(self, item: _Repeat, after: Ranges) -> int:
        first, ways = _first(item.node), 1
        high = self._without_bounds + item.low if item.high is None else item.high
        if isinstance(item.node, _Group):
            again = item.high != 1
            if again and _can_be_empty(_Repeat(item.node)):
                raise Refused("patternCost", "repeats what can be empty, which the python validator doesn't take")
            once = self.ways(item.node, _merged([*first, *after]) if again else after)
            ways = self.bounded(once**high)
        if item.low != item.high and (_meet(first, after) or _can_be_empty(_Repeat(item.node))):
            ways *= max(1 + high - item.low, 1)
        return self.bounded(ways)

    def bounded(self, ways: int) -> int:
        """Give a number of ways back.

        Raises:
            Refused: if there are too many.
        """
        if ways > self._most:
            text = "matches in too many ways for the python validator: let the next character decide, or set maxLength"
            raise Refused("patternCost", text)
        return ways


def _longest(group: _Group, *, outermost: bool = False) -> int:
    """Give the length of the longest match; after the last thing that must be found, nothing is tried again."""
    longest = 0
    for branch in group.branches:
        length = 0
        for number, item in enumerate(branch, 1):
            high = item.high
            if outermost and number == len(branch) and isinstance(item.node, _Chars):
                high = item.low
            if high is None:
                raise Refused(
                    "patternCost", "can match a text of any length: begin it with ^, for the python validator"
                )
            each = _longest(item.node) if isinstance(item.node, _Group) else int(not item.node.place)
            length += high * each
        longest = max(longest, length)
    return longest


def _written(node: _Chars | _Group) -> str:
    if isinstance(node, _Group):
        return f"(?:{'|'.join(''.join(map(_repeat_written, branch)) for branch in node.branches)})"
    if node.place:
        return r"\A" if node.place == "^" else r"\Z"
    return f"[{''.join(_code(low) if low == high else f'{_code(low)}-{_code(high)}' for low, high in node.ranges)}]"


def _code(code: int) -> str:
    return f"\\x{code:02x}" if code <= 0xFF else f"\\U{code:08x}"  # noqa: PLR2004 -- two digits


def _repeat_written(item: _Repeat) -> str:
    text = _written(item.node)
    if (item.low, item.high) != (1, 1):
        text += f"{{{item.low},{'' if item.high is None else item.high}}}{'?' if item.lazy else ''}"
    return text


def translated(pattern: str, longest: float | None = None) -> str:
    """Write a pattern for ``re.search``, with the meaning that ECMA-262 has for it.

    ``longest`` is the ``maxLength`` that stands beside it: a longer text is wrong anyway, and need not match.

    Raises:
        Refused: if it is of a kind that is not taken.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise Refused("patternSize", f"is longer than {MAX_CHARACTERS} characters, too long for the python validator")
    tree = _Reader(strict_pattern(pattern)).read()
    begins = _Repeat(_Chars((), "^"))
    if not all(branch[:1] == [begins] for branch in tree.branches):
        judge = _Judge(None)
        judge.bounded(judge.ways(tree, _END) * _longest(tree, outermost=True))
        return _written(tree)
    try:
        _Judge(None).ways(tree, _END)
    except Refused:
        if longest is None or longest > MAX_LONGEST:
            raise
        most = int(longest)
        _Judge(most).ways(tree, _END)
        return rf"\A(?!{_ANY}{{{most + 1}}}){_written(tree)}"
    return _written(tree)
