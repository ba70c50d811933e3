"""What the measuring of validators must get right: its documents, and that all sides answer the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.validation import CASES, LIBRARIES, Case, bounds, main, measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SIZES = {"flat": (290, 330), "nested": (2_600, 3_000), "wide": (4_500, 5_500), "large": (95_000, 105_000)}


@pytest.mark.parametrize("make", CASES)
def test_documents(make: Callable[[], Case]) -> None:
    """Documents are as large as they are said to be, and the invalid one is as the valid one but for its end."""
    case = make()
    least, most = _SIZES[case.name]
    assert least <= case.size <= most
    valid, invalid = json.dumps(case.valid), json.dumps(case.invalid)
    assert valid != invalid
    assert invalid.startswith(valid[: int(len(valid) * 0.9)])


def test_each_library_answers_right() -> None:
    """Each library tells the valid document from the invalid one, and every time of it is measured."""
    figures = measure([CASES[0]()], 1, 0)
    assert len(figures) == 3 * len(LIBRARIES)
    assert all(each.microseconds > 0 for each in figures)


def test_each_schema_has_a_bound() -> None:
    """The service would validate each of them but the largest in its own process."""
    promised = bounds([make() for make in CASES])
    assert all(limit is not None and limit < 5_000 for name, limit in promised.items() if name != "large")


def test_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures come as JSON too."""
    monkeypatch.setattr("bench.validation.CASES", CASES[:1])
    file = tmp_path / "figures.json"
    assert main(["--rounds", "1", "--seconds", "0", "--schemas", "3", "--json", str(file)]) == 0
    made = json.loads(file.read_text(encoding="utf-8"))
    assert {each["library"] for each in made["rows"]} == {each.name for each in LIBRARIES} == set(made["held"])
