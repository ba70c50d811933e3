"""Field permissions: which places of a user's ``data`` a caller may read, and which it may change.

A schema gives them by its keyword ``urn:zitadel:schema:permission`` to two roles: ``self``, the user that calls for
itself, and ``owner``, everybody else whom the organization permits to read or write its users. At a place where no
subschema that may apply has the keyword, what holds at the nearest place around it holds too; where several have it,
what all of them give. ``validation/permission_keyword.py`` makes the rules out of a schema.

What a caller sees, and what of its changes is refused, depends on what it may read and on what it sent, never on what
is hidden from it: otherwise hidden values could be guessed, one refusal at a time.

- An object that may not be read is shown as far as members of it may be, and left out if none is there.
- Items of an array are known by their index, so an array of which one item is hidden is left out as a whole.
- What is sent is merged with what was hidden. Whoever may not read and write everything in the items of an array can
  change items where they stand, and no more: neither their number, nor their order, nor whether there is an array.
- A value sent to a place that may be written and not read always counts as a change: an unmoved sequence would tell
  that it was there before.

All walks are linear in the documents, and as deep as they are.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schema_user.domain.document import pointer, same
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from schema_user.domain.caller import Caller

    Path = tuple[str | int, ...]
    Document = dict[str, Any]

READ: Final = 1
WRITE: Final = 2
OPEN: Final = READ | WRITE
"""What holds where a schema says nothing."""

MOST_REPORTED: Final = 100
_UNSEEN: Final = "has something wrong at a place that the caller may not read"
_OF_THE_INSIDE: Final = frozenset(
    {"additionalItems", "anyOf", "maxItems", "maxProperties", "minItems", "minProperties", "oneOf"}
)
"""Rules whose words speak of what is inside a value: how much, or what its nearest alternative finds wrong there."""
_NOTHING: Final[Any] = object()
"""Stands for a value that is not there, as None is a value."""


class FieldRole(enum.Enum):
    """As whom a caller meets a user; the value is its place in ``Rule.own``."""

    OWNER = 0
    SELF = 1


def field_role(caller: Caller, user_id: str) -> FieldRole:
    """Say as whom a caller meets a user; self wins over owner."""
    return FieldRole.SELF if caller.is_self(user_id) else FieldRole.OWNER


class NamePattern(NamedTuple):
    """A pattern for names of members."""

    text: str
    matches: Callable[[str], bool]


@dataclass(slots=True, eq=False)
class Rule:
    """What holds at all places to which the same subschemas may apply, and the rules of what is inside.

    ``own`` is what the keywords there give to owner and self (bits of ``READ`` and ``WRITE``), None without one.
    ``named`` are the rules of members that the schema names, ``others`` those of the rest: by which of ``patterns``
    match, as bits. ``leading`` are the rules of the first items, ``rest`` that of the following ones.
    """

    own: tuple[int, int] | None = None
    named: dict[str, Rule] = field(default_factory=dict)
    patterns: tuple[NamePattern, ...] = ()
    others: tuple[Rule, ...] = ()
    leading: tuple[Rule, ...] = ()
    rest: Rule = field(init=False)
    uniform: bool = True
    """Whether no keyword is inside, so that one permission holds for the whole value."""

    def __post_init__(self) -> None:
        self.rest = self
        if not self.others:
            self.others = (self,)

    def member(self, name: str) -> Rule:
        """Give the rule of a member."""
        found = self.named.get(name)
        if found is None:
            found = self.others[sum(1 << at for at, each in enumerate(self.patterns) if each.matches(name))]
        return found

    def item(self, index: int) -> Rule:
        """Give the rule of an item."""
        return self.leading[index] if index < len(self.leading) else self.rest

    @property
    def members(self) -> Iterator[Rule]:
        """The rules of every member that there can be."""
        yield from self.named.values()
        yield from self.others

    @property
    def items(self) -> Iterator[Rule]:
        """The rules of every item that there can be."""
        yield from self.leading
        yield self.rest


BARE: Final = Rule()
"""The rule where no keyword is, nor inside: what holds around holds here."""


class FieldPermissions:
    """The permissions that one revision of a schema gives; ``weight`` is the number of rules and of ways to them."""

    __slots__ = ("_by_role", "weight")

    def __init__(self, root: Rule, weight: int) -> None:
        self._by_role = {role: FieldAccess(root, role) for role in FieldRole}
        self.weight = weight

    def of(self, role: FieldRole) -> FieldAccess:
        """Give what a role may do."""
        return self._by_role[role]


class FieldAccess:
    """What one role may read and change in documents under one revision of a schema."""

    __slots__ = ("_least", "_most", "_role", "root")

    def __init__(self, root: Rule, role: FieldRole) -> None:
        self.root = root
        self._role = role.value
        self._least: dict[tuple[int, int], int] | None = None
        self._most: dict[tuple[int, int], int] | None = None

    def visible(self, data: Document) -> Document:
        """Give what the role may read of a document; ``data`` itself is always an object, if an empty one."""
        seen = self._view(self.root, OPEN, data)
        return {} if seen is _NOTHING else seen

    def merged(self, stored: Document, sent: Document) -> Document:
        """Put what is hidden of the stored document back into the one that was sent in its place.

        ``merged(stored, visible(stored))`` equals ``stored``. Ask ``denied()`` first: what is sent to a hidden place
        replaces what is there.
        """
        merged: Document = self._merge(self.root, OPEN, stored, sent)
        return merged

    def denied(self, stored: Document, sent: Document) -> list[str]:
        """Give the pointers (``data/…``) at which what was sent differs from what the role sees, and must not.

        At most 100; where a whole value may not be added or removed, that of the value.
        """
        return self.judged(stored, sent).denied

    def judged(self, stored: Document, sent: Document) -> Judgement:
        """Say what of a document that was sent in the place of the stored one is denied, and whether it is blind."""
        return self._judge(self.visible(stored), sent, exact=False)

    def denied_between(self, before: Document, after: Document) -> list[str]:
        """Give the pointers at which two whole documents differ where the role must not write; as ``denied()``."""
        return self._judge(before, after, exact=True).denied

    def readable(self, data: Document, violations: Iterable[Violation]) -> list[Violation]:
        """Report what is wrong with a document at places that the role may read.

        A violation elsewhere is moved to the nearest place around it that may be read, and keeps its reason only.
        """
        seen = self.visible(data)
        listed: dict[tuple[str, str, str], Violation] = {}
        for each in violations:
            found = self._reported(seen, each)
            listed[found.field, found.description, found.reason] = found
        return list(listed.values())

    def bits(self, rule: Rule, around: int) -> int:
        """Give what the role may do at a place with a rule, inside one where it may do ``around``."""
        return around if rule.own is None else rule.own[self._role]

    def seen(self, rule: Rule, around: int, value: Any, hidden: Any) -> Any:
        """Give what the role may read of a value at a place with a rule; ``hidden`` if that is nothing."""
        found = self._view(rule, around, value)
        return hidden if found is _NOTHING else found

    def _view(self, rule: Rule, around: int, value: Any) -> Any:
        bits = self.bits(rule, around)
        if rule.uniform:
            return value if bits & READ else _NOTHING
        if isinstance(value, dict):
            members = {}
            for name, inner in value.items():
                seen = self._view(rule.member(name), bits, inner)
                if seen is not _NOTHING:
                    members[name] = seen
            return members if members or bits & READ else _NOTHING
        if isinstance(value, list) and value:
            items = []
            for index, inner in enumerate(value):
                seen = self._view(rule.item(index), bits, inner)
                if seen is _NOTHING:
                    return _NOTHING
                items.append(seen)
            return items
        return value if bits & READ else _NOTHING

    def _hidden(self, rule: Rule, around: int, value: Any) -> Any:
        """Give what stays of a value when the caller removes all that it sees of it."""
        bits = self.bits(rule, around)
        if isinstance(value, dict) and not rule.uniform:
            members = {}
            for name, inner in value.items():
                kept = self._hidden(rule.member(name), bits, inner)
                if kept is not _NOTHING:
                    members[name] = kept
            return _NOTHING if bits & READ and not members else members
        # A shown array can be removed by those only from whom nothing in it is hidden, so there is nothing to keep.
        return value if self._view(rule, around, value) is _NOTHING else _NOTHING

    def _merge(self, rule: Rule, around: int, stored: Any, sent: Any) -> Any:
        bits = self.bits(rule, around)
        if rule.uniform and bits & READ:
            return sent
        if isinstance(stored, dict) and isinstance(sent, dict):
            result = {}
            for name, inner in sent.items():
                result[name] = self._merge(rule.member(name), bits, stored[name], inner) if name in stored else inner
            for name, inner in stored.items():
                if name not in sent:
                    kept = self._hidden(rule.member(name), bits, inner)
                    if kept is not _NOTHING:
                        result[name] = kept
            return result
        if isinstance(stored, list) and isinstance(sent, list) and len(stored) == len(sent):
            pairs = enumerate(zip(stored, sent, strict=True))
            return [self._merge(rule.item(index), bits, old, new) for index, (old, new) in pairs]
        return sent

    def _judge(self, before: Document, after: Document, *, exact: bool) -> Judgement:
        changes = _Changes(self, exact=exact)
        if not same(before, after):
            changes.compare(self.root, OPEN, before, after, ())
        return Judgement([pointer("data", *at) for at in changes.denied], blind=changes.blind)

    def _reported(self, seen: Document, violation: Violation) -> Violation:
        prefix, *tokens = violation.field.split("/")
        rule, bits = self.root, self.bits(self.root, OPEN)
        value: Any = seen
        told = 0 if bits & READ else -1
        for depth, token in enumerate(tokens, 1):
            if isinstance(value, list) and token.isdecimal() and int(token) < len(value):
                rule, value = rule.item(int(token)), value[int(token)]
            elif isinstance(value, dict):
                name = token.replace("~1", "/").replace("~0", "~")
                rule, value = rule.member(name), value.get(name, _NOTHING)
            else:
                break
            bits = self.bits(rule, bits)
            told = depth if bits & READ else told
        if told == len(tokens) and not (violation.reason in _OF_THE_INSIDE and self._hides_inside(rule, bits, value)):
            return violation
        return Violation("/".join([prefix, *tokens[: max(told, 0)]]), _UNSEEN, violation.reason)

    def _hides_inside(self, rule: Rule, bits: int, value: Any) -> bool:
        """Tell whether anything in a value may be hidden."""
        if isinstance(value, dict):
            return not self.members_floor(rule, bits) & READ
        return isinstance(value, list) and not self.items_floor(rule, bits) & READ

    def members_floor(self, rule: Rule, bits: int) -> int:
        """Give what the role may do at every place inside an object with a rule, whatever members it has."""
        return self._floor(rule.members, bits)

    def items_floor(self, rule: Rule, bits: int) -> int:
        """Give what the role may do at every place inside an array with a rule, whatever items it has."""
        return self._floor(rule.items, bits)

    def shows(self, rule: Rule, bits: int) -> bool:
        """Whether the role may read the value at a place with a rule, or anything that could be inside."""
        if self._most is None:
            self._most = self._spread(int.__or__)
        return bool(self._most[id(rule), bits] & READ)

    def _floor(self, inside: Iterable[Rule], around: int) -> int:
        if self._least is None:
            self._least = self._spread(int.__and__)
        floor = OPEN
        for rule in inside:
            floor &= self._least[id(rule), self.bits(rule, around)]
        return floor

    def _spread(self, join: Callable[[int, int], int]) -> dict[tuple[int, int], int]:
        """Join, for each rule and each permission that can hold at it, what holds there and at all places inside.

        Rules lead to themselves where schemas do; so what is found is passed on to those around until nothing changes,
        twice at most for each.
        """
        joined: dict[tuple[int, int], int] = {}
        around: dict[tuple[int, int], list[tuple[int, int]]] = {}
        todo = [(self.root, self.bits(self.root, OPEN))]
        while todo:
            rule, bits = todo.pop()
            key = (id(rule), bits)
            if key in joined:
                continue
            joined[key] = bits
            for inner in {id(each): each for each in (*rule.members, *rule.items)}.values():
                step = (inner, self.bits(inner, bits))
                around.setdefault((id(inner), step[1]), []).append(key)
                todo.append(step)
        changed = list(joined)
        while changed:
            key = changed.pop()
            for outer in around.get(key, ()):
                both = join(joined[outer], joined[key])
                if both != joined[outer]:
                    joined[outer] = both
                    changed.append(outer)
        return joined


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is denied of a change, by pointers.

    ``blind``: the caller sends a value to a place that it may not read. Whether it was there before is not its to know.
    """

    denied: list[str]
    blind: bool


