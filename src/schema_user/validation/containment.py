"""A proof that one schema takes all that another takes, by the engine's canonical form; only a definite one counts.

jsonschema-rs 0.60 calls its canonicalization experimental, so it is asked only where it and our validators mean the
same: with no reference left (they are written out), no format that is ours or lent (``formats.py``), no pattern that
backtracks, and nothing whose meaning depends on the dialect. Everything else stays undecided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
from jsonschema_rs.canonical import CanonicalizationError, Containment

from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.dialect import Dialect
from schema_user.validation.formats import OWN, checkers
from schema_user.validation.normal_form import Budget, TooMuchError
from schema_user.validation.patterns import Refused, read

if TYPE_CHECKING:
    from schema_user.validation.normal_form import Tree

_MOST_SCHEMAS: Final = 2_000
"""Schemas that are written out for one proof: canonical forms can be far larger than the schemas."""
_UNDECIDED: Final = frozenset({
    "contentEncoding", "contentMediaType", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef",
})  # fmt: skip
_OPTIONS: Final = jsonschema_rs.RegexOptions()


def contains(new: Tree, new_schema: Any, old: Tree, old_schema: Any) -> bool | None:
    """Tell whether ``new_schema`` takes every value that ``old_schema`` takes; None if that is not certain.

    What it takes has no bound: ask where the process can be ended.
    """
    if Dialect.DRAFT_4 in {old.dialect, new.dialect}:  # its integers are others
        return None
    try:
        before, after = _Writer(old).written(old_schema), _Writer(new).written(new_schema)
        taken, asked = (
            jsonschema_rs.canonicalize(
                each, draft=jsonschema_rs.Draft202012, offline=True, validate_formats=True, pattern_options=_OPTIONS
            )
            for each in (before, after)
        )
        found = asked.covers(taken)
    except (TooMuchError, _UndecidedError, CanonicalizationError, ValueError, jsonschema_rs.ReferencingError):
        return None
    return None if found == Containment.UNKNOWN else bool(found == Containment.YES)


class _UndecidedError(Exception):
    """A keyword that means something else to the canonical form, or may."""


class _Writer:
    """Writes a schema of a tree out, without references and annotations."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._room = Budget(_MOST_SCHEMAS)
        self._within: set[int] = set()
        self._foreign = OWN.keys() | checkers(tree.dialect).keys()

    def written(self, schema: Any) -> Any:
        """Give a schema of 2020-12 that asks for the same.

        Raises:
            TooMuchError: if it refers to itself, or is too large.
        """
        self._room.take()
        if isinstance(schema, bool):
            return schema
        if id(schema) in self._within:
            raise TooMuchError
        self._within.add(id(schema))
        node = self._tree.node(schema)
        keywords = dict(node.keywords)
        self._require_decidable(keywords)
        for path, inner in self._tree.children(node):
            if len(path) == 1:
                keywords[str(path[0])] = self.written(inner)
            else:
                keyword, name = path
                held = keywords[str(keyword)]
                if held is node.keywords[str(keyword)]:
                    held = keywords[str(keyword)] = dict(held) if isinstance(held, dict) else list(held)
                held[strict_pattern(str(name)) if keyword == "patternProperties" else name] = self.written(inner)
                if keyword == "patternProperties" and strict_pattern(str(name)) != name:
                    del held[name]
        if node.values is not None:
            keywords["enum"] = node.values
        self._within.discard(id(schema))
        return False if node.never else keywords

    def _require_decidable(self, keywords: dict[str, Any]) -> None:
        if not _UNDECIDED.isdisjoint(keywords) or keywords.get("format") in self._foreign:
            raise _UndecidedError
        for pattern in [
            *keywords.get("patternProperties", ()),
            *([keywords["pattern"]] if "pattern" in keywords else ()),
        ]:
            try:
                if read(pattern).backtracks:
                    raise _UndecidedError
            except Refused:
                raise _UndecidedError from None
        if "pattern" in keywords:
            keywords["pattern"] = strict_pattern(keywords["pattern"])
