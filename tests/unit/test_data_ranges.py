"""Samples of values: about how many users are in a range."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.domain.search import Entries
from schema_user.store.data_ranges import Sample, range_of

if TYPE_CHECKING:
    from schema_user.store.data_ranges import KeyRange

HELD: list[dict[str, Any]] = [
    {"_id": "d", "created_at": 0, "organization_id": "o1", "values": [1, 2.5, "b", True]},
    {"_id": "a", "created_at": 1, "organization_id": "o2", "values": [2, 2, 9, "a"]},
    {"_id": "b", "created_at": 2, "organization_id": "o1", "values": ["", "\U0010ffff", "b"]},
    {"_id": "c", "created_at": 3, "organization_id": "o1", "values": [-3]},
]
COMPARED = {
    "eq": lambda value, bound: value == bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
}


def asked(organization: str | None, *bounds: tuple[str, Any]) -> KeyRange:
    """Give a range under a key."""
    scope = {"organization_id": {"$in": [organization]}} if organization else {}
    found, _ = range_of(scope, Entries("v/a", bounds))
    assert found is not None
    return found


@pytest.mark.parametrize("organization", [None, "o1"])
def test_a_sample_knows_how_many_of_its_users_are_in_a_range(organization: str | None) -> None:
    """Whichever kind of value and end; a user with several values there is one; bools are no numbers."""
    sample = Sample.of(HELD, 4, 400)
    values: list[Any] = [-3, 1, 2, 2.5, 9, 10, "", "a", "b", "\U0010ffff"]
    ranges = [[(name, value)] for name in COMPARED for value in values] + [[("eq", True)]]
    ranges += [[("gt", low), ("lte", high)] for low, high in itertools.product(values[:6], repeat=2)]
    for bounds in ranges:
        kind = type(bounds[0][1])
        fitting = (bool,) if kind is bool else (str,) if kind is str else (int, float)
        count = sum(
            any(
                type(value) in fitting and all(COMPARED[name](value, bound) for name, bound in bounds)
                for value in each["values"]
            )
            for each in HELD
            if organization in {None, each["organization_id"]}
        )
        assert sample.about(asked(organization, *bounds)) == count * 100, bounds


def test_a_sample_knows_how_far_a_part_of_all_users_reaches() -> None:
    """From a place on, up or down, with a margin of three; what would be behind the last one has no place."""
    found = [
        {"_id": f"{number:02}", "created_at": number, "organization_id": "o", "values": []} for number in range(40)
    ]
    sample = Sample.of(found, 40, 4000)
    assert sample.reaching("_id", 1, None, 0.1) == "06"
    assert sample.reaching("_id", 1, "06", 0.1) == "13"
    assert sample.reaching("created_at", -1, None, 0.1) == 33
    assert sample.reaching("created_at", -1, 33, 0.1) == 26
    assert sample.reaching("created_at", -1, 3.5, 0.1) is None
    assert sample.reaching("created_at", 1, None, 1.0) is None


@pytest.mark.parametrize("bounds", [[("eq", 1)], [("gt", 1)], [("gte", 0), ("lte", 9)], [("lt", 2.5)]])
def test_a_large_range_is_cut_where_a_sample_has_its_middle(bounds: list[tuple[str, Any]]) -> None:
    """The halves lie side by side and reach from end to end; a small one stays whole, and so does an organization's."""
    whole = asked(None, *bounds)
    first, second = Sample.of(HELD, 4, 40_000).halves(whole)
    assert (first.lower, second.upper, first.upper[0]) == (whole.lower, whole.upper, second.lower[0])
    assert first.entries == second.entries == whole.entries
    assert Sample.of(HELD, 4, 400).halves(whole) == (whole,)
    within = asked("o1", *bounds)
    assert Sample.of(HELD, 4, 40_000).halves(within) == (within,)
