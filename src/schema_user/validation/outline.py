"""Where a document has schemas, and where its references lead: read in linear time, nothing fetched.

Keywords count only at schema locations: not inside ``const``, ``enum``, ``default`` or ``examples``, nor under unknown
keywords, unless a reference leads there. A resource is a document with the identifiers and anchors of its own: the
root, and each schema with an ``$id``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urljoin

from schema_user.validation.dialect import OLD, Dialect, subschemas
from schema_user.validation.violations import pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAGMENT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
MAX_IDENTIFIER: Final = 2_048
"""Characters of an ``$id``: each reference is joined to it."""


@dataclass(slots=True, eq=False)
class Resource:
    """A schema with an identifier of its own, absolute as far as the root's is, and the anchors inside."""

    root: Any
    base: str
    anchors: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Location:
    """One schema that is an object; its path is kept from its parent's, for long paths are many."""

    schema: dict[str, Any]
    parent: Location | None
    tokens: tuple[str | int, ...]
    resource: Resource
    metachecked: bool = True
    """Whether the root's metaschema reaches it; not where only a reference leads."""

    def pointer(self, *more: str | int) -> str:
        """Write the JSON Pointer of the schema, or of something in it."""
        path = [more]
        here: Location | None = self
        while here is not None:
            path.append(here.tokens)
            here = here.parent
        return pointer("schema", (token for part in reversed(path) for token in part))


@dataclass(frozen=True, slots=True)
class BadReference:
    """A reference that leads nowhere it may."""

    location: Location
    keyword: str
    reason: str
    text: str


class _Unresolved(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Outline:
    """The schema locations of a document, and its references."""

    def __init__(self, document: dict[str, Any], dialect: Dialect) -> None:
        self.dialect = dialect
        self.bad_references: list[BadReference] = []
        self._places: dict[int, Location] = {}
        self._leads: dict[int, list[Any]] = {}
        self._root = Resource(document, "")
        root = Location(document, None, (), self._root)
        self._root.base = self._identifier(document) or ""
        self._walk(root)
        for location in list(self._places.values()):
            self._register_anchors(location)
        todo = list(self._places.values())
        while todo:
            todo = [found for location in todo for found in self._follow(location)]

    def __iter__(self) -> Iterator[Location]:
        return iter(self._places.values())

    def targets(self, schema: dict[str, Any]) -> list[Any]:
        """Give the schemas that the references of a schema lead to."""
        return self._leads.get(id(schema), [])

    def _identifier(self, schema: dict[str, Any]) -> str | None:
        """Give the identifier that begins a resource, without its empty fragment."""
        value = schema.get(self.dialect.id_keyword)
        if not isinstance(value, str) or len(value) > MAX_IDENTIFIER:
            return None
        if self.dialect in OLD and ("$ref" in schema or value.startswith("#")):
            return None
        return value.partition("#")[0]

    def _walk(self, start: Location) -> list[Location]:
        """Register a location and those inside it; give the new ones."""
        new, stack = [], [start]
        while stack:
            here = stack.pop()
            if id(here.schema) in self._places:
                continue
            self._places[id(here.schema)] = here
            new.append(here)
            for tokens, inner in subschemas(here.schema, self.dialect):
                if isinstance(inner, dict):
                    resource = self._resource(inner, here.resource)
                    stack.append(Location(inner, here, tokens, resource, here.metachecked))
        return new

    def _resource(self, schema: dict[str, Any], around: Resource) -> Resource:
        identifier = self._identifier(schema)
        return Resource(schema, _joined(around.base, identifier)) if identifier else around

    def _register_anchors(self, location: Location) -> None:
        schema = location.schema
        if self.dialect in OLD:
            value = schema.get(self.dialect.id_keyword)
            names: list[Any] = [value[1:]] if isinstance(value, str) and value.startswith("#") else []
        else:
            names = [schema.get("$anchor"), schema.get("$dynamicAnchor")]
        for name in names:
            if isinstance(name, str):
                location.resource.anchors.setdefault(name, schema)

    def _follow(self, location: Location) -> list[Location]:
        """Resolve the references of a schema; give the locations that only they lead to."""
        new = []
        for keyword in REFERENCES:
            reference = location.schema.get(keyword)
            if not isinstance(reference, str) or not self._is_keyword(keyword):
                continue
            try:
                target, found = self._resolve(location, keyword, reference)
            except _Unresolved as error:
                self.bad_references.append(BadReference(location, keyword, error.reason, error.text))
                continue
            self._leads.setdefault(id(location.schema), []).append(target)
            if found is not None:
                new += self._walk(found)
        return new

    def _is_keyword(self, keyword: str) -> bool:
        if keyword == "$dynamicRef":
            return self.dialect is Dialect.DRAFT_2020_12
        return keyword == "$ref" or self.dialect is Dialect.DRAFT_2019_09

    def _resolve(self, location: Location, keyword: str, reference: str) -> tuple[Any, Location | None]:
        """Give the schema that a reference means, and its location if it is not yet known."""
        if keyword == "$recursiveRef" and reference != "#":
            raise _Unresolved("refUnresolved", 'must be "#"')
        uri, _, fragment = reference.partition("#")
        resource = location.resource
        if uri and _joined(resource.base, uri) != resource.base:
            if not self._root.base or _joined(resource.base, uri) != self._root.base:
                raise _Unresolved("refRemote", "must stay in the document: # and what follows, nothing is fetched")
            resource = self._root
        if fragment and not fragment.startswith("/"):
            if not _FRAGMENT.fullmatch(fragment):
                raise _Unresolved("refSyntax", "is no URI reference: other characters must be percent-encoded")
            if fragment not in resource.anchors:
                raise _Unresolved("refUnresolved", "names an anchor that is not in the document")
            return resource.anchors[fragment], None
        return self._point(resource, unquote(fragment))

    def _point(self, resource: Resource, path: str) -> tuple[Any, Location | None]:
        value = resource.root
        known, beyond = self._places[id(value)], []
        for token in path.split("/")[1:]:
            step: str | int = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
                step = int(token)
            elif not isinstance(value, dict) or step not in value:
                raise _Unresolved("refUnresolved", "points to nothing in the document")
            value = value[step]
            beyond.append(step)
            if id(value) in self._places:
                known, beyond = self._places[id(value)], []
        if isinstance(value, bool):
            return value, None
        if not isinstance(value, dict):
            raise _Unresolved("refUnresolved", "points to something that is no schema")
        if id(value) in self._places:
            return value, None
        inside = self._resource(value, known.resource)
        return value, Location(value, known, tuple(beyond), inside, metachecked=False)


def _joined(base: str, uri: str) -> str:
    """Join as RFC 3986 says; what can't be joined, or grows without bounds, stays as it is."""
    if len(base) + len(uri) > 2 * MAX_IDENTIFIER:
        return uri
    try:
        return urljoin(base, uri)
    except ValueError:
        return uri
