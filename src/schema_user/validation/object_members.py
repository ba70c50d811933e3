"""What changed between two schemas in what they ask of an object's members.

A member must match the schema of its name, those of all patterns that its name matches, and, if there are none of
these, ``additionalProperties``. Each of them in the new schema is compared with one that it had to match before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.document import pointer
from schema_user.validation.containment import contains
from schema_user.validation.keyword_changes import HARMLESS, NARROWS
from schema_user.validation.normal_form import TooMuchError
from schema_user.validation.rust import pattern_matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schema_user.validation.compatibility import Walk
    from schema_user.validation.normal_form import Node

OTHERS: Final = "*"
_MOST_MATCHES: Final = 20_000
"""Names that are tried with patterns, for two schemas."""


def walk_members(walk: Walk, old: Node, new: Node, place: tuple[str, ...], *, certain: bool) -> None:
    """Compare what two schemas ask of the members of an object at a place."""
    members = _Members(walk, _Side(old), _Side(new), place, certain)
    members.compare_required()
    members.compare_named()
    members.compare_patterns()
    members.compare_others()
    members.compare_names()
    members.compare_dependencies()


@dataclass(slots=True)
class _Patterns:
    """Patterns that are compiled once."""

    room: int = _MOST_MATCHES
    compiled: dict[str, Callable[[str], bool]] = field(default_factory=dict)

    def match(self, pattern: str, name: str) -> bool:
        self.room -= 1
        if self.room < 0:
            raise TooMuchError
        if pattern not in self.compiled:
            self.compiled[pattern] = pattern_matcher(pattern)
        return self.compiled[pattern](name)


class _Side:
    """What one schema says of members."""

    def __init__(self, node: Node) -> None:
        keywords = node.keywords
        self.named: Mapping[str, Any] = keywords.get("properties", {})
        self.patterns: Mapping[str, Any] = keywords.get("patternProperties", {})
        self.others: Any = keywords.get("additionalProperties", True)
        self.names: Any = keywords.get("propertyNames", True)
        self.required: tuple[str, ...] = tuple(keywords.get("required", ()))
        self.needed: Mapping[str, list[str]] = keywords.get("dependentRequired", {})
        self.following: Mapping[str, Any] = keywords.get("dependentSchemas", {})

    @cached_property
    def _compiled(self) -> _Patterns:
        return _Patterns()

    def unnamed(self, name: str) -> list[Any]:
        """Give what a member must match that the schema does not name."""
        return [inner for pattern, inner in self.patterns.items() if self._compiled.match(pattern, name)] or [
            self.others
        ]

    def named_by(self, pattern: str) -> list[str]:
        """List the named members that a pattern of another schema matches."""
        return [name for name in self.named if self._compiled.match(pattern, name)]


@dataclass(frozen=True, slots=True)
class _Members:
    walk: Walk
    old: _Side
    new: _Side
    place: tuple[str, ...]
    certain: bool

    def _report(self, name: str | None, kind: str, words: str, narrows: bool | None) -> None:  # noqa: FBT001
        place = self.place if name is None else (*self.place, name)
        self.walk.report(place, (kind, words, narrows), certain=self.certain)

    def _visit(self, old: Any, new: Any, name: str) -> None:
        self.walk.visit(old, new, (*self.place, name), certain=self.certain)

    def compare_required(self) -> None:
        before, after = dict.fromkeys(self.old.required), dict.fromkeys(self.new.required)
        for name in (each for each in after if each not in before):
            self._report(name, "requiredAdded", "became required", NARROWS)
        for name in (each for each in before if each not in after):
            self._report(name, "requiredRemoved", "is no longer required", HARMLESS)

    def compare_named(self) -> None:
        for name in dict.fromkeys([*self.old.named, *self.new.named]):
            if name not in self.old.named:
                self._added(name)
            elif name in self.new.named:
                self._visit(self.old.named[name], self.new.named[name], name)
            else:
                self._removed(name)

    def _added(self, name: str) -> None:
        inner = self.new.named[name]
        asked = self.old.unnamed(name)
        if len(asked) == 1:
            self._report(name, "propertyAdded", "was added", HARMLESS)
            self._visit(asked[0], inner, name)
        else:
            narrows = False if self.walk.new.node(inner).accepts_all else None
            self._report(name, "propertyAdded", "was added, where several patterns said what it may be", narrows)

    def _removed(self, name: str) -> None:
        # What patterns ask for is compared by pattern.
        if self.walk.new.node(self.new.others).never and self.new.unnamed(name) == [self.new.others]:
            never = self.walk.old.node(self.old.named[name]).never
            self._report(name, "propertyRemoved", "was removed, and is no longer allowed", not never)
            return
        self._report(name, "propertyRemoved", "is no longer described", HARMLESS)
        if any(inner is self.new.others for inner in self.new.unnamed(name)):
            self._visit(self.old.named[name], self.new.others, name)

    def compare_patterns(self) -> None:
        for pattern in dict.fromkeys([*self.old.patterns, *self.new.patterns]):
            if pattern not in self.new.patterns:
                self._report(OTHERS, "patternPropertyRemoved", "has one pattern of names less", HARMLESS)
                self._visit(self.old.patterns[pattern], self.new.others, OTHERS)
            elif pattern in self.old.patterns:
                self._visit(self.old.patterns[pattern], self.new.patterns[pattern], OTHERS)
            else:
                self._pattern_added(pattern, self.new.patterns[pattern])

    def _pattern_added(self, pattern: str, inner: Any) -> None:
        closed = self.walk.old.node(self.old.others).never and not self.old.patterns
        narrows = False if closed or self.walk.new.node(inner).accepts_all else None
        self._report(OTHERS, "patternPropertyAdded", "has one pattern of names more", narrows)
        if closed:
            for name in self.old.named_by(pattern):
                self._visit(self.old.named[name], inner, name)

    def compare_others(self) -> None:
        before, after = self.walk.old.node(self.old.others), self.walk.new.node(self.new.others)
        if after.never and not before.never:
            self._report(OTHERS, "othersForbidden", "is no longer allowed: only what is named is", NARROWS)
        elif before.never and not after.never:
            self._report(OTHERS, "othersAllowed", "is allowed now, beside what is named", HARMLESS)
        else:
            self._visit(self.old.others, self.new.others, OTHERS)

    def compare_names(self) -> None:
        before, after = self.old.names, self.new.names
        if self.walk.equivalence.holds(before, after):
            return
        if after is True:
            self._report(None, "namesWidened", "has no rule for the names of properties any more", HARMLESS)
            return
        taken = contains(self.walk.new, after, self.walk.old, before)
        narrows = False if taken else (True if before is True else None)
        self._report(None, "namesChanged", "has another rule for the names of properties", narrows)

    def compare_dependencies(self) -> None:
        for trigger in dict.fromkeys([*self.old.needed, *self.new.needed]):
            before, after = set(self.old.needed.get(trigger, ())), set(self.new.needed.get(trigger, ()))
            where = f"where `{_at((*self.place, trigger))}` is there"
            for name in sorted(after - before):
                self._report(name, "dependencyAdded", f"became required {where}", name not in self.old.required)
            for name in sorted(before - after):
                self._report(name, "dependencyRemoved", f"is no longer required {where}", HARMLESS)
        for trigger in dict.fromkeys([*self.old.following, *self.new.following]):
            self._following(trigger)

    def _following(self, trigger: str) -> None:
        where = f"where `{_at((*self.place, trigger))}` is there"
        if trigger not in self.new.following:
            self._report(None, "dependencyRemoved", f"has fewer rules {where}", HARMLESS)
        elif trigger in self.old.following:
            before, after = self.old.following[trigger], self.new.following[trigger]
            self.walk.visit(before, after, self.place, certain=False)
        elif not self.walk.new.node(self.new.following[trigger]).accepts_all:
            self._report(None, "dependencyAdded", f"has more rules {where}", None)


def _at(place: tuple[str, ...]) -> str:
    return "/" + pointer(*place)