class _Changes:
    """Compares what a caller sees with what it sent.

    What it does not see may be hidden: so an unseen place is taken by any other type only where all that could be
    inside may be written. If ``exact``, both documents are whole, and nothing more than what differs counts.
    """

    __slots__ = ("_access", "_exact", "_forms", "blind", "denied")

    def __init__(self, access: FieldAccess, *, exact: bool) -> None:
        self._access = access
        self._exact = exact
        self._forms = _Forms()
        self.denied: list[Path] = []
        self.blind = False

    def compare(self, rule: Rule, around: int, old: Any, new: Any, at: Path) -> None:
        bits = self._access.bits(rule, around)
        if rule.uniform and bits == OPEN:
            return
        if new is _NOTHING:
            self._removed(rule, bits, old, at)
        elif old is _NOTHING:
            self._added(rule, bits, new, at)
        elif isinstance(old, dict) and isinstance(new, dict):
            for name, inner in old.items():
                self.compare(rule.member(name), bits, inner, new.get(name, _NOTHING), (*at, name))
            for name, inner in new.items():
                if name not in old:
                    self.compare(rule.member(name), bits, _NOTHING, inner, (*at, name))
        elif isinstance(old, list) and isinstance(new, list):
            self._items(rule, bits, old, new, at)
        elif not same(old, new):
            self._replaced(rule, bits, old, new, at)

    def _items(self, rule: Rule, bits: int, old: list[Any], new: list[Any], at: Path) -> None:
        if self._access.items_floor(rule, bits) == OPEN:
            return
        if len(old) != len(new) or self._forms.reordered(old, new):
            self._deny(at)
            return
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            self.compare(rule.item(index), bits, one, other, (*at, index))

    def _removed(self, rule: Rule, bits: int, old: Any, at: Path) -> None:
        # An object that is shown for its members only stays, empty, when they are gone.
        stays = isinstance(old, dict) and not bits & READ and not self._exact
        if not (bits & WRITE or stays) or (isinstance(old, list) and self._access.items_floor(rule, bits) != OPEN):
            self._deny(at)
        elif isinstance(old, dict):
            for name, inner in old.items():
                self.compare(rule.member(name), bits, inner, _NOTHING, (*at, name))

    def _added(self, rule: Rule, bits: int, new: Any, at: Path) -> None:
        self.blind = self.blind or not bits & READ
        if bits & WRITE and self._may_take_unseen(rule, bits, new):
            self._filled(rule, bits, new, at)
        else:
            self._deny(at)

    def _may_take_unseen(self, rule: Rule, bits: int, new: Any) -> bool:
        """Whether a value may take the place of anything that could be hidden there."""
        if self._exact:
            return True
        floor = OPEN
        if not isinstance(new, dict):
            floor &= self._access.members_floor(rule, bits)
        if not isinstance(new, list):
            floor &= self._access.items_floor(rule, bits)
        return bool(floor & WRITE)

    def _replaced(self, rule: Rule, bits: int, old: Any, new: Any, at: Path) -> None:
        if (
            not bits & WRITE
            or (isinstance(old, list) and self._access.items_floor(rule, bits) != OPEN)
            or (isinstance(old, dict) and not self._exact and not self._access.members_floor(rule, bits) & WRITE)
        ):
            self._deny(at)
        else:
            if isinstance(old, dict) and self._exact:
                for name, inner in old.items():
                    self.compare(rule.member(name), bits, inner, _NOTHING, (*at, name))
            self._filled(rule, bits, new, at)

    def _filled(self, rule: Rule, bits: int, new: Any, at: Path) -> None:
        """Look at what is inside a value that is new at its place."""
        if isinstance(new, dict):
            for name, inner in new.items():
                self.compare(rule.member(name), bits, _NOTHING, inner, (*at, name))
        elif isinstance(new, list) and self._access.items_floor(rule, bits) != OPEN:
            self._deny(at)

    def _deny(self, at: Path) -> None:
        if len(self.denied) < MOST_REPORTED:
            self.denied.append(at)


