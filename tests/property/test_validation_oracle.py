r"""Each engine against an independent one, and against the other, on schemas and documents that nobody chose.

``jsonschema`` as it is, of the document as it is, is the oracle of ``rust``; and ``rust`` that of ``python``, which
must say the same in the same words. Where the two are known to disagree, the strategies stay away, for a reason:

- ``multipleOf`` with fractions: the oracle divides binary floats and says that 19.01 is no multiple of 0.01;
- ``pattern`` with ``$``: the oracle's ``$`` also matches before a final newline, so texts here have none; and ``\d``,
  ``\w`` take digits and letters of all scripts there, of ASCII alone here, as ECMA-262 says;
- ``format``: the oracle leaves most of them to packages of others, and some of these are laxer;
- ``dependencies`` since 2019-09: the engine still asserts it, as that specification allows; the oracle ignores it;
- ``uniqueItems`` with lists inside: the oracle sorts, and finds ``[[1], [true], [1]]`` unique;
- ``const`` and ``enum`` agree that 1 is 1.0 and that ``true`` is not 1, so they are in.

Of the engines with each other, with the keywords that the oracle is kept from (``multipleOf`` with fractions, formats,
nested lists, ``\\d`` and texts with newlines), one disagreement is known: the engine ``rust`` leaves empty names out of
pointers. No data has such names: the API refuses them.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import jsonschema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schema_user.validation import gate
from schema_user.validation.dialect import Dialect
from schema_user.validation.python import PYTHON
from schema_user.validation.rust import RUST, compile_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonschema.protocols import Validator

_ORACLES: Final[dict[str, type[Validator]]] = {
    "draft-04": jsonschema.Draft4Validator,
    "draft-06": jsonschema.Draft6Validator,
    "draft-07": jsonschema.Draft7Validator,
    "2019-09": jsonschema.Draft201909Validator,
    "2020-12": jsonschema.Draft202012Validator,
}
_URIS: Final = {
    "draft-04": "http://json-schema.org/draft-04/schema#",
    "draft-06": "http://json-schema.org/draft-06/schema#",
    "draft-07": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
_NAMES: Final = st.sampled_from(["a", "b", "ab", "", "a/b~", "é"])
_TEXTS: Final = st.text(alphabet="abA1 é/~", max_size=5)
_NUMBERS: Final = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, -0.5, 1.0, 2.5, 2**53 + 1, -(2**70)]))
_SCALARS: Final = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
_DATA: Final = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)
_TYPES: Final = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
_PATTERNS: Final = st.sampled_from(["^a", "b$", "^[ab]+$", "a.b", "^a{1,2}", "é|1", "^$", "[^a]", "^(ab|a)*$"])
_COUNTS: Final = st.integers(0, 3)
_LEAVES: Final = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(_TYPES, st.lists(_TYPES, min_size=1, max_size=3, unique=True)),
        "enum": st.lists(_DATA, min_size=1, max_size=3, unique_by=repr),
        "minimum": _NUMBERS,
        "maximum": _NUMBERS,
        "multipleOf": st.integers(1, 3),
        "minLength": _COUNTS,
        "maxLength": _COUNTS,
        "pattern": _PATTERNS,
        "minItems": _COUNTS,
        "maxItems": _COUNTS,
        "uniqueItems": st.booleans(),
        "minProperties": _COUNTS,
        "maxProperties": _COUNTS,
        "required": st.lists(_NAMES, min_size=1, max_size=3, unique=True),
    },
)


def _around(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.builds(
        lambda own, more: {**own, **more},
        _LEAVES,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(_NAMES, inner, max_size=3),
                "patternProperties": st.dictionaries(_PATTERNS, inner, max_size=2),
                "additionalProperties": st.one_of(st.booleans(), inner),
                "items": inner,
                "not": inner,
                "allOf": several,
                "anyOf": several,
                "oneOf": several,
            },
        ),
    )


_NEWER: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "draft-04": {"dependencies": st.dictionaries(_NAMES, _LEAVES, max_size=2)},
    "draft-06": {"const": _DATA, "contains": _LEAVES, "propertyNames": _LEAVES, "exclusiveMinimum": _NUMBERS},
    "draft-07": {"if": _LEAVES, "then": _LEAVES, "else": _LEAVES},
    "2019-09": {
        "dependentRequired": st.dictionaries(_NAMES, st.lists(_NAMES, max_size=2, unique=True), max_size=2),
        "dependentSchemas": st.dictionaries(_NAMES, _LEAVES, max_size=2),
        "unevaluatedProperties": st.booleans(),
        "maxContains": _COUNTS,
    },
    "2020-12": {"prefixItems": st.lists(_LEAVES, min_size=1, max_size=2)},
}


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a schema of a drawn dialect."""
    names = list(_ORACLES)
    dialect = draw(st.sampled_from(names))
    schema = draw(st.recursive(_LEAVES, _around, max_leaves=8))
    known: dict[str, st.SearchStrategy[Any]] = {}
    for name in names[: names.index(dialect) + 1]:
        known |= _NEWER.get(name, {})
    if "dependentSchemas" in known:
        del known["dependencies"]
    return {"$schema": _URIS[dialect], **schema, **draw(st.fixed_dictionaries({}, optional=known))}


