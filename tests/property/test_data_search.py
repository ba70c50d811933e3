"""Searches over ``data`` find what a naive filter in Python finds, whatever documents and queries there are."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.data_search import flaw
from schema_user.domain.search import AllOf, AnyOf, Data, DataMethod, Is, Not, Page, TextMethod, fold
from schema_user.domain.user import User
from schema_user.queries import search_users
from schema_user.store.connection import raw
from schema_user.store.user_documents import to_document
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.domain.search import Query
    from schema_user.rooms import Rooms

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUMBERS = itertools.count(1)
INDEX = {"urn:schema-user:index": True}
SCHEMA = {
    "properties": {
        "a": INDEX,
        "b": {"items": INDEX},
        "c": {"properties": {"d/~": {**INDEX, "items": {"properties": {"e": INDEX}}}}},
    }
}
PATHS = {"/a": ["a"], "/b": ["b"], "/c/d~1~0": ["c", "d/~"], "/c/d~1~0/e": ["c", "d/~", "e"]}
TEXTS = st.text(st.sampled_from("aAbBßéE\u0301ﬁx \u0000.*İ\U0010ffff\ud7ff"), max_size=4) | st.sampled_from(
    ["2026-01-01", "2026-01-01T01:00:00+01:00", "2025-12-31T23:30:00-00:30", "2026-01-01T00:00:00.000001Z"]
)
SCALARS = (
    TEXTS | st.integers(-2, 3) | st.sampled_from([0.5, 1.0, 2**53, 2**53 + 1, -(2**63)]) | st.booleans() | st.none()
)
VALUES = SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=1), max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "a": VALUES | st.fixed_dictionaries({"x": SCALARS}),
        "b": VALUES,
        "c": st.fixed_dictionaries(
            {}, optional={"d/~": VALUES | st.lists(st.fixed_dictionaries({"e": VALUES}), max_size=2)}
        ),
    },
)
LEAVES = st.builds(
    Data,
    st.sampled_from(list(PATHS)),
    st.sampled_from([*TextMethod, *DataMethod]),
    TEXTS | st.integers(-2, 3) | st.sampled_from([0.5, 1.0, 2**53]) | st.booleans(),
).filter(lambda each: flaw(each) is None and "\u0000" not in str(each.value))
QUERIES = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda found: AllOf(tuple(found)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda found: AnyOf(tuple(found)))
    ),
    max_leaves=4,
)


def values_at(path: str, data: Any) -> list[Any]:
    """Give the values at a path, by the places that the schema marks."""
    match path:
        case "/a" | "/b":
            held = data.get(path[1])
        case _:
            held = data.get("c", {}).get("d/~")
    if path == "/c/d~1~0/e":
        inner = [each.get("e") for each in held if isinstance(each, dict)] if isinstance(held, list) else []
        return [each for value in inner for each in plain(value)]
    if path == "/b":  # its items are marked, and it is not: what is an array in it counts, what is none does not
        held = held if isinstance(held, list) else []
        return [each for value in held for each in plain(value)]
    return plain(held)


def plain(value: Any) -> list[Any]:
    """Give a value, or the items of an array, without what has no entry."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str | int | float)]


def instant(value: Any) -> datetime | None:
    """Read the times that are drawn."""
    if isinstance(value, str) and value.startswith("20"):
        return datetime.fromisoformat(value if "T" in value else value + "T00:00:00Z")
    return None


def compares(value: Any, query: Data) -> bool:
    """Compare one value, as the documentation says it is."""
    sought = query.value
    if isinstance(query.method, TextMethod):
        if not isinstance(value, str):
            return False
        if query.method.ignores_case:
            value, sought = fold(value), fold(str(sought))
        name = query.method.removesuffix("_IGNORE_CASE")
        found: dict[TextMethod, bool] = {
            TextMethod.EQUALS: value == sought,
            TextMethod.STARTS_WITH: value.startswith(str(sought)),
            TextMethod.ENDS_WITH: value.endswith(str(sought)),
            TextMethod.CONTAINS: str(sought) in value,
        }
        return found[TextMethod(name)]
    one: Any = value
    other: Any = sought
    if instant(sought) is not None:
        one, other = instant(value), instant(sought)
    if one is None or any(isinstance(one, kind) is not isinstance(other, kind) for kind in (str, bool, datetime)):
        return False
    return bool(
        {
            DataMethod.EQUALS: one == other,
            DataMethod.LESS: one < other,
            DataMethod.LESS_OR_EQUALS: one <= other,
            DataMethod.GREATER: one > other,
            DataMethod.GREATER_OR_EQUALS: one >= other,
        }[query.method]
    )


def holds(query: Query, data: Any) -> bool:
    """Whether a query holds for a document of the schema."""
    match query:
        case Data(path):
            return any(compares(value, query) for value in values_at(path, data))
        case AllOf(queries):
            return all(holds(each, data) for each in queries)
        case AnyOf(queries):
            return any(holds(each, data) for each in queries)
        case Not(inner):
            return not holds(inner, data)
        case _:
            raise AssertionError


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rooms(mongod_uri: str) -> AsyncIterator[Rooms]:
    """Give everything wired up."""
    async with prepared(settings_for(fresh_uri(mongod_uri))) as made:
        yield made


async def agrees(rooms: Rooms, schema_id: str, documents: list[Any], queries: list[Query]) -> None:
    """Store documents as users of an organization of their own, and compare what is found."""
    wiring, organization, now = rooms.wiring, f"o{next(NUMBERS)}", rooms.wiring.now()
    schema = await wiring.schemas.head(schema_id)
    plan = await wiring.plans.get(schema) if schema else None
    assert plan is not None
    users = [
        User(f"{organization}-{at}", organization, schema_id, 1, data, created_at=now, changed_at=now)
        for at, data in enumerate(documents)
    ]
    stored = [
        raw(to_document(replace(user, indexed=plan.entries(user.data), marking=plan.fingerprint))) for user in users
    ]
    await rooms.database.collection("users").write_all("insert", stored)
    for query in queries:
        asked = AllOf((Is("organization_id", organization), query))
        result, _ = await search_users(wiring, OPERATOR, asked, Page("id", limit=1000))
        wanted = {user.user_id for user in users if holds(query, user.data)}
        told = {user.user_id for user in result.items}
        assert told == wanted, (query, [user.data for user in users if user.user_id in told ^ wanted][:3])
        assert result.total == len(wanted)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Keep the schema of the module."""
    return {}


@pytest.mark.parametrize("examples", [pytest.param(5, id="few"), pytest.param(800, id="many", marks=pytest.mark.soak)])
async def test_a_search_finds_what_a_naive_filter_finds(rooms: Rooms, made: dict[str, str], examples: int) -> None:
    """Every method on texts, numbers, times and bools, in arrays and objects, nested in every way."""
    if not made:
        saved = await create_schema(rooms.wiring, OPERATOR, CreateSchema("any data", SCHEMA, None))
        made["id"] = saved.schema.schema_id
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to shrink takes minutes, and the failing query alone is short
    )
    @given(st.lists(DOCUMENTS, min_size=20, max_size=30), st.lists(QUERIES, min_size=10, max_size=15))
    def check(documents: list[Any], queries: list[Query]) -> None:
        asyncio.run_coroutine_threadsafe(agrees(rooms, made["id"], documents, queries), loop).result(60)

    await asyncio.to_thread(check)
