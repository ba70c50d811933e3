r"""What a regular expression in a schema may cost.

The engine behind ``pattern`` is linear in the text, but a pattern that keeps it in ever new places costs places x text,
with the interpreter's lock held: on 1 MiB ``x.{100}y`` takes 0.7 s, ``\p{L}{100}x`` 3.5 s, and bred ones minutes. The
size that a pattern compiles to doesn't tell them from honest ones: ``^[\p{L} '-]{1,200}$`` compiles to 8.7 MB and takes
no time, ``^((a|b|ab){10,20})*$`` to 5 KB and takes 0.4 s. So a pattern is taken if

- its automaton, walked as the engine walks it (``automaton.py``), has at most ``MAX_LOAD`` states that a text can come
  back to, and few enough in all to be walked: then each byte is one look-up. A state with ``.`` or a negated class
  counts as 6, one with a property such as ``\p{L}`` as 60, for their UTF-8; as more if the engine may read backwards;
- with a ``\b``, which beyond ASCII the engine can't look up, it is in at most ``MAX_WIDTH`` places at once;
- it is of at most ``MAX_CHARACTERS`` and compiles to at most ``MAX_BYTES``, and all patterns of a schema together to
  about ``MAX_TOTAL_BYTES``.

Measured with jsonschema-rs 0.60.3 on 1 MiB of nine texts, over 4,521 patterns bred for being slow: the slowest that is
taken needs 234 ms. Of 1,247 patterns in published schemas the first two rules refuse 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs

from schema_user.validation.automaton import Atom, Choice, Mark, TooWide, begins_at_start, mirrored, walk
from schema_user.validation.pattern_reader import Parsed, Refused, read

if TYPE_CHECKING:
    from schema_user.validation.automaton import Repeat

MAX_LOAD: Final = 1_000
MAX_WIDTH: Final = 13
MAX_BYTES: Final = 10 * 1024 * 1024
_LOOK_UP_BYTES: Final = 2 * 1024 * 1024
PATTERN_OPTIONS: Final = jsonschema_rs.RegexOptions(size_limit=MAX_BYTES, dfa_size_limit=_LOOK_UP_BYTES)
"""The linear engine, for every schema that is compiled; the look-up is made while a text is read."""
MAX_CHARACTERS: Final = 16 * 1024
MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024
_MAX_STATES: Final = 5_000
_WEIGHTS: Final = (1, 6, 60)
_BACKWARD_WEIGHTS: Final = (1, 12, 600)
_MAX_STEPS: Final = 250_000
_MAX_TOTAL_STEPS: Final = 1_000_000
_STEPS_FOR_EACH: Final = 200
_ADVICE: Final = "begin it with ^, repeat less, or end what is repeated with what can't be in it"
_PROPERTY_BYTES: Final = 46_000
_UNICODE_BYTES: Final = 1_100
_ASCII_BYTES: Final = 150
_HELD_FOR_EACH: Final = 1.6


def _bytes(node: Choice) -> float:
    """Estimate what a pattern compiles to, generously: measured are 43 KB for a property such as L, 1 KB for a dot."""
    return sum(_repeated(item) for branch in node.branches for item in branch)


def _repeated(item: Repeat) -> float:
    if isinstance(item.node, Choice):
        once = _bytes(item.node)
    elif not isinstance(item.node, Atom):
        once = 0
    elif item.node.text.isascii() and item.node.others is False:
        once = _ASCII_BYTES
    else:
        once = _PROPERTY_BYTES if "\\p" in item.node.text.lower() else _UNICODE_BYTES
    return once * max(item.high if item.high is not None else item.low, 1)


def _compiles(pattern: str) -> bool:
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=PATTERN_OPTIONS)
    except ValueError:
        return False
    return True


def compiled_bytes(document: Any) -> int:
    """Estimate the memory that the patterns of a schema hold once compiled, each counted once."""
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
    return sum(map(_held, patterns))


def _held(pattern: str) -> int:
    try:
        return int(min(_bytes(read(pattern).tree), MAX_BYTES) * _HELD_FOR_EACH)
    except Refused:
        return 0


class PatternBudget:
    """Judges the patterns of one schema, each once, within what one schema may cost to judge and to compile."""

    def __init__(self) -> None:
        self._judged: dict[str, Refused | None] = {}
        self._steps = _MAX_TOTAL_STEPS
        self._bytes: float = MAX_TOTAL_BYTES

    def refusal(self, pattern: str) -> Refused | None:
        """Say why a pattern is not taken, or None."""
        if pattern not in self._judged:
            try:
                self._judge(pattern)
            except Refused as refused:
                self._judged[pattern] = refused
            else:
                self._judged[pattern] = None
        return self._judged[pattern]

    def _judge(self, pattern: str) -> None:
        if len(pattern) > MAX_CHARACTERS:
            raise Refused("patternSize", f"is longer than {MAX_CHARACTERS} characters")
        if self._steps <= 0:
            raise Refused("patternCost", "comes after patterns that together take too long to judge")
        self._steps -= _STEPS_FOR_EACH
        parsed = read(pattern)
        self._walk(parsed)
        size = _bytes(parsed.tree)
        if self._bytes < size:
            raise Refused("patternSize", f"and the patterns before it compile to more than {MAX_TOTAL_BYTES} bytes")
        self._bytes -= size
        if _compiles(pattern):
            return
        if size > MAX_BYTES / 2:
            raise Refused("patternSize", f"compiles to more than {MAX_BYTES} bytes: repeat less")
        raise Refused("patternSyntax", "is no regular expression of ECMA-262 that the linear engine takes")

    def _walk(self, parsed: Parsed) -> None:
        self._walk_one(parsed, parsed.tree, _WEIGHTS)
        if not begins_at_start(parsed.tree) and _has_end(parsed.tree):
            self._walk_one(parsed, mirrored(parsed.tree), _BACKWARD_WEIGHTS)

    def _walk_one(self, parsed: Parsed, tree: Choice, weights: tuple[int, int, int]) -> None:
        steps, certain = min(_MAX_STEPS, self._steps), not parsed.boundaries
        try:
            walked = walk(tree, max_states=_MAX_STATES, max_steps=steps, certain=certain, weights=weights)
        except TooWide:
            self._steps -= steps
            raise Refused("patternCost", f"can be in more than {MAX_LOAD} states: {_ADVICE}") from None
        self._steps -= walked.steps
        if walked.load > MAX_LOAD:
            raise Refused("patternCost", f"can be in more than {MAX_LOAD} states: {_ADVICE}")
        if parsed.boundaries and walked.width + _forks(tree) > MAX_WIDTH:
            raise Refused("patternCost", f"has a \\b and can be in more than {MAX_WIDTH} places at once: {_ADVICE}")


def _forks(node: Choice) -> int:
    """Count the repetitions that can end early: at each, the engine without look-up goes two ways."""
    count = 0
    for item in (item for branch in node.branches for item in branch):
        inside = _forks(item.node) if isinstance(item.node, Choice) else 0
        count += inside * max(item.high or item.low, 1)
        count += 1 if item.high is None else item.high - item.low
    return count


def _has_end(node: Choice) -> bool:
    """Tell whether a ``$`` is in it: then the engine may read from the end."""
    items = [item.node for branch in node.branches for item in branch]
    return any(item == Mark("$") or (isinstance(item, Choice) and _has_end(item)) for item in items)
