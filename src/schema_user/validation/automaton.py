r"""How many states a pattern's automaton has when it is walked as the linear engine walks it: lazily, set by set.

The engine steps through text in constant time for each byte as long as the sets of positions that it can be in are
few; a pattern that makes more and more new sets (``x.{100}y`` on random text) costs positions x text instead. This is
Glushkov's construction followed by the subset construction, stopped at a limit. Characters are taken by what the
pattern can tell apart; what is not known of them (which letters ``\p{L}`` has) counts as both, so that the result is
never too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    _Group = tuple[int, int, list[int]]

ASCII_SIZE: Final = 128
ASCII: Final = (1 << ASCII_SIZE) - 1
_MAX_POSITIONS: Final = 3_000
_MAX_UNKNOWN: Final = 5
_WIDTHS: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Atom:
    """One character of a class: of ASCII surely those of ``known`` and perhaps those of ``maybe``; others or not."""

    text: str
    known: int
    maybe: int = 0
    others: bool | None = False
    """Whether characters beyond ASCII match; None if some do."""
    exact: bool = False
    """Whether it is one character beyond ASCII and no other."""

    def is_unknown(self) -> bool:
        """Tell whether it is not known which characters it takes."""
        return bool(self.maybe) or (self.others is None and not self.exact)


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


def mirrored(node: Choice) -> Choice:
    """Turn a pattern around, so that it reads text from its end."""
    return Choice([[_turned(item) for item in reversed(branch)] for branch in node.branches])


def _turned(item: Repeat) -> Repeat:
    node = item.node
    if isinstance(node, Choice):
        return replace(item, node=mirrored(node))
    if isinstance(node, Mark):
        return replace(item, node=Mark({"^": "$", "$": "^"}.get(node.kind, node.kind)))
    return item


def begins_at_start(node: Choice) -> bool:
    """Tell whether every alternative begins with ``^``."""
    return all(branch and _is_start(branch[0]) for branch in node.branches)


def _is_start(item: Repeat) -> bool:
    if isinstance(item.node, Choice):
        return item.low > 0 and begins_at_start(item.node)
    return item.node == Mark("^")


class TooWide(Exception):
    """The automaton is larger than the limit, or finding out would cost too much."""


@dataclass(slots=True)
class _Part:
    """What Glushkov's construction knows of a part.

    ``first`` are the positions that can begin it, most preferred first; the bits of ``last`` those that can end it.
    ``at_start`` and ``empty_at_start`` hold where ``^`` is true, the others where it is not. ``$`` is never passed:
    nothing can follow it.
    """

    first: tuple[int, ...] = ()
    last: int = 0
    empty: bool = True
    at_start: tuple[int, ...] = ()
    empty_at_start: bool = True

    def skipped(self) -> _Part:
        """Allow that the part is left out."""
        return replace(self, empty=True, empty_at_start=True)


class _Builder:
    """Positions of one pattern with what may follow each, most preferred first."""

    def __init__(self, max_steps: int) -> None:
        self.atoms: list[Atom] = []
        self.follow: list[list[int]] = []
        self._left = max_steps

    def choice(self, node: Choice) -> _Part:
        parts = []
        for branch in node.branches:
            part = _Part()
            for item in branch:
                part = self._then(part, self._repeat(item))
            parts.append(part)
        last = 0
        for part in parts:
            last |= part.last
        return _Part(
            first=tuple(chain.from_iterable(part.first for part in parts)),
            last=last,
            empty=any(part.empty for part in parts),
            at_start=tuple(chain.from_iterable(part.at_start for part in parts)),
            empty_at_start=any(part.empty_at_start for part in parts),
        )

    def _spend(self, steps: int) -> None:
        self._left -= 1 + steps
        if self._left < 0:
            raise TooWide

    def _link(self, last: int, first: tuple[int, ...]) -> None:
        self._spend(last.bit_count() * (1 + len(first)))
        for position in bits(last):
            self.follow[position].extend(first)

    def _then(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        self._spend(len(left.first) + len(left.at_start))
        return _Part(
            first=left.first + right.first if left.empty else left.first,
            last=right.last | (left.last if right.empty else 0),
            empty=left.empty and right.empty,
            at_start=left.at_start + right.at_start if left.empty_at_start else left.at_start,
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
            if not (one.first or one.at_start):
                break
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
        here = len(self.atoms)
        self.atoms.append(node)
        self.follow.append([])
        return _Part((here,), 1 << here, empty=False, at_start=(here,), empty_at_start=False)


def bits(number: int) -> Iterator[int]:
    """Give the indexes of the bits that are set."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _letters(atoms: Sequence[Atom]) -> list[int]:
    """Tell characters apart as far as the atoms do: for each kind, the positions that take it."""
    kinds = list(dict.fromkeys(atoms))
    if sum(kind.is_unknown() for kind in kinds) > _MAX_UNKNOWN:
        raise TooWide
    places = dict.fromkeys(kinds, 0)
    for index, atom in enumerate(atoms):
        places[atom] |= 1 << index
    groups: list[_Group] = [(ASCII, 0, [])]
    for kind in kinds:
        groups = [part for group in groups for part in _split(group, kind, places[kind])]
    others = sum(places[kind] for kind in kinds if kind.others)
    doubtful = [places[kind] for kind in kinds if kind.others is None and not kind.exact]
    exact = [places[kind] for kind in kinds if kind.exact]
    groups += [(0, others | one, doubtful) for one in (0, *exact)]
    letters: set[int] = set()
    for _, sure, doubts in groups:
        for chosen in product((0, 1), repeat=len(doubts)):
            letters.add(sure | sum(place for place, take in zip(doubts, chosen, strict=True) if take))
    return sorted(letters)


