r"""No document takes longer than the bound of its schema says, however schema and document are bred for being slow.

The tests look at the clock. The bound holds a factor of 4 over the highest prices that were measured, and each time
is the best of several, each by a validator that has seen nothing before. ``BOUND_EXAMPLES=20000`` runs many more
examples than the few of a usual run.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata

from schema_user.validation.bound import MAX_LEVELS, bound, ordered
from schema_user.validation.dialect import Dialect
from schema_user.validation.rust import compile_schema

if TYPE_CHECKING:
    import random

_EXAMPLES: Final = int(os.environ.get("BOUND_EXAMPLES", "300"))
_TRIES: Final = 4
_NAMES: Final = ("a", "b", "c", "", "name", "xa", "0")
_PATTERNS: Final = (
    "^[a-z]{1,20}$", "^[A-Z][a-z-]*$", "[ab]*a[ab]{9}c", "(a|b|ab)*$", "^(a|ab|b){3,9}$", ".{3,8}x", "x.{12}y", "^x-",
    "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", "^(\\w+\\s?)*$", "\\p{L}{3}x", "^\\p{Lu}", "[0-9]{3}-[a-z]{4}", "^.{1,30}$",
    "(?:\\p{L}a){2,}$", "^[ab]*a[ab]{12}$", "a|b|c$", "\\d$", "^((a|b|ab){3,6})*$",
    "^(([a-z]{1,40}|b{3})){10}$", "^([1-2][0-9]{3}-[0-1][0-9]|a|aa|aaa)aaaa$", "^[a-f]{9}$", "^(?:[a-z0-9]{0,8}){9}$",
)  # fmt: skip
_ALPHABETS: Final = ("ab", "a", "x", "ab-.@ 019xy/:+~{}", "aébß漢字1 '-x", "😀é漢aא·", "0123456789", "éa")
_FORMATS: Final = (
    "date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri",
    "iri-reference", "uri-template", "uuid", "json-pointer", "relative-json-pointer", "phone", "unknown",
)  # fmt: skip
_TEXTS: Final = (
    "", "a", "+12345", "+4179123456", "+54 9 11 1234", "http://a/?b#c", "2026-01-31", "2026-01-31T12:00:00.000Z",
    "a@b.c", "12:00:00Z", "P1Y", "1.1.1.1", "1::1", "/a~0", "{a}", "+99999", "0/a", "xn--a", "a.b.c",
)  # fmt: skip
_NUMBERS: Final = (
    0,
    1,
    -1,
    0.5,
    1.0,
    1e-300,
    -5e-324,
    1e300,
    1.7976931348623157e308,
    2**63 - 1,
    10**15 + 1,
    1e-9,
    1e22,
)


class Breeder:
    """Breeds schemas that are slow to ask, and documents that find where."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names = list(_NAMES[: chance.randint(1, 4)])
        self.defs = [f"d{number}" for number in range(chance.randint(0, 3))]

    def document(self) -> tuple[dict[str, Any], Dialect]:
        """Breed a schema with definitions that may lead to one another."""
        dialect = self.chance.choice([Dialect.DRAFT_2020_12, Dialect.DRAFT_2020_12, Dialect.DRAFT_7, Dialect.DRAFT_4])
        if dialect is Dialect.DRAFT_4:
            dialect = Dialect.DRAFT_2019_09
        root = self.schema(self.chance.randint(1, 4))
        schema = root if isinstance(root, dict) else {}
        return {**schema, "$defs": {name: self.schema(self.chance.randint(0, 3)) for name in self.defs}}, dialect

    def schema(self, depth: int) -> Any:
        """Breed one schema: some keywords of its own, and some around others."""
        chance = self.chance
        if chance.random() < 0.05:
            return True
        made: dict[str, Any] = {}
        for _ in range(chance.randint(0, 3)):
            made.update(self._own())
        if self.defs and chance.random() < 0.3:
            made["$ref"] = f"#/$defs/{chance.choice(self.defs)}"
        for _ in range(chance.choice((0, 1, 1, 2)) if depth else 0):
            made.update(self._around(depth - 1))
        return made

    def _own(self) -> dict[str, Any]:
        chance = self.chance
        number = chance.choice(_NUMBERS)
        options = [chance.choice((number, "a", [number, "a"], {"a": number}, [], True, chance.choice(_NUMBERS)))]
        options += range(chance.choice((0, 0, 1, 3, 20)))
        listed = [f"o{each}" for each in range(chance.choice((1, 9, 30)))]
        return chance.choice((
            {"type": chance.choice(("object", "array", "string", "number", "integer", ["string", "array", "object"]))},
            {"minimum": number}, {"maximum": number}, {"exclusiveMinimum": number},
            {"multipleOf": chance.choice((1, 2, 0.01, 0.1, 1.1e-300, 10**20))},
            {"enum": options}, {"enum": listed}, {"const": options[0]}, {"const": options},
            {"minLength": 1}, {"maxLength": chance.choice((5, 100))}, {"maxLength": 100_000},
            {"pattern": chance.choice(_PATTERNS)}, {"format": chance.choice(_FORMATS)},
            {"required": [chance.choice(self.names)]}, {"minProperties": 1}, {"maxItems": 9_999_999},
            {"dependentRequired": dict.fromkeys(self.names, self.names)},
            {"uniqueItems": True}, {"uniqueItems": True, "items": {"type": "string"}}, {"title": "nothing"},
        ))  # fmt: skip

    def _around(self, depth: int) -> dict[str, Any]:
        chance = self.chance

        def one() -> Any:
            return self.schema(depth)

        def several() -> list[Any]:
            if chance.random() < 0.2:
                return [one()] * chance.choice((5, 30))
            return [one() for _ in range(chance.randint(1, 3))]

        return chance.choice((
            lambda: {"properties": {name: one() for name in self.names}},
            lambda: {"properties": {name: one() for name in self.names}, "additionalProperties": False},
            lambda: {"additionalProperties": one()},
            lambda: {"patternProperties": {chance.choice(_PATTERNS): one() for _ in range(2)}},
            lambda: {"propertyNames": one()},
            lambda: {"items": one()},
            lambda: {"items": one()},
            lambda: {"prefixItems": several(), "items": one()},
            lambda: {"contains": one(), "minContains": 3, "maxContains": 100_000},
            lambda: {"allOf": several()},
            lambda: {"anyOf": several()},
            lambda: {"oneOf": several()},
            lambda: {"not": one()},
            lambda: {"if": one(), "then": one(), "else": one()},
            lambda: {"dependentSchemas": {name: one() for name in self.names}},
        ))()  # fmt: skip

    def data(self, schema: Any, document: dict[str, Any], room: int) -> Any:
        """Breed a document of about ``room`` values that goes where the schema does, or anywhere."""
        chance = self.chance
        while isinstance(schema, dict) and "$ref" in schema and chance.random() < 0.7:
            schema = document["$defs"][schema["$ref"].rsplit("/", 1)[1]]
            room -= 1
            if room <= 0:
                break
        if room <= 1 or not isinstance(schema, dict):
            return self._leaf(room)
        inner = [each for each in self._inside(schema) if isinstance(each[1], dict)]
        if inner and chance.random() < 0.9:
            name, child = chance.choice(inner)
            if name is None:
                return self.data(child, document, room - 1)
            many = chance.choice((1, 1, 2, room))
            if name == "[]":
                return self._repeated(child, document, room, many)
            if isinstance(schema.get("properties"), dict) and chance.random() < 0.7:
                each = {key: self.data(value, document, room // 4) for key, value in schema["properties"].items()}
                return {**each, name: self.data(child, document, room // 2)}
            return {(name if index == 0 else f"{name}{index}"): self.data(child, document, room // many)
                    for index in range(many)}  # fmt: skip
        return self._leaf(room)

    def _repeated(self, schema: Any, document: dict[str, Any], room: int, many: int) -> list[Any]:
        if self.chance.random() < 0.7:
            return [self.data(schema, document, room // many)] * many
        return [self.data(schema, document, room // many) for _ in range(many)]

    @staticmethod
    def _inside(schema: dict[str, Any]) -> list[tuple[str | None, Any]]:
        """List the schemas inside: with a name of a property, ``[]`` for items, None for the same value."""
        found: list[tuple[str | None, Any]] = []
        for keyword, value in schema.items():
            if keyword == "properties":
                found += value.items()
            elif keyword in {"patternProperties", "dependentSchemas"}:
                found += [("xa" if keyword == "patternProperties" else None, each) for each in value.values()]
            elif keyword in {"additionalProperties", "propertyNames"}:
                found.append(("k", value))
            elif keyword in {"items", "contains"}:
                found.append(("[]", value))
            elif keyword in {"allOf", "anyOf", "oneOf", "if", "then", "else", "not"}:
                found += [(None, each) for each in (value if isinstance(value, list) else [value])]
        return found

    def _leaf(self, room: int) -> Any:
        chance = self.chance
        room = max(room, 1)
        text = "".join(chance.choices(chance.choice(_ALPHABETS), k=min(room, 3_000)))
        one: Any = chance.choice((text, chance.choice(_TEXTS), chance.choice(_NUMBERS), {}, [], {"a": 1}, None, True))
        return chance.choice((
            one,
            [one] * room,
            dict.fromkeys(self.names, one),
            {f"{text[:20]}{index}": one for index in range(room // 2)},
            [dict.fromkeys(self.names, one)] * (room // 3),
            chance.choice(_TEXTS) * (room // 3 + 1),
        ))  # fmt: skip


def best_ns(schema: dict[str, Any], dialect: Dialect, data: Any) -> int:
    """Time ``is_valid`` by validators that have seen nothing before, and give the best, in nanoseconds."""
    times = []
    for _ in range(_TRIES):
        validator = compile_schema(schema, dialect, quick=True)
        begun = time.perf_counter_ns()
        validator.is_valid(data)
        times.append(time.perf_counter_ns() - begun)
    return min(times)


def depth_of(data: Any) -> int:
    """Count the levels of a document."""
    if not isinstance(data, dict | list):
        return 0
    return 1 + max((depth_of(each) for each in (data.values() if isinstance(data, dict) else data)), default=0)


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=True), room=st.sampled_from([1, 5, 60, 600, 3_000]))
def test_never_exceeded(chance: random.Random, room: int) -> None:
    """Whatever has a bound stays below it, from a document of one byte to some ten thousand."""
    PhoneMetadata.load_all()
    breeder = Breeder(chance)
    schema, dialect = breeder.document()
    schema = ordered(schema, dialect)
    found = bound(schema, dialect)
    if found is None:
        return
    for _ in range(3):
        data = breeder.data(schema, schema, room)
        if depth_of(data) > MAX_LEVELS:
            continue
        size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        assert best_ns(schema, dialect, data) <= found.fixed_ns + found.ns_per_byte * size


@settings(max_examples=_EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=True), room=st.sampled_from([1, 5, 20]))
def test_order_changes_no_verdict(chance: random.Random, room: int) -> None:
    """What is valid by a schema is valid by the ordered one, and nothing else."""
    breeder = Breeder(chance)
    schema, dialect = breeder.document()
    made = ordered(schema, dialect)
    try:
        before, after = compile_schema(schema, dialect), compile_schema(made, dialect)
    except jsonschema_rs.ReferencingError:
        return
    for _ in range(5):
        data = breeder.data(schema, schema, room)
        assert before.is_valid(data) == after.is_valid(data)