@settings(max_examples=50, deadline=None)
@given(schema=schemas(), data=_DATA)
def test_same_verdict(schema: dict[str, Any], data: Any) -> None:
    """The gate takes the schema, and both engines say the same of the document."""
    findings = gate.check(schema)
    assert findings.violations == ()
    violations = compile_schema(schema, findings.dialect).violations(data)
    oracle = _ORACLES[findings.dialect](schema)
    assert (not violations) == oracle.is_valid(data)


@settings(max_examples=40, deadline=None)
@given(schema=schemas(), data=_DATA)
def test_places_exist(schema: dict[str, Any], data: Any) -> None:
    """Each violation names a place in the document, or a property that could be there."""
    for violation in compile_schema(schema, gate.check(schema).dialect).violations(data):
        here = data
        steps = violation.field.split("/")[1:]
        for number, step in enumerate(steps):
            name = step.replace("~1", "/").replace("~0", "~")
            last = number == len(steps) - 1
            if isinstance(here, list):
                here = here[int(name)]
            else:
                assert isinstance(here, dict)
                assert name in here or (last and violation.reason == "required")
                here = here.get(name)


@settings(max_examples=50, deadline=None)
@given(
    document=st.one_of(
        _DATA, schemas().map(lambda schema: {**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})
    )
)
def test_gate_never_fails(document: Any) -> None:
    """Whatever is uploaded gets an answer, and what passes compiles."""
    findings = gate.check(document)
    assert all(each.field.startswith("schema") and each.description for each in findings.violations)
    if not findings.violations:
        compile_schema(document, findings.dialect)


_OWN_NAMES: Final = ("a", "b", "a-b", "a_b", "A", "ab", "{a}", 'a"\\', "é", "$ref", "id", "def", "a/b~")
_OWN_SCALARS: Final = (
    None, True, False, 0, 1, 2, -3, 1.0, 0.5, 0.01, 19.01, 1e300, 1e-7, 2**53 + 1, 2**63 - 1, -0.0,
    "", "a", "ab", "b\n", "1é", "a b", "{}", "e30=", "2026-01-31", "ann@example.com",
)  # fmt: skip
_OWN_PATTERNS: Final = ("^a", "b$", "^[ab]+$", r"^\d", r"\W", r"^a\s*b$", "a.b", "^(a|b){1,3}$", "[^a]")
_REFERENCES: Final = ("#/definitions/a-b", "#/definitions/a_b", "#/definitions/A_B")


