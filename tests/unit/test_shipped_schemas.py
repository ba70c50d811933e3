from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schema_user.validation import gate
from schema_user.validation.rust import compile_schema

_FOLDER = Path(__file__).parents[2] / "schemas"
_NAMES = sorted(path.stem for path in _FOLDER.glob("*.json"))

each_schema = pytest.mark.parametrize("name", _NAMES)


def load(path: str) -> Any:
    """Read a JSON file of the folder of schemas."""
    return json.loads((_FOLDER / path).read_text(encoding="utf-8"))


def violations(name: str, data: Any) -> set[tuple[str, str]]:
    """List what a shipped schema finds wrong with a document."""
    found = compile_schema(load(f"{name}.json"), "draft-07").violations(data)
    return {(each.field, each.reason) for each in found}


@each_schema
def test_passes_the_gate(name: str) -> None:
    """Each shipped schema is taken without a warning, in draft 7."""
    assert gate.check(load(f"{name}.json")) == gate.Findings(dialect="draft-07")


@each_schema
def test_is_described(name: str) -> None:
    """Each has a title and a description, and every property a title."""
    schema = load(f"{name}.json")
    assert schema["title"]
    assert schema["description"]
    stack = [schema]
    while stack:
        here = stack.pop()
        for inner in here.get("properties", {}).values():
            assert inner["title"]
            stack.append(inner)
        stack.extend(here.get("definitions", {}).values())


@each_schema
def test_valid_example(name: str) -> None:
    """The valid example is valid."""
    assert violations(name, load(f"examples/{name}.valid.json")) == set()


@each_schema
def test_invalid_example(name: str) -> None:
    """The invalid example shows two to four different violations."""
    found = violations(name, load(f"examples/{name}.invalid.json"))
    assert 2 <= len(found) <= 4
    assert len({reason for _, reason in found}) >= 2


def test_which_ship() -> None:
    """These schemas ship, each with its two examples."""
    assert _NAMES == ["customer", "device", "employee", "human"]
    examples = {f"{name}.{kind}.json" for name in _NAMES for kind in ("valid", "invalid")}
    assert {path.name for path in (_FOLDER / "examples").iterdir()} == examples


class TestHuman:
    """The fixed profile: its limits are those of the operations that name its fields one by one."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("givenName", "é" * 200),
            ("familyName", "x"),
            ("nickName", ""),
            ("nickName", "x" * 200),
            ("displayName", "x" * 200),
            ("preferredLanguage", "x" * 10),
            ("gender", "GENDER_UNSPECIFIED"),
            ("gender", "GENDER_FEMALE"),
            ("gender", "GENDER_MALE"),
            ("gender", "GENDER_DIVERSE"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_taken(self, field: str, value: str) -> None:
        """Values up to the limits are taken; a length counts code points."""
        profile = {"givenName": "Minnie", "familyName": "Mouse", field: value}
        assert violations("human", {"profile": profile}) == set()

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("givenName", "", "minLength"),
            ("givenName", "x" * 201, "maxLength"),
            ("familyName", "", "minLength"),
            ("familyName", "x" * 201, "maxLength"),
            ("nickName", "x" * 201, "maxLength"),
            ("displayName", "x" * 201, "maxLength"),
            ("preferredLanguage", "x" * 11, "maxLength"),
            ("gender", "GENDER_OTHER", "enum"),
            ("gender", None, "type"),
            ("middleName", "x", "additionalProperties"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_refused(self, field: str, value: str | None, reason: str) -> None:
        """Values beyond the limits are refused at their place."""
        profile = {"givenName": "Minnie", "familyName": "Mouse", field: value}
        assert (f"data/profile/{field}", reason) in violations("human", {"profile": profile})

    def test_required(self) -> None:
        """A profile and its two names are required, and nothing stands beside it."""
        assert violations("human", {}) == {("data/profile", "required")}
        assert violations("human", {"profile": {}, "email": "a@example.com"}) == {
            ("data/profile/givenName", "required"),
            ("data/profile/familyName", "required"),
            ("data/email", "additionalProperties"),
        }