def _split(group: _Group, kind: Atom, place: int) -> Iterator[_Group]:
    """Split characters by whether an atom surely takes them, perhaps takes them, or doesn't."""
    members, sure, doubts = group
    if known := members & kind.known:
        yield known, sure | place, doubts
    if maybe := members & kind.maybe & ~kind.known:
        yield maybe, sure, [*doubts, place]
    if rest := members & ~kind.known & ~kind.maybe:
        yield rest, sure, doubts


@dataclass(frozen=True, slots=True)
class Walk:
    """What walking the automaton showed.

    ``load`` counts the states that a text can come back to, ``width`` the positions in the widest state; in both,
    what has characters beyond ASCII counts for as many as its UTF-8 has. ``steps`` is what the walk took.
    """

    load: int
    width: int
    steps: int


def walk(
    pattern: Choice,
    *,
    max_states: int,
    max_steps: int,
    certain: bool = True,
    weights: tuple[int, int, int] = (1, 6, 60),
) -> Walk:
    """Walk the lists of positions that some text can lead to.

    The engine keeps positions in the order of preference, so lists count, not sets. With ``certain`` the walk stops
    where a match is sure. ``weights`` are those of an atom in ASCII, of one beyond, and of one with a property.

    Raises:
        TooWide: if there are more than ``max_states``, or finding them takes more than ``max_steps``.
    """
    builder = _Builder(max_steps)
    whole = builder.choice(pattern)
    if certain and (whole.empty or whole.empty_at_start):
        return Walk(1, 0, 1)
    states, edges, steps = _states(builder, whole, max_states, max_steps, certain=certain)
    kinds = [2 if atom.maybe else 0 if atom.others is False else 1 for atom in builder.atoms]
    loads = [weights[max((kinds[position] for position in state), default=0)] for state in states]
    load = sum(loads[number] for number in _recurring(edges))
    width = max(sum(_WIDTHS[kinds[position]] for position in state) for state in states)
    return Walk(load, width, steps)


def _states(
    builder: _Builder, whole: _Part, max_states: int, max_steps: int, *, certain: bool
) -> tuple[list[tuple[int, ...]], list[list[int]], int]:
    """Give the lists of positions, for each the numbers of those that can come next, and the steps taken."""
    letters = _letters(builder.atoms)
    states = [tuple(dict.fromkeys(whole.at_start))]
    numbers = {states[0]: 0}
    edges: list[list[int]] = []
    steps = 0
    while len(edges) < len(states):
        state = states[len(edges)]
        edges.append([])
        for letter in letters:
            taken = [position for position in state if letter >> position & 1]
            steps += 1 + len(state)
            if certain and any(whole.last >> position & 1 for position in taken):
                continue
            after = dict.fromkeys(chain.from_iterable(builder.follow[position] for position in taken))
            after.update(dict.fromkeys(whole.first))
            steps += len(after)
            following = tuple(after)
            if not following:
                continue
            if following not in numbers:
                numbers[following] = len(states)
                states.append(following)
            edges[-1].append(numbers[following])
            if steps > max_steps or len(states) > max_states:
                raise TooWide
    return states, edges, steps


def _recurring(edges: list[list[int]]) -> set[int]:
    """Find the states that lie on a cycle, or between two: what is left when loose ends are taken off."""
    backwards: list[list[int]] = [[] for _ in edges]
    for source, targets in enumerate(edges):
        for target in targets:
            backwards[target].append(source)
    return _remaining(edges, backwards) & _remaining(backwards, edges)


def _remaining(forwards: list[list[int]], backwards: list[list[int]]) -> set[int]:
    left = [len(targets) for targets in forwards]
    loose = [number for number, count in enumerate(left) if not count]
    gone = set(loose)
    while loose:
        for source in backwards[loose.pop()]:
            left[source] -= 1
            if not left[source]:
                gone.add(source)
                loose.append(source)
    return set(range(len(forwards))) - gone
