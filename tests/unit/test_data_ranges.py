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
    {"organization_id": "o1", "values": [1, 2.5, "b", True]},
    {"organization_id": "o2", "values": [2, 2, 9, "a"]},
    {"organization_id": "o1", "values": ["", "\U0010ffff", "b"]},
    {"organization_id": "o1", "values": [-3]},
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
