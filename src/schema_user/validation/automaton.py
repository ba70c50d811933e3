"""How many states a pattern's automaton has when it is walked as the linear engine walks it: lazily, set by set.

The engine steps through text in constant time for each byte as long as the sets of positions that it can be in are
few; a pattern that makes more and more new sets (``x.{100}y`` on random text) costs positions x text instead. This is
Glushkov's construction followed by the subset construction, stopped at a limit. Characters are taken by what the
pattern can tell apart; what is not known of them (which letters ``\\p{L}`` has) counts as both, so that the result is
never too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ASCII: Final = (1 << 128) - 1
_MAX_POSITIONS: Final = 3_000
_MAX_UNKNOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Atom:
    """One character of a class: of ASCII surely those of ``known`` and perhaps those of ``maybe``; others or not."""

    text: str
    known: int
    maybe: int = 0
    others: bool | None = False
    """Whether characters beyond ASCII match; None if some do."""


@dataclass(slots=True)
class Choice:
    """A group or the whole: alternatives, each a sequence of repeated nodes."""

    branches: list[list[Repeat]] = field(default_factory=lambda: [[]])


@dataclass(frozen=True, slots=True)
class Mark:
    """Something of no width: ``^``, ``$`` or ``b`` for a word boundary."""

    kind: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A node at least ``low`` and at most ``high`` times; None is without end."""

    node: Atom | Choice | Mark
    low: int = 1
    high: int | None = 1


class TooWide(Exception):
    """The automaton is larger than the limit, or finding out would cost too much."""


@dataclass(slots=True)
class _Part:
    """What Glushkov's construction knows of a part; sets of positions are the bits of an integer.

    ``at_start`` and ``empty_at_start`` hold where ``^`` is true, the others where it is not. ``$`` is never passed:
    nothing can follow it.
    """

    first: int = 0
    last: int = 0
    empty: bool = True
    at_start: int = 0
    empty_at_start: bool = True

    def skipped(self) -> _Part:
        """Allow that the part is left out."""
        return _Part(self.first, self.last, empty=True, at_start=self.at_start, empty_at_start=True)


class _Builder:
    """Positions of one pattern with what may follow each."""

    def __init__(self, max_steps: int) -> None:
        self.atoms: list[Atom] = []
        self.follow: list[int] = []
        self._left = max_steps

    def choice(self, node: Choice) -> _Part:
        whole = _Part(empty=False, empty_at_start=False)
        for branch in node.branches:
            part = _Part()
            for item in branch:
                part = self._then(part, self._repeat(item))
            whole.first |= part.first
            whole.last |= part.last
            whole.at_start |= part.at_start
            whole.empty |= part.empty
            whole.empty_at_start |= part.empty_at_start
        return whole

    def _link(self, last: int, first: int) -> None:
        self._left -= 1 + last.bit_count()
        if self._left < 0:
            raise TooWide
        if first:
            for position in bits(last):
                self.follow[position] |= first

    def _then(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        return _Part(
            first=left.first | (right.first if left.empty else 0),
            last=right.last | (left.last if right.empty else 0),
            empty=left.empty and right.empty,
            at_start=left.at_start | (right.at_start if left.empty_at_start else 0),
            empty_at_start=left.empty_at_start and right.empty_at_start,
        )

    def _repeat(self, item: Repeat) -> _Part:
        if item.high is None:
            return self._unending(item)
        whole, ends = _Part(), 0
        for count in range(item.high):
            if count >= item.low:
                ends |= whole.last
            one = self._once(item.node)
            if not (one.first or one.at_start):
                return one if item.low else one.skipped()
            whole = self._then(whole, one)
        whole.last |= ends
        return whole if item.low else whole.skipped()

    def _unending(self, item: Repeat) -> _Part:
        whole, one = _Part(), _Part()
        for _ in range(max(item.low, 1)):
            one = self._once(item.node)
            whole = self._then(whole, one)
        self._link(one.last, one.first)
        return whole if item.low else whole.skipped()

    def _once(self, node: Atom | Choice | Mark) -> _Part:
        if isinstance(node, Choice):
            return self.choice(node)
        if isinstance(node, Mark):
            return _Part(empty=node.kind == "b", empty_at_start=node.kind != "$")
        if len(self.atoms) >= _MAX_POSITIONS:
            raise TooWide
        self.atoms.append(node)
        self.follow.append(0)
        here = 1 << (len(self.atoms) - 1)
        return _Part(here, here, empty=False, at_start=here, empty_at_start=False)


def bits(number: int) -> Iterator[int]:
    """Give the indexes of the bits that are set."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _letters(atoms: Sequence[Atom]) -> list[int]:
    """Tell characters apart as far as the atoms do: for each kind, the positions that take it."""
    kinds = list(dict.fromkeys(atoms))
    unknown = [kind for kind in kinds if kind.maybe or kind.others is None]
    if len(unknown) > _MAX_UNKNOWN:
        raise TooWide
    places = dict.fromkeys(kinds, 0)
    for index, atom in enumerate(atoms):
        places[atom] |= 1 << index
    signatures = {tuple((kind.known >> code & 1, kind.maybe >> code & 1) for kind in kinds) for code in range(128)}
    signatures.add(tuple((1 if kind.others else 0, 1 if kind.others is None else 0) for kind in kinds))
    letters: set[int] = set()
    for signature in signatures:
        doubtful = [kind for kind, (_, maybe) in zip(kinds, signature, strict=True) if maybe]
        sure = sum(places[kind] for kind, (known, _) in zip(kinds, signature, strict=True) if known)
        for chosen in product((0, 1), repeat=len(doubtful)):
            letters.add(sure + sum(places[kind] for kind, take in zip(doubtful, chosen, strict=True) if take))
    return [letter for letter in letters if letter]


@dataclass(frozen=True, slots=True)
class Walk:
    """What walking the automaton showed: its states, the most positions in one, and the steps that it took."""

    states: int
    widest: int
    steps: int


def walk(pattern: Choice, *, max_states: int, max_steps: int) -> Walk:
    """Walk the sets of positions that some text can lead to, up to where a match is certain.

    Raises:
        TooWide: if there are more than ``max_states``, or finding them takes more than ``max_steps``.
    """
    builder = _Builder(max_steps)
    whole = builder.choice(pattern)
    if whole.empty or whole.empty_at_start:
        return Walk(1, 0, 1)
    letters = _letters(builder.atoms)
    seen = {whole.at_start}
    queue = [whole.at_start]
    widest = steps = 0
    while queue:
        state = queue.pop()
        widest = max(widest, state.bit_count())
        for letter in letters:
            taken = state & letter
            steps += 1 + taken.bit_count()
            if steps > max_steps:
                raise TooWide
            if taken & whole.last:
                continue
            after = whole.first
            for position in bits(taken):
                after |= builder.follow[position]
            if after not in seen:
                if len(seen) >= max_states:
                    raise TooWide
                seen.add(after)
                queue.append(after)
    return Walk(len(seen), widest, steps)
