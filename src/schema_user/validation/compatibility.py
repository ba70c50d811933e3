"""How a new schema differs from an old one, in words, and whether it takes every document that the old one took.

Both are walked side by side, place by place of the documents that they describe (``normal_form.py``). Every keyword of
the new schema must be implied by the old one; where each is, nothing is lost: that is a proof, as keywords of a schema
must all hold. Under ``not``, ``oneOf`` and ``if`` it is the other way round or both, so there only what is the same is
known to be the same; what else changed there is asked of the engine's canonical form (``containment.py``).

What walking takes is bounded by ``_STEPS``, what the canonical form takes is not: give it a process that can be ended.
Where something could not be looked at, the verdict is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from schema_user.domain.comparison import Comparison, Difference, Verdict, arranged
from schema_user.domain.document import pointer, same
from schema_user.validation.containment import contains
from schema_user.validation.dialect import Dialect
from schema_user.validation.keyword_changes import own_changes, shown, takes, types_taken
from schema_user.validation.normal_form import MARKS, NOTES, Budget, Equivalence, Node, TooMuchError, Tree
from schema_user.validation.object_members import walk_members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.validation.keyword_changes import Change

MAX_DIFFERENCES: Final = 200
_MAX_POINTER_CHARACTERS: Final = 64 * 1024
_STEPS: Final = 60_000
"""Schemas that are looked at, over both sides: about 0.3 s."""
_MOST_PROOFS: Final = 50


@dataclass(slots=True)
class Findings:
    """Differences as they are found; what goes beyond the limits is counted by what it means."""

    listed: list[Difference] = field(default_factory=list)
    unlisted: int = 0
    unlisted_breaking: bool | None = False
    room: int = _MAX_POINTER_CHARACTERS

    def add(self, found: Difference) -> None:
        """Add a difference."""
        if len(self.listed) < MAX_DIFFERENCES and len(found.pointer) <= self.room:
            self.room -= len(found.pointer)
            self.listed.append(found)
            return
        self.unlisted += 1
        if self.unlisted_breaking is not True and found.breaking is not False:
            self.unlisted_breaking = found.breaking

    def result(self, *, covers: bool | None = None) -> Comparison:
        """Give the verdict; ``covers`` is what the canonical form says of the whole."""
        differences, unlisted_breaking = self.listed, self.unlisted_breaking
        if covers:
            differences, unlisted_breaking = _harmless(differences), False
        elif covers is False and sum(each.breaking is not False for each in differences) == 1:
            # Something is lost, and nothing else can be why.
            differences = [replace(each, breaking=each.breaking is not False) for each in differences]
        differences = arranged(differences)
        if self.unlisted:
            words = f"{self.unlisted} more differences are not listed"
            differences = [*differences, Difference("", "more", words, unlisted_breaking)]
        meanings = {each.breaking for each in differences}
        if True in meanings or covers is False:
            verdict = Verdict.BREAKING
        else:
            verdict = Verdict.UNKNOWN if None in meanings else Verdict.SAFE
        return Comparison(verdict, tuple(differences))


def _identity(schema: Any) -> int | bool:
    return id(schema) if isinstance(schema, dict) else schema is not False


def _harmless(found: Sequence[Difference]) -> list[Difference]:
    """Say of differences that they refuse nothing that was taken; what proofs are not about stays as it is."""
    about_validity = [each.kind not in {"uniqueAdded", "unexplored"} for each in found]
    return [replace(each, breaking=False) if about else each for each, about in zip(found, about_validity, strict=True)]


class Walk:
    """Walks two documents side by side."""

    def __init__(self, old: Tree, new: Tree, findings: Findings, *, proofs: int) -> None:
        self.old = old
        self.new = new
        self.findings = findings
        self.equivalence = Equivalence(old, new)
        self._visited: set[tuple[int | bool, int | bool, bool]] = set()
        self._proofs = proofs

    def report(self, place: Sequence[str], change: Change | tuple[str, str, bool | None], *, certain: bool) -> None:
        """Note a change at a place; what narrows only a branch may be taken by another one."""
        kind, words, narrows = change
        breaking = None if narrows and not certain else narrows
        where = "/" + pointer(*place) if place else ""
        self.findings.add(Difference(where, kind, f"{f'`{where}`' if where else 'the document'} {words}", breaking))

    def visit(self, old: Any, new: Any, place: tuple[str, ...], *, certain: bool = True) -> None:
        """Compare two schemas that a value at a place must match.

        ``certain``: whether a value that the new one refuses is refused by the whole. A pair that was compared once, as
        where references meet or lead back, is not compared again: what differs is told at the first place.
        """
        pair = (_identity(old), _identity(new), certain)
        if pair in self._visited:
            return
        before, after = self.old.node(old), self.new.node(new)
        if isinstance(old, dict) or isinstance(new, dict):
            self._visited.add(pair)
        elif after.accepts_all:
            return
        first, visited = len(self.findings.listed), set(self._visited)
        self._compare(before, after, place, certain=certain)
        if self._prove(old, new, first, before):
            # What breaks nothing here may break something elsewhere: there it is looked at again.
            self._visited = visited
        self._tell(before, after, place)

    def _compare(self, old: Node, new: Node, place: tuple[str, ...], *, certain: bool) -> None:
        for change in own_changes(old, new):
            self.report(place, change, certain=certain)
        if old.never or new.never or new.accepts_all:
            return
        types = types_taken(old)
        if takes(types, "object"):
            walk_members(self, old, new, place, certain=certain)
        if takes(types, "array"):
            self._items(old, new, place, certain=certain)
        self._branches(old, new, place, certain=certain)

    def _prove(self, old: Any, new: Any, first: int, node: Node) -> bool:
        """Ask for a proof where the walk can't tell; what is proven to lose nothing here breaks nothing here."""
        found = self.findings.listed[first:]
        doubtful = any(each.breaking is None or (each.breaking and node.values is not None) for each in found)
        if not doubtful or self._proofs <= 0 or self.findings.unlisted:
            return False
        self._proofs -= 1
        if not contains(self.new, new, self.old, old):
            return False
        self.findings.listed[first:] = _harmless(found)
        return True

    def _items(self, old: Node, new: Node, place: tuple[str, ...], *, certain: bool) -> None:
        before, after = old.keywords.get("prefixItems", []), new.keywords.get("prefixItems", [])
        rest_before, rest_after = old.keywords.get("items", True), new.keywords.get("items", True)
        for index in range(max(len(before), len(after))):
            one = before[index] if index < len(before) else rest_before
            other = after[index] if index < len(after) else rest_after
            self.visit(one, other, (*place, str(index)), certain=certain)
        self.visit(rest_before, rest_after, (*place, "*"), certain=certain)
        self._contains(old.keywords, new.keywords, place, certain=certain)

    def _contains(self, old: dict[str, Any], new: dict[str, Any], place: tuple[str, ...], *, certain: bool) -> None:
        if "contains" not in old and "contains" not in new:
            return
        if "contains" not in new:
            self.report(place, ("containsRemoved", "need not contain a certain item any more", False), certain=certain)
        elif "contains" not in old:
            narrows = None if new.get("minContains", 1) == 0 else True
            self.report(place, ("containsAdded", "must contain a certain item", narrows), certain=certain)
        elif self.equivalence.holds(old["contains"], new["contains"]):
            least, most = ([each.get(name) for each in (old, new)] for name in ("minContains", "maxContains"))
            widened = (1 if least[1] is None else least[1]) <= (1 if least[0] is None else least[0]) and (
                most[1] is None or (most[0] is not None and most[1] >= most[0])
            )
            if least != most or not widened:
                words = "must contain another number of certain items"
                if least[0] != least[1] or most[0] != most[1]:
                    self.report(place, ("containsChanged", words, None if not widened else False), certain=certain)
        else:
            self.report(place, ("containsChanged", "must contain another item", None), certain=certain)

    def _branches(self, old: Node, new: Node, place: tuple[str, ...], *, certain: bool) -> None:
        """Compare what applies to the same value: the parts and the alternatives."""
        before, after = old.keywords, new.keywords
        self._all(before.get("allOf", []), after.get("allOf", []), place, certain=certain)
        self._any(before.get("anyOf"), after.get("anyOf"), place, certain=certain)
        for keyword, words in _WHOLE.items():
            self._whole(keyword, words, before, after, place, certain=certain)
        if "if" in before or "if" in after:
            self._condition(before, after, place, certain=certain)

    def _all(self, old: list[Any], new: list[Any], place: tuple[str, ...], *, certain: bool) -> None:
        lost, won = self._unmatched(old, new)
        for one, other in zip(lost, won, strict=False):
            self.visit(one, other, place, certain=certain)
        if len(lost) > len(won):
            self.report(place, ("partRemoved", "has fewer parts in allOf to match", False), certain=certain)
        for extra in won[len(lost) :]:
            if not self.new.node(extra).accepts_all:
                self.report(place, ("partAdded", "has one more part in allOf to match", None), certain=certain)

    def _any(self, old: list[Any] | None, new: list[Any] | None, place: tuple[str, ...], *, certain: bool) -> None:
        if old is None and new is None:
            return
        if new is None:
            self.report(place, ("anyOfRemoved", "has no alternatives in anyOf any more", False), certain=certain)
        elif old is None:
            self.report(place, ("anyOfAdded", "must match one of the alternatives in anyOf", None), certain=certain)
        else:
            lost, won = self._unmatched(old, new)
            for one, other in zip(lost, won, strict=False):
                self.visit(one, other, place, certain=False)
            if len(won) > len(lost):
                self.report(place, ("alternativeAdded", "has more alternatives in anyOf", False), certain=certain)
            if len(lost) > len(won):
                self.report(place, ("alternativeRemoved", "has fewer alternatives in anyOf", None), certain=certain)

    def _unmatched(self, old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
        """Give the schemas of two lists that have no equal in the other one."""
        lost, won = [], list(new)
        for each in old:
            fitting = next((i for i, other in enumerate(won) if self.equivalence.holds(each, other)), None)
            if fitting is None:
                lost.append(each)
            else:
                del won[fitting]
        return lost, won

    def _whole(
        self,
        keyword: str,
        words: str,
        old: dict[str, Any],
        new: dict[str, Any],
        place: tuple[str, ...],
        *,
        certain: bool,
    ) -> None:
        """Compare a keyword that is only known to ask for the same if it is the same."""
        if keyword not in old and keyword not in new:
            return
        if keyword not in new:
            self.report(place, (f"{keyword.lstrip('$')}Removed", f"no longer has {words}", False), certain=certain)
        elif keyword not in old:
            self.report(place, (f"{keyword.lstrip('$')}Added", f"has {words} now", None), certain=certain)
        elif not self._same_parts(old[keyword], new[keyword]):
            self.report(place, (f"{keyword.lstrip('$')}Changed", f"differs in {words}", None), certain=certain)

    def _same_parts(self, old: Any, new: Any) -> bool:
        if isinstance(old, list):
            lost, won = self._unmatched(old, new)
            return not lost and not won
        return self.equivalence.holds(old, new)

    def _condition(self, old: dict[str, Any], new: dict[str, Any], place: tuple[str, ...], *, certain: bool) -> None:
        if "if" not in new:
            self.report(place, ("conditionRemoved", "has no condition any more (if)", False), certain=certain)
        elif "if" not in old:
            self.report(place, ("conditionAdded", "must match more on a condition (if)", None), certain=certain)
        elif self.equivalence.holds(old["if"], new["if"]):
            for branch in ("then", "else"):
                self.visit(old.get(branch, True), new.get(branch, True), place, certain=False)
        else:
            self.report(place, ("conditionChanged", "has another condition (if)", None), certain=certain)

    def _tell(self, old: Node, new: Node, place: tuple[str, ...]) -> None:
        """Report what changed without a meaning for validity."""
        for mark in MARKS:
            name = mark.rpartition(":")[2]
            if not same(old.marks.get(mark), new.marks.get(mark)):
                after = new.marks.get(mark)
                if name != "unique":
                    words = f"lost the keyword {mark}" if after is None else f"has {mark} {shown(after)}"
                    self.report(place, (f"{name}Changed", words, False), certain=True)
                elif after is True:
                    words = "must be unique: whether stored users share a value is not known from the schemas"
                    self.report(place, ("uniqueAdded", words, None), certain=True)
                elif old.marks.get(mark) is True:
                    self.report(place, ("uniqueRemoved", "need not be unique any more", False), certain=True)
        names = [name for name in NOTES if not same(old.notes.get(name), new.notes.get(name))]
        if names:
            self.report(place, ("annotationChanged", f"has another {', '.join(names)}", False), certain=True)


_WHOLE: Final = {
    "oneOf": "alternatives of which exactly one must match (oneOf)",
    "not": "a schema that it must not match (not)",
    "unevaluatedItems": "a rule for unevaluated items",
    "unevaluatedProperties": "a rule for unevaluated properties",
    "$dynamicRef": "a dynamic reference",
    "$recursiveRef": "a recursive reference",
}


def compare(old_text: str, old_dialect: str, new_text: str, new_dialect: str, *, prove: bool) -> Comparison:
    """Compare two schemas that have passed the gate.

    Without ``prove`` they are only walked, in bounded time; with it the canonical form is asked where that left a
    doubt, and what that takes has no bound.
    """
    budget, findings = Budget(_STEPS), Findings()
    covers = None
    try:
        old = Tree(old_text, Dialect(old_dialect), budget)
        new = Tree(new_text, Dialect(new_dialect), budget)
        delicate = _tell_of_wholes(old, new, findings)
        Walk(old, new, findings, proofs=_MOST_PROOFS if prove and not delicate else 0).visit(
            old.document, new.document, ()
        )
        if prove and not delicate and findings.result().verdict is not Verdict.SAFE:
            covers = contains(new, new.document, old, old.document)
    except (TooMuchError, RecursionError):
        words = "the document's schemas are too large, or refer to one another too often, to be compared whole"
        findings.listed = findings.listed[: MAX_DIFFERENCES - 1]
        findings.add(Difference("", "unexplored", words, None))
    return findings.result(covers=covers)


def _tell_of_wholes(old: Tree, new: Tree, findings: Findings) -> bool:
    """Report what concerns the documents as wholes; whether parts of them can't be judged by themselves."""
    if old.dialect is not new.dialect:
        # Keywords are compared by what they mean in their dialect; but 1.0 is no integer in draft 4, also under `not`.
        breaking = None if Dialect.DRAFT_4 in {old.dialect, new.dialect} else False
        words = f"the document is described in {new.dialect} instead of {old.dialect}"
        findings.add(Difference("", "dialectChanged", words, breaking))
    delicate = old.is_delicate or new.is_delicate
    if delicate and not same(old.without_notes(), new.without_notes()):
        words = "the document changed, and what unevaluated… and dynamic references then mean is not followed"
        findings.add(Difference("", "unexplored", words, None))
    return delicate
