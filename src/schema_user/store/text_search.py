"""Comparisons of a stored text as MongoDB filters: a client's text is always a value, escaped where it is a pattern."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schema_user.domain.data_search import beginning_with
from schema_user.domain.search import Text, TextMethod, fold

if TYPE_CHECKING:
    from schema_user.store.connection import Document

_PATTERNS: Final = {
    TextMethod.CONTAINS: "{}",
    TextMethod.CONTAINS_IGNORE_CASE: "{}",
    TextMethod.ENDS_WITH: r"{}\z",
    TextMethod.ENDS_WITH_IGNORE_CASE: r"{}\z",
}
r"""``\z`` is the end alone; ``$`` would also be before a line break at the end."""


def text_filter(field: str, folded: str | None, query: Text) -> Document:
    """Compare a stored text; without case on its folded copy, or on itself where case means nothing."""
    name, value = (folded or field, fold(query.value)) if query.method.ignores_case else (field, query.value)
    if query.method in {TextMethod.STARTS_WITH, TextMethod.STARTS_WITH_IGNORE_CASE}:
        found: Document = {name: {f"${bound}": text for bound, text in beginning_with(value)}}
        return found | _folded_prefix(folded, value) if name == field != folded else found
    pattern = _PATTERNS.get(query.method)
    if pattern is None:
        return {name: {"$eq": value}} | ({folded: {"$eq": fold(value)}} if folded not in {None, field} else {})
    # re.escape writes \- and \  that PCRE takes as they are; the s flag lets a stored line break be any character.
    return {name: {"$regex": pattern.format(re.escape(value)), "$options": "s"}}


def _folded_prefix(folded: str | None, value: str) -> Document:
    """Bound by the folded copy, which has the index, what begins with a text: as far as the text folds by itself.

    Whatever follows may combine with the last of its characters, but for ASCII with no other.
    """
    plain = value[: next((at for at, each in enumerate(value) if not each.isascii()), len(value))][:-1]
    if not folded or not plain:
        return {}
    return {folded: {f"${bound}": text for bound, text in beginning_with(fold(plain))}}
