"""A document as the engine can be given it: what authors write more freely than it reads, written anew.

The stored text stays as it was uploaded. Written anew, with the same meaning, are

- patterns (``annex_b.py``);
- pointers in ``$ref`` with signs that no URI has, such as spaces and ``<``: they are percent-encoded, as RFC 3986 asks;
- an identifier that a second schema has too, as generators write it: each reference is meant for the schema around it
  (``outline.py``), and the engine would look in the last one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, unquote

from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.outline import REFERENCES, Outline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schema_user.validation.dialect import Dialect


class Strict(NamedTuple):
    """A document as the engine is given it, and the patterns as they were, by those that it gets."""

    document: Mapping[str, Any]
    patterns: Mapping[str, str]


_OF_FRAGMENTS: Final = "~!$&'()*+,;=:@/?-._%"
"""What a fragment may have beside letters and digits, and the percent sign of what is encoded."""
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LOOSE_REFERENCE: Final = re.compile(r'"\$ref": "[^"#]*#/(?:[A-Za-z0-9~!$&\'()*+,;=:@/?._-]|%[0-9A-Fa-f]{2})*+(?!")')
_IDENTIFIER: Final = re.compile(r'"\$?id": "((?:[^"\\]|\\.)*+)"')


def strict_document(document: Mapping[str, Any], dialect: Dialect, patterns: Iterable[str]) -> Strict:
    """Write a document anew that has passed the gate, or give it as it is; ``patterns`` are all that may be in it."""
    written = {strict: pattern for pattern in patterns if (strict := strict_pattern(pattern)) != pattern}
    text = json.dumps(document)
    identifiers = _IDENTIFIER.findall(text)
    if not written and not _LOOSE_REFERENCE.search(text) and len(set(identifiers)) == len(identifiers):
        return Strict(document, {})
    copy: dict[str, Any] = json.loads(text)
    outline = Outline(copy, dialect)
    _tell_apart(outline)
    renamed = _renamed(outline)
    for location in outline:
        schema = location.schema
        if isinstance(reference := schema.get("$ref"), str):
            root = location.resource.root if reference.startswith("#") else copy
            schema["$ref"] = strict_reference(_led_through(renamed, reference, root))
    for location in outline:
        schema = location.schema
        if isinstance(schema.get("pattern"), str):
            schema["pattern"] = strict_pattern(schema["pattern"])
        if (named := renamed.get(id(schema.get("patternProperties")))) is not None:
            schema["patternProperties"] = named
    return Strict(copy, written)


def _renamed(outline: Outline) -> dict[int, dict[str, Any]]:
    """Write the maps of ``patternProperties``, by the ids of those that they replace.

    Where two patterns come to be the same, both stay, for the engine to refuse.
    """
    renamed = {}
    for location in outline:
        named = location.schema.get("patternProperties")
        if isinstance(named, dict):
            strict = {strict_pattern(name): inner for name, inner in named.items()}
            if len(strict) == len(named) and strict.keys() != named.keys():
                renamed[id(named)] = strict
    return renamed


def _led_through(renamed: Mapping[int, Any], reference: str, root: Any) -> str:
    """Lead a pointer through the new name where it goes through a pattern that has one."""
    uri, _, fragment = reference.partition("#")
    if not renamed or not fragment.startswith("/"):
        return reference
    value, led, changed = root, "", False
    for token in unquote(fragment).split("/")[1:]:
        step = token.replace("~1", "/").replace("~0", "~")
        name = strict_pattern(step) if id(value) in renamed else step
        changed = changed or name != step
        led += "/" + quote(name.replace("~", "~0").replace("/", "~1"), safe=_OF_FRAGMENTS.removesuffix("%"))
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (LookupError, TypeError, ValueError):
            return reference
    return f"{uri}#{led}" if changed else reference


def _tell_apart(outline: Outline) -> None:
    """Give an identifier of its own to each resource but the first that has it, if no reference in it names it."""
    naming = {
        id(location.resource)
        for location in outline
        if any(not str(location.schema.get(keyword, "#")).startswith("#") for keyword in REFERENCES)
    }
    taken: set[str] = set()
    for resource in dict.fromkeys(location.resource for location in outline):
        unique, number = "", 0
        while resource.base + unique in taken:
            number += 1
            unique = f"{'&' if '?' in resource.base else '?'}{number}"
        taken.add(resource.base + unique)
        if unique and id(resource) not in naming:
            keyword = outline.dialect.id_keyword
            resource.root[keyword] = resource.root[keyword].partition("#")[0] + unique


def strict_reference(reference: str) -> str:
    """Percent-encode what stands in the JSON Pointer of a reference and in no URI."""
    uri, sign, fragment = reference.partition("#")
    if not fragment.startswith("/"):
        return reference
    return uri + sign + quote(_LONE_PERCENT.sub("%25", fragment), safe=_OF_FRAGMENTS)
