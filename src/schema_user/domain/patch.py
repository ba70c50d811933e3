"""Patches of a document: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902), bounded for strangers.

A patch is read once (``read_json_patch``, ``read_merge_patch``) and applied to whatever document is there; the document
itself is never changed. Violations carry the pointer into the body of the patch (``3/path``).

The libraries for it were not taken: they look at limits only after the last operation, if at all, and say that ``true``
equals ``1``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from schema_user.domain.document import forbidden_key, pointer, same
from schema_user.errors import Malformed, Unmet, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_OPERATIONS: Final = 1000
_MAX_LISTED: Final = 100
_MAX_FIELD_CHARACTERS: Final = 64 * 1024
_MOVED_LIMIT: Final = 2
"""How many times the size limit (or the size of larger data) the operations of a patch may copy, move, replace and
remove together, in bytes of JSON: 2 MiB take 0.05 to 0.4 s. Without it a thousand copies, each replacing the one
before, would take a minute."""
_SHIFTED_FOR_A_BYTE: Final = 32
"""Items of an array that make room for another, or close up, count too, but moving them is far cheaper."""
_INDEX: Final = re.compile("0|[1-9][0-9]{0,8}")
_BAD_ESCAPE: Final = re.compile("~(?![01])")
_END: Final = "-"
_HOLDERS: Final = frozenset({dict, list})

_MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}
"""What each operation must have; other members are ignored (RFC 6902, 4)."""

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may be after each operation: bytes as compact JSON, and levels of objects and arrays."""

    size: int
    depth: int


