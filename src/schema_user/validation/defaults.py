"""The defaults that a schema names for properties: what a migration may fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user.validation.dialect import Dialect
from schema_user.validation.normal_form import Budget, TooMuchError, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.domain.migration import Defaults

_STEPS: Final = 20_000
_DEEPEST: Final = 16
_MOST: Final = 1_000


def defaults_of(text: str, dialect: str) -> Defaults:
    """List the defaults of properties, also of those in objects, through ``$ref`` and ``allOf``.

    Alternatives and conditions are not looked at: which of them holds is known only of a document. At most 1,000 are
    given, and none from deeper than 16 levels; a schema that is too large to be walked has none.
    """
    tree = Tree(text, Dialect(dialect), Budget(_STEPS))
    found: dict[tuple[str, ...], Any] = {}
    try:
        for path, value in _walked(tree, tree.document, ()):
            found.setdefault(path, value)
            if len(found) >= _MOST:
                break
    except TooMuchError:
        return ()
    return tuple(sorted(found.items(), key=lambda each: (len(each[0]), each[0])))


def _walked(tree: Tree, schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    node = tree.node(schema)
    if path and "default" in node.notes:
        yield path, node.notes["default"]
    if len(path) < _DEEPEST:
        for name, inner in node.keywords.get("properties", {}).items():
            yield from _walked(tree, inner, (*path, name))
    for part in node.keywords.get("allOf", ()):
        yield from _walked(tree, part, path)