class _Maker:
    """Makes schemas and documents of chance; a recursive strategy would take a hundred times as long."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def data(self, depth: int = 3) -> Any:
        kind = self.chance.random()
        if depth == 0 or kind < 0.4:
            return self.chance.choice(_OWN_SCALARS)
        inner = [self.data(depth - 1) for _ in range(self.chance.randint(0, 4))]
        return inner if kind < 0.6 else dict(zip(self.chance.sample(_OWN_NAMES, len(inner)), inner, strict=True))

    def schema(self, depth: int = 3) -> Any:
        kind = self.chance.random()
        if kind < 0.1:
            return self.chance.random() < 0.7
        if kind < 0.2:
            return {"$ref": self.chance.choice(_REFERENCES), "type": "null"}
        makers = self._leaves() | (self._around(depth - 1) if depth else {})
        return {name: makers[name]() for name in self.chance.sample(sorted(makers), self.chance.randint(0, 5))}

    def _names(self) -> list[str]:
        return self.chance.sample(_OWN_NAMES, self.chance.randint(1, 3))

    def _leaves(self) -> dict[str, Callable[[], Any]]:
        choice, count = self.chance.choice, partial(self.chance.randint, 0, 3)
        types = ["null", "boolean", "integer", "number", "string", "array", "object"]
        counts = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
        bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        return {
            **dict.fromkeys(counts, count),
            **dict.fromkeys(bounds, partial(choice, (0, 1, -3, 0.5, 19.01, 2**53))),
            "type": lambda: choice([choice(types), self.chance.sample(types, 3)]),
            "const": partial(self.data, 2),
            "enum": lambda: [choice(_OWN_SCALARS), self.data(2)],
            "multipleOf": partial(choice, (1, 2, 0.01, 0.5, 1.1, 2.0)),
            "pattern": partial(choice, _OWN_PATTERNS),
            "format": partial(choice, ("date", "email", "uuid", "colour")),
            "contentEncoding": lambda: "base64",
            "contentMediaType": lambda: "application/json",
            "uniqueItems": lambda: choice([True, True, False]),
            "required": self._names,
            "default": partial(self.data, 2),
        }

    def _around(self, depth: int) -> dict[str, Callable[[], Any]]:
        inner = partial(self.schema, depth)

        def several() -> list[Any]:
            return [inner() for _ in range(self.chance.randint(1, 3))]

        singles = ("additionalProperties", "additionalItems", "propertyNames", "contains", "not", "if", "then", "else")
        return {
            **dict.fromkeys(singles, inner),
            **dict.fromkeys(("allOf", "anyOf", "oneOf"), several),
            "items": lambda: several() if self.chance.random() < 0.5 else inner(),
            "properties": lambda: {name: inner() for name in self._names()},
            "patternProperties": lambda: {self.chance.choice(_OWN_PATTERNS): inner()},
            "dependencies": lambda: {
                name: inner() if self.chance.random() < 0.5 else self._names() for name in self._names()
            },
        }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), dialect=st.sampled_from([Dialect.DRAFT_6, Dialect.DRAFT_7]))
@example(seed=5822, dialect=Dialect.DRAFT_6)  # propertyNames that refers to false
def test_engines_agree(seed: int, dialect: Dialect) -> None:
    """What the engine python takes, it judges as rust does, and says so of the same places in the same words."""
    make = _Maker(seed)
    named = {name.rpartition("/")[2]: make.schema(0) for name in _REFERENCES}
    document = {"$schema": dialect.uri, "allOf": [make.schema(), make.schema()], "definitions": named}
    findings = gate.check(document, engine=PYTHON).violations
    assert {each.reason for each in findings} <= {"refCircle"}
    if findings:
        return
    expected, compiled = RUST.compile(document, dialect), PYTHON.compile(document, dialect)
    for _ in range(5):
        data = make.data()
        listed = expected.violations(data)
        assert compiled.is_valid(data) is not bool(listed)
        assert compiled.violations(data) == listed