class Patch(Protocol):
    """A change to a document that is described by itself, apart from any document."""

    def stages(self, document: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
        """Give what a patch makes of a document, which stays as it is: after each operation, the last being the result.

        What is given before the last is still worked on.

        Raises:
            Malformed: ``PATCH_INVALID``, if an operation leads nowhere or over a limit, or a key cannot stand in data.
            Unmet: ``PATCH_TEST_FAILED``.
        """


def applied(patch: Patch, document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Give the document that a patch makes of another, at one go."""
    result = document
    for stage in patch.stages(document, limits):
        result = stage
    return result


def read_merge_patch(body: Any) -> Patch:
    """Read a merge patch: an object whose nulls remove and whose other members replace.

    Raises:
        Malformed: if it is anything else, which would replace the whole document by what is no object.
    """
    if not isinstance(body, dict):
        raise _invalid([Violation("", "must be an object", "type")])
    wrong = _Wrong()
    _look(body, (), wrong)
    wrong.refuse()
    return _MergePatch(body)


def read_json_patch(body: Any) -> Patch:
    """Read a JSON patch: an array of at most 1,000 operations.

    Raises:
        Malformed: with everything that is wrong with its form, at most 100 of it.
    """
    if not isinstance(body, list):
        raise _invalid([Violation("", "must be an array of operations", "type")])
    if len(body) > MAX_OPERATIONS:
        raise _invalid([Violation("", f"must have at most {MAX_OPERATIONS} operations", "maxItems")])
    wrong = _Wrong()
    steps = tuple(step for index, each in enumerate(body) if (step := _read_step(each, index, wrong)) is not None)
    wrong.refuse()
    return _JsonPatch(steps)


def _invalid(found: list[Violation]) -> Malformed:
    first = found[0]
    return Malformed("PATCH_INVALID", f"{first.field or 'the patch'} {first.description}", found)


@dataclass(slots=True)
class _Wrong:
    """What is wrong with the form of a patch; names can be long, so that pointers are bounded together too."""

    listed: list[Violation] = field(default_factory=list)
    others: int = 0
    room: int = _MAX_FIELD_CHARACTERS

    def add(self, at: tuple[str | int, ...], description: str, reason: str) -> None:
        size = sum(len(token) for token in at if isinstance(token, str))
        if self.listed and (len(self.listed) == _MAX_LISTED or size > self.room):
            self.others += 1
            return
        self.room -= size
        self.listed.append(Violation(pointer(*at), description, reason))

    def refuse(self) -> None:
        """Raise Malformed if anything was added."""
        if self.others:
            self.listed.append(Violation("", f"and {self.others} more", "truncated"))
        if self.listed:
            raise _invalid(self.listed)


def _look(value: Any, at: tuple[str | int, ...], wrong: _Wrong) -> None:
    """Collect keys that cannot stand in data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if problem := forbidden_key(key):
                wrong.add((*at, key), problem, "key")
            if type(inner) in _HOLDERS:
                _look(inner, (*at, key), wrong)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if type(inner) in _HOLDERS:
                _look(inner, (*at, index), wrong)


def _levels(value: Any) -> int:
    """Give how deep objects and arrays nest in a value; 0 for one that is neither."""
    levels, here = 0, [value] if type(value) in _HOLDERS else []
    while here:
        levels += 1
        members = (each.values() if type(each) is dict else each for each in here)
        here = [inner for inners in members for inner in inners if type(inner) in _HOLDERS]
    return levels


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


@dataclass(frozen=True, slots=True)
class _MergePatch:
    members: dict[str, Any]

    def stages(self, document: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
        result: dict[str, Any] = _merged(document, self.members)
        if _levels(result) > limits.depth:
            raise _invalid([Violation("", f"would make the data deeper than {limits.depth} levels", "depth")])
        size = _size(result)
        if size > limits.size and size > _size(document):
            raise _invalid([_too_large("", limits)])
        yield result


def _merged(target: Any, patch: Any) -> Any:
    """Merge as RFC 7396 (2) says; what does not change is shared with the target."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, inner in patch.items():
        if inner is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), inner)
    return result


def _too_large(at: str, limits: Limits) -> Violation:
    return Violation(at, f"would make the data larger than {limits.size} bytes", "size")


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation of a JSON patch.

    ``index`` is where it stands; ``text`` is the value as compact JSON and ``levels`` how deep it nests.
    """

    index: int
    op: str
    path: Tokens
    source: Tokens = ()
    value: Any = None
    text: bytes = b""
    levels: int = 0

    def wrong(self, member: str, description: str, reason: str) -> Malformed:
        """Give the fault for what a member of the operation means in this document."""
        return _invalid([Violation(f"{self.index}/{member}", description, reason)])


def _read_step(given: Any, index: int, wrong: _Wrong) -> _Step | None:
    """Read an operation; None if anything is wrong with it."""
    if not isinstance(given, dict):
        wrong.add((index,), "must be an object", "type")
        return None
    op = given.get("op")
    if not isinstance(op, str) or op not in _MEMBERS:
        wrong.add((index, "op"), "must be one of " + ", ".join(_MEMBERS), "enum")
        return None
    missing = [name for name in _MEMBERS[op] if name not in given]
    for name in missing:
        wrong.add((index, name), "is required", "required")
    paths = {
        name: _read_pointer(given[name], (index, name), wrong)
        for name in ("path", "from")
        if name in _MEMBERS[op] and name in given
    }
    value = given.get("value") if "value" in _MEMBERS[op] else None
    _look(value, (index, "value"), wrong)
    path, source = paths.get("path"), paths.get("from", ())
    if path is None or source is None:
        return None
    return _Step(index, op, path, source, value, msgspec.json.encode(value), _levels(value))


def _read_pointer(given: Any, at: tuple[str | int, ...], wrong: _Wrong) -> Tokens | None:
    """Read a JSON Pointer (RFC 6901, 3)."""
    if not isinstance(given, str):
        wrong.add(at, "must be a string", "type")
    elif given and given[0] != "/":
        wrong.add(at, "must be a JSON Pointer: empty, or beginning with /", "pointer")
    elif _BAD_ESCAPE.search(given):
        wrong.add(at, "must be a JSON Pointer: ~ is written ~0, and / within a name ~1", "pointer")
    else:
        return tuple(token.replace("~1", "/").replace("~0", "~") for token in given.split("/")[1:])
    return None


@dataclass(frozen=True, slots=True)
class _JsonPatch:
    steps: tuple[_Step, ...]

    def stages(self, document: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
        text = msgspec.json.encode(document)
        work = _Work(msgspec.json.decode(text), limits, len(text), _MOVED_LIMIT * max(limits.size, len(text)))
        yield work.document
        for step in self.steps:
            before = work.size
            _DO[step.op](work, step)
            if work.size > max(before, limits.size):
                raise _invalid([_too_large(f"{step.index}/path", limits)])
            yield work.document


@dataclass(slots=True)
class _Work:
    """A document that operations change in place, with its size as compact JSON, kept up to date by each of them.

    ``moved`` counts the bytes that they went through, of at most ``budget``.
    """

    document: dict[str, Any]
    limits: Limits
    size: int
    budget: int
    moved: int = 0

    def add(self, step: _Step) -> None:
        self._put(step, msgspec.json.decode(step.text), step.levels, len(step.text))

    def remove(self, step: _Step) -> None:
        self._take(step, step.path, "path")

    def replace(self, step: _Step) -> None:
        self._find(step, step.path, "path")
        if step.path and isinstance(self._parent(step, step.path, "path"), list):
            self._take(step, step.path, "path")
        self._put(step, msgspec.json.decode(step.text), step.levels, len(step.text))

    def move(self, step: _Step) -> None:
        if step.source == step.path:
            self._find(step, step.source, "from")
            return
        if step.path[: len(step.source)] == step.source:
            raise step.wrong("path", "must not lie within what is moved", "ownChild")
        value, size = self._take(step, step.source, "from")
        self._put(step, value, _levels(value), size)

    def copy(self, step: _Step) -> None:
        text = self._measured(step, self._find(step, step.source, "from"))
        value = msgspec.json.decode(text)
        self._put(step, value, _levels(value), len(text))

    def test(self, step: _Step) -> None:
        try:
            equal = same(self._find(step, step.path, "path"), step.value)
        except Malformed:
            equal = False
        if not equal:
            violation = Violation(f"{step.index}/value", "is not what is there", "test")
            raise Unmet("PATCH_TEST_FAILED", f"operation {step.index} of the patch: the test failed", [violation])

    def _measured(self, step: _Step, value: Any) -> bytes:
        """Give a value as JSON, and count what it costs to go through it."""
        text = msgspec.json.encode(value)
        self._count(step, len(text))
        return text

    def _count(self, step: _Step, cost: int) -> None:
        self.moved += cost
        if self.moved > self.budget:
            raise step.wrong("op", f"makes the patch copy, move and remove more than {self.budget} bytes", "work")

    def _find(self, step: _Step, tokens: Tokens, member: str) -> Any:
        """Give what is at a place."""
        value: Any = self.document
        for token in tokens:
            value = _inside(value, token)
            if value is _NOTHING:
                raise step.wrong(member, "leads to nothing", "pointer")
        return value

    def _parent(self, step: _Step, tokens: Tokens, member: str) -> Any:
        parent = self._find(step, tokens[:-1], member)
        if not isinstance(parent, dict | list):
            raise step.wrong(member, "leads into what is neither an object nor an array", "pointer")
        return parent

    def _take(self, step: _Step, tokens: Tokens, member: str) -> tuple[Any, int]:
        """Remove what is at a place; give it and its size."""
        if not tokens:
            raise step.wrong(member, "must not be the whole of the data", "pointer")
        value = self._find(step, tokens, member)
        size = len(self._measured(step, value))
        parent, token = self._parent(step, tokens, member), tokens[-1]
        self.size -= size + _around(parent, token, len(parent) - 1)
        if isinstance(parent, dict):
            del parent[token]
        else:
            self._count(step, (len(parent) - int(token)) // _SHIFTED_FOR_A_BYTE)
            del parent[int(token)]
        return value, size

    def _put(self, step: _Step, value: Any, levels: int, size: int) -> None:
        """Add a value at the operation's path: a new member, another value of one, an item before another."""
        tokens = step.path
        if len(tokens) + levels > self.limits.depth:
            raise step.wrong("path", f"would make the data deeper than {self.limits.depth} levels", "depth")
        if not tokens:
            if not isinstance(value, dict):
                raise step.wrong("path", "would make the data other than an object", "type")
            self.document, self.size = value, size
        else:
            parent, token = self._parent(step, tokens, "path"), tokens[-1]
            if isinstance(parent, list):
                self._insert(step, parent, token, value)
                self.size += size + _around(parent, token, len(parent) - 1)
            elif token in parent:
                self.size += size - len(self._measured(step, parent[token]))
                parent[token] = value
            elif problem := forbidden_key(token):
                raise step.wrong("path", problem, "key")
            else:
                self.size += size + _around(parent, token, len(parent))
                parent[token] = value

    def _insert(self, step: _Step, parent: list[Any], token: str, value: Any) -> None:
        if token != _END and not _INDEX.fullmatch(token):
            raise step.wrong("path", "must end with an index of the array, or with -", "pointer")
        at = len(parent) if token == _END else int(token)
        if at > len(parent):
            raise step.wrong("path", "leads beyond the end of the array", "pointer")
        self._count(step, (len(parent) - at) // _SHIFTED_FOR_A_BYTE)
        parent.insert(at, value)


_NOTHING: Final = object()
_DO: Final = {
    "add": _Work.add,
    "remove": _Work.remove,
    "replace": _Work.replace,
    "move": _Work.move,
    "copy": _Work.copy,
    "test": _Work.test,
}


def _inside(value: Any, token: str) -> Any:
    """Give the member or item of a value that a token names."""
    if isinstance(value, dict):
        return value.get(token, _NOTHING)
    if isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    return _NOTHING


def _around(parent: Any, token: str, others: int) -> int:
    """Give the bytes that a member takes beside its value: its name and colon, and a comma if there are others."""
    return (_size(token) + 1 if isinstance(parent, dict) else 0) + (1 if others else 0)
