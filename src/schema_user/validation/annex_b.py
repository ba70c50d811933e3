r"""Patterns that ECMA-262 takes and engines don't, written anew with the same meaning.

JSON Schema asks for patterns that are right with the flag ``u``. Many published ones are right only without it, by
Annex B of ECMA-262, which browsers keep to (B.1.2): a ``]``, ``}`` or ``{`` that closes or opens nothing stands for
itself, and where a class such as ``\w`` stands at an end of a range, as in ``[\w-.]``, there is no range but both ends
and a hyphen. Also written anew is what is right with and without the flag: ``[]``, ``[^]`` and the backspace ``[\b]``.

Annex B also has meanings that nobody intends, such as ``\A`` for an A; those stay as they are, for the engine to
refuse, and so does a pattern that is right neither with the flag nor without.
"""

from __future__ import annotations

import re
from typing import Final

ESCAPE: Final = re.compile(
    r"\\(?:[pP](?:\{[^}]*\}|.)|u\{[0-9A-Fa-f]{1,6}\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|c[A-Za-z]|.)", re.DOTALL
)
"""An escape sequence, whole."""

_SUSPECT: Final = re.compile(r"[\]{}]|\\b")
"""Without any of these nothing is to be written anew."""
_QUANTIFIER: Final = re.compile(r"\{\d+(?:,\d*)?\}")
_SETS: Final = frozenset("dDsSwWpP")
_NOTHING: Final = r"[^\s\S]"
_ANYTHING: Final = r"[\s\S]"
_BACKSPACE: Final = r"\b"
_WRITTEN: Final = {_BACKSPACE: r"\x08", "-": r"\-"}
"""Members of a class that is written anew: a bare hyphen could come to stand between two others."""


def strict_pattern(pattern: str) -> str:
    """Write a pattern so that an engine that knows the flag ``u`` only takes it; in linear time.

    What needs no change, or would have another meaning, comes back as it is. Writing twice is writing once.
    """
    if not _SUSPECT.search(pattern):
        return pattern
    loose = not any(found[0][1] in "pPu" and found[0][2:3] == "{" for found in ESCAPE.finditer(pattern))
    written: list[str] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            end = _escape_end(pattern, at)
            written.append(pattern[at:end])
        elif sign == "[":
            text, end = _class(pattern, at, loose=loose)
            written.append(text)
        elif sign == "{" and (count := _QUANTIFIER.match(pattern, at)):
            end = count.end()
            written.append(count[0])
        else:
            end = at + 1
            written.append("\\" + sign if loose and sign in "]{}" else sign)
        at = end
    return "".join(written)


def _escape_end(pattern: str, at: int) -> int:
    found = ESCAPE.match(pattern, at)
    return found.end() if found else len(pattern)


def _class(pattern: str, start: int, *, loose: bool) -> tuple[str, int]:
    """Write the class that begins at ``start``; give it, and where it ends. One that is right stays as it is."""
    at = start + 1 + pattern.startswith("^", start + 1)
    written, changed = [pattern[start:at]], False
    if pattern.startswith("]", at):
        return _ANYTHING if at > start + 1 else _NOTHING, at + 1
    while at < len(pattern) and pattern[at] != "]":
        low, at = _member(pattern, at)
        written.append(_WRITTEN.get(low, low))
        changed = changed or low == _BACKSPACE
        if not pattern.startswith("-", at) or pattern.startswith("-]", at) or at + 1 == len(pattern):
            continue
        high, at = _member(pattern, at + 1)
        no_range = loose and (_is_set(low) or _is_set(high))
        written += [r"\-" if no_range else "-", _WRITTEN.get(high, high)]
        changed = changed or no_range or high == _BACKSPACE
    end = at + 1
    return "".join(written) + pattern[at:end] if changed else pattern[start:end], end


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Read one member of a class, which may be an end of a range; give it, and where it ends."""
    end = _escape_end(pattern, at) if pattern[at] == "\\" else at + 1
    return pattern[at:end], end


def _is_set(member: str) -> bool:
    return member[0] == "\\" and member[1:2] in _SETS
