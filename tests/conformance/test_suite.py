"""Both engines against the official JSON-Schema-Test-Suite, behind the gate as in production.

A schema of ``true`` or ``false`` alone is no user schema; here it is put into an ``allOf``. Where a case says that
``format`` is an annotation only, the service differs on purpose: it asserts the formats of 2020-12 in every dialect, so
there the keyword is taken away before the document is judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from schema_user.validation import gate
from schema_user.validation.dialect import Dialect
from schema_user.validation.engines import engine_named
from schema_user.validation.python import PYTHON
from schema_user.validation.rust import RUST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schema_user.validation.engine import Engine

_FOLDERS: Final = {
    Dialect.DRAFT_4: "draft4",
    Dialect.DRAFT_6: "draft6",
    Dialect.DRAFT_7: "draft7",
    Dialect.DRAFT_2019_09: "draft2019-09",
    Dialect.DRAFT_2020_12: "draft2020-12",
}

ELSEWHERE: Final = "refers to another document, and nothing is fetched"
EMBEDDED: Final = "refers to a part of the document by an $id of its own: only the root may be named by its $id"
OTHER_DIALECT: Final = "is of a dialect of its own, by a metaschema that would have to be fetched"
REFUSED_BY_THE_GATE: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("anchor.json", EMBEDDED): (
        "Location-independent identifier with absolute URI",
        "Location-independent identifier with base URI change in subschema",
        "same $anchor with different base uri",
    ),
    ("definitions.json", ELSEWHERE): ("validate definition against metaschema",),
    ("defs.json", ELSEWHERE): ("validate definition against metaschema",),
    ("dynamicRef.json", ELSEWHERE): (
        "$ref and $dynamicAnchor are independent of order - $defs first",
        "$ref and $dynamicAnchor are independent of order - $ref first",
        "$ref to $dynamicRef finds detached $dynamicAnchor",
        "strict-tree schema, guards against misspelled properties",
        "tests for implementation dynamic anchor and reference link",
    ),
    ("dynamicRef.json", EMBEDDED): (
        "$dynamicRef skips over intermediate resources - direct reference",
        (
            "A $dynamicRef resolves to the first $dynamicAnchor still in scope that is encountered when the schema is "
            "evaluated"
        ),
        (
            "A $dynamicRef that initially resolves to a schema with a matching $dynamicAnchor resolves to the first "
            "$dynamicAnchor in the dynamic scope"
        ),
        (
            "A $dynamicRef that initially resolves to a schema without a matching $dynamicAnchor behaves like a normal "
            "$ref to $anchor"
        ),
        (
            "A $dynamicRef with a non-matching $dynamicAnchor in the same schema resource behaves "
            "like a normal $ref to "
            "$anchor"
        ),
        (
            "A $dynamicRef with intermediate scopes that don't include a matching $dynamicAnchor does "
            "not affect dynamic "
            "scope resolution"
        ),
        (
            "A $dynamicRef without a matching $dynamicAnchor in the same schema resource behaves like a normal $ref to "
            "$anchor"
        ),
        "A $dynamicRef without anchor in fragment behaves identical to $ref",
        "An $anchor with the same name as a $dynamicAnchor is not used for dynamic scope resolution",
        "after leaving a dynamic scope, it is not used by a $dynamicRef",
        "multiple dynamic paths to the $dynamicRef keyword",
    ),
    ("optional/cross-draft.json", ELSEWHERE): (
        "refs to future drafts are processed as future drafts",
        "refs to historic drafts are processed as historic drafts",
    ),
    ("optional/dynamicRef.json", EMBEDDED): (
        "$dynamicRef skips over intermediate resources - pointer reference across resource boundary",
    ),
    ("optional/format-assertion.json", OTHER_DIALECT): (
        "schema that uses custom metaschema with format-assertion: false",
        "schema that uses custom metaschema with format-assertion: true",
    ),
    ("optional/id.json", EMBEDDED): (
        "$id inside an enum is not a real identifier",
        "id inside an enum is not a real identifier",
    ),
    ("optional/unknownKeyword.json", EMBEDDED): ("$id inside an unknown keyword is not a real identifier",),
    ("recursiveRef.json", EMBEDDED): ("multiple dynamic paths to the $recursiveRef keyword",),
    ("ref.json", ELSEWHERE): ("remote ref, containing refs itself",),
    ("ref.json", EMBEDDED): (
        "$id must be resolved against nearest parent, not just immediate parent",
        "$ref prevents a sibling $id from changing the base uri",
        "$ref prevents a sibling id from changing the base uri",
        "$ref with $recursiveAnchor",
        "Location-independent identifier with base URI change in subschema",
        "Recursive references between schemas",
        "URN ref with nested pointer ref",
        "id must be resolved against nearest parent, not just immediate parent",
        "order of evaluation: $id and $ref",
        "ref to else",
        "ref to if",
        "ref to then",
        "ref with absolute-path-reference",
        "refs with relative uris and defs",
        "relative refs with absolute uris and defs",
    ),
    ("refRemote.json", ELSEWHERE): (
        "$ref to $ref finds detached $anchor",
        "$ref to $ref finds location-independent $id",
        "Location-independent identifier in remote ref",
        "anchor within remote ref",
        "base URI change",
        "base URI change - change folder",
        "base URI change - change folder in subschema",
        "fragment within remote ref",
        "ref within remote ref",
        "remote HTTP ref with different $id",
        "remote HTTP ref with different URN $id",
        "remote HTTP ref with nested absolute ref",
        "remote ref",
        "remote ref with ref to definitions",
        "remote ref with ref to defs",
        "retrieved nested refs resolve relative to their URI not $id",
        "root ref in remote ref",
    ),
    ("unevaluatedItems.json", EMBEDDED): (
        "unevaluatedItems with $dynamicRef",
        "unevaluatedItems with $recursiveRef",
    ),
    ("unevaluatedProperties.json", EMBEDDED): (
        "unevaluatedProperties with $dynamicRef",
        "unevaluatedProperties with $recursiveRef",
    ),
    ("vocabulary.json", OTHER_DIALECT): (
        "ignore unrecognized optional vocabulary",
        "schema that uses custom metaschema with with no validation vocabulary",
    ),
}
BACKTRACKS: Final = "has a pattern that Python's engine would match in time quadratic to the text"
SCRIPTS: Final = "has a pattern with \\p{…}, which Python's engine doesn't know"
REFUSED_BY_PYTHON: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("optional/ecmascript-regex.json", SCRIPTS): (
        "pattern with non-ASCII digits",
        "patternProperties with non-ASCII digits",
        "patterns always use unicode semantics with pattern",
        "patterns always use unicode semantics with patternProperties",
    ),
    ("patternProperties.json", BACKTRACKS): (
        "patternProperties validates properties matching a regex",
        "patternProperties with null valued instance properties",
    ),
}


CONTACT: Final = "judges an email address as those of contacts: no quotes, no address of a machine in brackets"
OTHERWISE_ON_PURPOSE: Final[dict[tuple[str, str, str], tuple[str, ...]]] = {
    ("optional/format/email.json", "validation of e-mail addresses", CONTACT): (
        "a quoted string with a space in the local part is valid",
        "a quoted string with a double dot in the local part is valid",
        "a quoted string with a @ in the local part is valid",
        "an IPv4-address-literal after the @ is valid",
        "an IPv6-address-literal after the @ is valid",
    ),
}
OTHERWISE: Final = {(file, group, each) for (file, group, _), cases in OTHERWISE_ON_PURPOSE.items() for each in cases}


def groups(table: dict[tuple[str, str], tuple[str, ...]]) -> set[tuple[str, str]]:
    """Give the groups of cases that a table names, as file and description."""
    return {(file, each) for (file, _), descriptions in table.items() for each in descriptions}


@dataclass(frozen=True)
class Group:
    """One schema of the suite with its cases."""

    file: str
    description: str
    schema: dict[str, Any]
    cases: list[dict[str, Any]]


def read(folder: Path, dialect: Dialect, *, optional: bool) -> Iterator[Group]:
    """Read the groups of a draft: what it requires, or what it leaves open."""
    for path in sorted((folder / "optional").rglob("*.json") if optional else folder.glob("*.json")):
        for group in json.loads(path.read_text(encoding="utf-8")):
            given = group["schema"]
            schema = {"$schema": dialect.uri, **(given if isinstance(given, dict) else {"allOf": [given]})}
            yield Group(path.relative_to(folder).as_posix(), group["description"], schema, group["tests"])


@dataclass
class Outcome:
    """What an engine made of a part of the suite; the numbers are cases."""

    passed: int = 0
    refused: int = 0
    refused_groups: set[tuple[str, str]] = field(default_factory=set)
    failed: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def share_refused(self) -> float:
        """The share of all cases that were refused."""
        return self.refused / (self.passed + self.refused + len(self.failed))


def run(engine: Engine, suite: Path, dialect: Dialect, *, optional: bool) -> Outcome:
    """Put each schema through the gate, compile what passes, and judge its cases."""
    outcome = Outcome()
    for group in read(suite / _FOLDERS[dialect], dialect, optional=optional):
        if gate.check(group.schema, engine=engine).violations:
            outcome.refused += len(group.cases)
            outcome.refused_groups.add((group.file, group.description))
            continue
        compiled = engine.compile(group.schema, dialect)
        for case in group.cases:
            judge = compiled
            if "only an annotation" in case["description"]:
                silent = {name: value for name, value in group.schema.items() if name != "format"}
                judge = engine.compile(silent, dialect)
            verdict = judge.is_valid(case["data"])
            if verdict is case["valid"] and verdict is not bool(judge.violations(case["data"])):
                outcome.passed += 1
            else:
                outcome.failed.append((group.file, group.description, case["description"]))
    return outcome


class TestRust:
    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_required(self, suite: Path, dialect: Dialect) -> None:
        """Every required case is answered right, but those of schemas that the gate refuses by design: 1 in 10."""
        outcome = run(RUST, suite, dialect, optional=False)
        assert outcome.failed == []
        assert outcome.refused_groups <= groups(REFUSED_BY_THE_GATE)
        assert outcome.passed > 500
        assert outcome.share_refused < 0.1

    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_optional(self, suite: Path, dialect: Dialect) -> None:
        """Every optional case is answered right too, or otherwise on purpose: formats, big numbers, patterns."""
        outcome = run(RUST, suite, dialect, optional=True)
        assert set(outcome.failed) <= OTHERWISE
        assert outcome.refused_groups <= groups(REFUSED_BY_THE_GATE)
        assert outcome.share_refused < 0.03

    def test_tables(self, suite: Path) -> None:
        """The tables of what is refused and of what is judged otherwise name nothing that is no longer there."""
        outcomes = [run(RUST, suite, each, optional=optional) for each in Dialect for optional in (False, True)]
        assert {group for outcome in outcomes for group in outcome.refused_groups} == groups(REFUSED_BY_THE_GATE)
        assert {case for outcome in outcomes for case in outcome.failed} == OTHERWISE


class TestPython:
    @pytest.mark.parametrize("optional", [False, True], ids=["required", "optional"])
    @pytest.mark.parametrize("dialect", sorted(PYTHON.dialects))
    def test_every_case(self, suite: Path, dialect: Dialect, optional: bool) -> None:
        """Every case of a schema that it takes is answered right; it takes all but a few that the gate does."""
        outcome = run(PYTHON, suite, dialect, optional=optional)
        assert set(outcome.failed) <= OTHERWISE
        assert outcome.refused_groups <= groups(REFUSED_BY_THE_GATE) | groups(REFUSED_BY_PYTHON)
        assert outcome.share_refused < 0.08
        own = [group for group in outcome.refused_groups if group in groups(REFUSED_BY_PYTHON)]
        assert len(own) == (4 if optional else 2)

    @pytest.mark.parametrize("dialect", sorted(PYTHON.dialects))
    def test_same_words(self, suite: Path, dialect: Dialect) -> None:
        """What is wrong is said of the same places in the same words as by the engine rust, in every case."""
        engine, differ, compared = engine_named("rust"), [], 0
        for optional in (False, True):
            for group in read(suite / _FOLDERS[dialect], dialect, optional=optional):
                if gate.check(group.schema, engine=PYTHON).violations:
                    continue
                one, other = engine.compile(group.schema, dialect), PYTHON.compile(group.schema, dialect)
                for case in group.cases:
                    compared += 1
                    if one.violations(case["data"]) != other.violations(case["data"]):
                        differ.append((group.file, group.description, case["description"]))
        assert differ == []
        assert compared > 700