class _Forms:
    """Numbers values so that equal ones have equal numbers; each is looked at once, however deep it lies."""

    __slots__ = ("_by_id", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._by_id: dict[int, int] = {}

    def reordered(self, old: Sequence[Any], new: Sequence[Any]) -> bool:
        """Whether two arrays of one length have the same items in another order."""
        one, other = [self._number(each) for each in old], [self._number(each) for each in new]
        return one != other and sorted(one) == sorted(other)

    def _number(self, value: Any) -> int:
        if not isinstance(value, dict | list):
            return self._numbers.setdefault((isinstance(value, bool), value), len(self._numbers))
        known = self._by_id.get(id(value))
        if known is None:
            form: Hashable = (
                frozenset((name, self._number(inner)) for name, inner in value.items())
                if isinstance(value, dict)
                else tuple(map(self._number, value))
            )
            known = self._by_id[id(value)] = self._numbers.setdefault((type(value), form), len(self._numbers))
        return known


def reveals(shown: Any, *known: Any) -> bool:
    """Whether a document shows a place that is in none of those that are known, such as what was seen and sent."""
    here = [each for each in known if each is not _NOTHING]
    if not here:
        return True
    if isinstance(shown, dict):
        inside = [each for each in here if isinstance(each, dict)]
        return any(reveals(inner, *(each.get(name, _NOTHING) for each in inside)) for name, inner in shown.items())
    if isinstance(shown, list):
        lists = [each for each in here if isinstance(each, list)]
        return any(
            reveals(inner, *(each[index] if index < len(each) else _NOTHING for each in lists))
            for index, inner in enumerate(shown)
        )
    return False
