"""Field permissions against a naive reading of the schema, which looks at every subschema for every place."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schema_user.domain.document import pointer, same
from schema_user.domain.field_access import BARE, OPEN, READ, WRITE, FieldAccess, FieldPermissions, FieldRole
from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.errors import Violation
from schema_user.validation import gate
from schema_user.validation.permission_keyword import KEYWORD, compile_permissions
from schema_user.validation.seen_schema import seen_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Path = tuple[str | int, ...]
NAMES: Final = ["a", "b", "ab", "c"]
PATTERNS: Final = ["^a", "b$", "c"]
_BITS: Final = {"r": READ, "w": WRITE, "rw": OPEN}
_SINGLES: Final = ["additionalProperties", "unevaluatedProperties", "items", "contains", "unevaluatedItems"]
_IN_PLACE_SINGLES: Final = ["if", "then", "else", "not"]

PERMISSIONS = st.dictionaries(st.sampled_from(["owner", "self"]), st.sampled_from(["r", "w", "rw", "rw"]))


def _subschemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    optional: dict[str, st.SearchStrategy[Any]] = {
        KEYWORD: PERMISSIONS,
        "properties": named,
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
        "dependentSchemas": named,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "$ref": st.sampled_from(["#", "#/$defs/one", "#/$defs/two"]),
    }
    optional |= dict.fromkeys(_SINGLES + _IN_PLACE_SINGLES, inner)
    optional |= {keyword: st.lists(inner, min_size=1, max_size=2) for keyword in ("allOf", "anyOf", "oneOf")}
    return st.lists(st.sampled_from(list(optional)), max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({keyword: optional[keyword] for keyword in chosen})
    )


SUBSCHEMAS = st.recursive(
    st.booleans() | st.just({}) | st.builds(lambda given: {KEYWORD: given}, PERMISSIONS), _subschemas, max_leaves=8
)
OBJECTS = SUBSCHEMAS.filter(lambda each: isinstance(each, dict))
SCHEMAS = st.builds(lambda root, one, two: {**root, "$defs": {"one": one, "two": two}}, OBJECTS, SUBSCHEMAS, SUBSCHEMAS)
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, "x", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "d"]), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from([*NAMES, "d"]), VALUES, max_size=4)
ROLES = st.sampled_from(list(FieldRole))
LENIENT: Final = settings(deadline=None)
"""How long an example takes depends on what else the machine does."""


class Naive:
    """What a schema gives to a role at a place, found anew for every place."""

    def __init__(self, document: dict[str, Any], role: FieldRole) -> None:
        self.document = document
        self.role = role.name.lower()

    def bits(self, path: Path) -> int:
        """Give the permission at a place."""
        applying, bits = self._in_place([self.document]), OPEN
        for token in (None, *path):
            if token is not None:
                found = [child for each in applying for child in self._children(each, token)]
                applying = self._in_place(found)
            given = [each[KEYWORD] for each in applying if KEYWORD in each]
            if given:
                bits = OPEN
                for each in given:
                    bits &= _BITS.get(each.get(self.role, ""), 0)
        return bits

    def _target(self, schema: dict[str, Any]) -> Any:
        return self.document if schema["$ref"] == "#" else self.document["$defs"][schema["$ref"].rpartition("/")[2]]

    def _in_place(self, schemas: Iterable[Any], *, sure: bool = False) -> list[dict[str, Any]]:
        todo, found = list(schemas), {}
        while todo:
            each = todo.pop()
            if not isinstance(each, dict) or id(each) in found:
                continue
            found[id(each)] = each
            todo += [self._target(each)] if "$ref" in each else []
            todo += each.get("allOf", [])
            if not sure:
                for keyword in ("anyOf", "oneOf"):
                    todo += each.get(keyword, [])
                todo += each.get("dependentSchemas", {}).values()
                todo += [each[keyword] for keyword in _IN_PLACE_SINGLES if keyword in each]
        return list(found.values())

    def _children(self, schema: dict[str, Any], token: str | int) -> list[Any]:
        found, evaluated = self._own_children(schema, token)
        unevaluated = "unevaluatedItems" if isinstance(token, int) else "unevaluatedProperties"
        if unevaluated in schema and not evaluated:
            others = [each for each in self._in_place([schema], sure=True) if each is not schema]
            if not any(unevaluated in each or self._own_children(each, token)[1] for each in others):
                found.append(schema[unevaluated])
        return found

    @staticmethod
    def _own_children(schema: dict[str, Any], token: str | int) -> tuple[list[Any], bool]:
        if isinstance(token, int):
            always = [schema["contains"]] if "contains" in schema else []
            prefix = schema.get("prefixItems", [])
            found = [prefix[token]] if token < len(prefix) else [schema["items"]] if "items" in schema else []
            return found + always, bool(found)
        named = schema.get("properties", {})
        found = [named[token]] if token in named else []
        found += [inner for text, inner in schema.get("patternProperties", {}).items() if re.search(text, token)]
        if not found and "additionalProperties" in schema:
            found = [schema["additionalProperties"]]
        return found, bool(found)


def access_of(document: dict[str, Any], role: FieldRole) -> tuple[FieldAccess, Naive]:
    """Give both readings of a schema."""
    permissions = compile_permissions(document, "2020-12") or FieldPermissions(BARE, 0)
    return permissions.of(role), Naive(document, role)


def places(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give all places of a document, with their values."""
    yield at, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))


def seen(naive: Naive, value: Any, at: Path = ()) -> Any:
    """Give what is visible of a value, or Ellipsis."""
    readable = bool(naive.bits(at) & READ)
    if isinstance(value, dict):
        members = {name: seen(naive, inner, (*at, name)) for name, inner in value.items()}
        members = {name: inner for name, inner in members.items() if inner is not ...}
        return members if members or readable else ...
    if isinstance(value, list) and value:
        items = [seen(naive, inner, (*at, index)) for index, inner in enumerate(value)]
        return ... if ... in items else items
    return value if readable else ...


def changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Path]:
    """Give the places at which a value is there in one of the two only, or another."""
    old, new = dict(places(before)), dict(places(after))
    for at in dict.fromkeys((*old, *new)):
        if at not in old or at not in new or not _alike(old[at], new[at]):
            yield at


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, or both objects or arrays: what is inside are places of their own."""
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in (dict, list)) or same(one, other)


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS)
def test_what_is_visible_is_what_the_naive_reading_shows(
    schema: dict[str, Any], role: FieldRole, data: dict[str, Any]
) -> None:
    """Place by place, through every way in which subschemas apply."""
    access, naive = access_of(schema, role)
    expected = seen(naive, data)
    assert access.visible(data) == ({} if expected is ... else expected)


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS)
def test_what_was_read_and_is_written_back_changes_nothing(
    schema: dict[str, Any], role: FieldRole, data: dict[str, Any]
) -> None:
    """Whatever is hidden stays, and nothing is denied."""
    access, _ = access_of(schema, role)
    shown = access.visible(data)
    judged = access.judged(data, shown)
    assert (judged.denied, judged.blind) == ([], False)
    assert same(access.merged(data, shown), data)


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS, st.data())
def test_no_unwritable_place_ever_changes(
    schema: dict[str, Any], role: FieldRole, data: dict[str, Any], draw: st.DataObject
) -> None:
    """What is not denied changes places that may be written only, and leaves arrays whose items are not all open."""
    access, naive = access_of(schema, role)
    sent = draw.draw(DOCUMENTS | edits(access.visible(data)))
    if access.denied(data, sent):
        return
    after = access.merged(data, sent)
    old = dict(places(data))
    for at in changed(data, after):
        assert naive.bits(at) & WRITE, at
    for at, value in places(after):
        before = old.get(at)
        if isinstance(value, list) and isinstance(before, list) and len(value) != len(before):
            inside = [(*at, *below) for each in (value, before) for below, _ in places(each) if below]
            assert all(naive.bits(place) == OPEN for place in inside)


@st.composite
def edits(draw: st.DrawFn, shown: dict[str, Any]) -> dict[str, Any]:
    """Change a document at one or two places."""
    result: Any = shown
    for _ in range(draw(st.integers(1, 2))):
        target = draw(st.sampled_from([at for at, _ in places(result)]))
        result = edited(result, target, lambda value: _another(draw, value))
    return dict(result)


def edited(value: Any, at: Path, change: Callable[[Any], Any]) -> Any:
    """Change a value at a place."""
    if not at:
        return change(value)
    if isinstance(value, dict):
        return {**value, str(at[0]): edited(value[str(at[0])], at[1:], change)}
    return [edited(inner, at[1:], change) if index == at[0] else inner for index, inner in enumerate(value)]


def _another(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        dropped = draw(st.sets(st.sampled_from([*NAMES, "d"]), max_size=1))
        kept = {name: inner for name, inner in value.items() if name not in dropped}
        return kept | draw(st.dictionaries(st.sampled_from([*NAMES, "d"]), VALUES, max_size=1))
    if isinstance(value, list):
        return draw(st.permutations(value) | st.just([*value, *value[:1]]) | st.just(value[:-1]) | VALUES)
    return draw(VALUES)


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS, DOCUMENTS, st.data())
def test_nothing_hidden_makes_a_difference(
    schema: dict[str, Any], role: FieldRole, data: dict[str, Any], other: dict[str, Any], draw: st.DataObject
) -> None:
    """Two documents that look the same to a caller answer it the same, whatever it sends."""
    access, _ = access_of(schema, role)
    shown = access.visible(data)
    twin = access.merged(other, shown)
    assume(same(access.visible(twin), shown))
    sent = draw.draw(DOCUMENTS | edits(shown))
    one, two = access.judged(data, sent), access.judged(twin, sent)
    assert (one.denied, one.blind) == (two.denied, two.blind)
    if not one.denied and not one.blind:
        assert same(access.merged(data, sent), data) == same(access.merged(twin, sent), twin)


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS, st.data())
def test_a_place_that_may_be_read_and_written_can_be_changed(
    schema: dict[str, Any], role: FieldRole, data: dict[str, Any], draw: st.DataObject
) -> None:
    """A scalar of which everything inside is open takes another scalar, wherever it stands."""
    access, naive = access_of(schema, role)
    shown = access.visible(data)
    scalars = [at for at, value in places(shown) if not isinstance(value, dict | list) and naive.bits(at) == OPEN]
    if not scalars:
        return
    at = draw.draw(st.sampled_from(scalars))
    sent = edited(shown, at, lambda _: "another")
    assert access.denied(data, sent) == []
    assert dict(places(access.merged(data, sent)))[at] == "another"


@LENIENT
@given(SCHEMAS, ROLES, DOCUMENTS)
def test_errors_speak_of_readable_places_only(schema: dict[str, Any], role: FieldRole, data: dict[str, Any]) -> None:
    """Words of the schema are for readable places; others are reported at the nearest around them, by reason."""
    access, naive = access_of(schema, role)
    shown = {at for at, _ in places(access.visible(data))}
    asked = [at for at, _ in places(data)]
    asked += [
        (*at, name) for at, value in places(data) if isinstance(value, dict) for name in NAMES if name not in value
    ]
    for at in asked:
        violation = Violation(pointer("data", *at), "words", "reason")
        (told,) = access.readable(data, [violation])
        readable = [
            at[:length]
            for length in range(len(at) + 1)
            if naive.bits(at[:length]) & READ and (not length or at[: length - 1] in shown)
        ]
        nearest = max(readable, key=len, default=())
        assert (told.field, told.reason) == (pointer("data", *nearest), "reason")
        assert (told.description == "words") == (at in readable)


@LENIENT
@given(SCHEMAS, ROLES)
def test_the_schema_as_somebody_sees_it_is_one(schema: dict[str, Any], role: FieldRole) -> None:
    """It passes the gate as the whole does, and names a member at the top only if something of it can be seen."""
    assume(not gate.check(schema).violations)
    access, _ = access_of(schema, role)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    stored = UserSchema(
        "s", None, "t", 1, json.dumps(schema), "2020-12", SchemaState.ACTIVE, (), created_at=at, changed_at=at
    )
    shown = json.loads(seen_schema(stored, access))
    assert gate.check(shown).violations == ()
    rule, bits = access.root, access.bits(access.root, OPEN)
    for name in shown.get("properties", {}) if '"#' not in json.dumps(schema) else ():
        member = rule.member(name)
        assert access.shows(member, access.bits(member, bits))
