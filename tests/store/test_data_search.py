"""Searches over ``data`` against a real MongoDB: what they find, what they read for it, and what they leave out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from dataclasses import replace as replace_page
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
import pytest_asyncio
from msgspec.structs import replace

from schema_user.commands.change import Target
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, delete_user, update_user
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.data_search import entries_of, narrowed
from schema_user.domain.permission import Role
from schema_user.domain.search import AllOf, AnyOf, Data, DataMethod, Is, Not, Page, Text, TextMethod, fold
from schema_user.domain.user import User
from schema_user.errors import Malformed, Unmet
from schema_user.queries import search_users
from schema_user.store import data_ranges, search
from schema_user.store.connection import Collection, raw
from schema_user.store.data_ranges import DataRanges, range_of
from schema_user.store.range_search import RangeSearch
from schema_user.store.text_search import text_filter
from schema_user.store.user_documents import to_document
from schema_user.store.users import UserStore
from tests.conftest import fresh_uri, prepared, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_user.domain.search import Query
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUMBERS = itertools.count(1)
INDEX = {"urn:schema-user:index": True}
TEXT, KIND = TextMethod, DataMethod
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", **INDEX},
        "age": {"type": "integer", **INDEX},
        "born": {"type": "string", **INDEX},
        "tags": {"type": "array", "items": {"type": "string", **INDEX}},
        "vip": {"type": "boolean", **INDEX},
    },
}
PEOPLE: dict[str, dict[str, Any]] = {
    "a": {"city": "Bern", "age": 3, "born": "2026-01-01T00:00:00+02:00", "tags": ["x", "Yy"], "vip": True},
    "b": {"city": "BERLIN", "age": 30, "born": "2026-01-01"},
    "c": {},
}


async def schema_of(wiring: Wiring, document: object = None) -> str:
    """Make a schema with indexed paths, and give its id."""
    saved = await create_schema(wiring, OPERATOR, CreateSchema(f"s{next(NUMBERS)}", document or SCHEMA, None))
    return saved.schema.schema_id


async def found(wiring: Wiring, *queries: Query) -> list[str]:
    """Search as the operator and give the ids."""
    result, _ = await search_users(wiring, OPERATOR, AllOf(queries), Page("id", ascending=True))
    return [user.user_id for user in result.items]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rooms(mongod_uri: str) -> AsyncIterator[Rooms]:
    """Give everything wired up; each test makes what it needs."""
    async with prepared(settings_for(fresh_uri(mongod_uri))) as made:
        yield made


@pytest.fixture
def wiring(rooms: Rooms) -> Wiring:
    """Give the wiring of ``rooms``."""
    return rooms.wiring


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def schema_id(rooms: Rooms) -> str:
    """Make a schema with indexed paths, and some people of it."""
    wiring, made = rooms.wiring, await schema_of(rooms.wiring)
    for name, data in PEOPLE.items():
        await create_user(wiring, OPERATOR, CreateUser(made, data, "default", user_id=name))
    return made


@pytest.mark.usefixtures("schema_id")
async def test_methods_compare_by_the_kind_of_the_value(wiring: Wiring) -> None:
    """Texts by text methods, numbers by size, times by order, bools as what they are, arrays by their items."""
    for query, ids in [
        (Data("/city", TEXT.EQUALS, "Bern"), "a"),
        (Data("/city", TEXT.EQUALS_IGNORE_CASE, "berlin"), "b"),
        (Data("/city", TEXT.STARTS_WITH, "Be"), "a"),
        (Data("/city", TEXT.STARTS_WITH_IGNORE_CASE, "Be"), "ab"),
        (Data("/city", TEXT.ENDS_WITH, "N"), "b"),
        (Data("/city", TEXT.ENDS_WITH_IGNORE_CASE, "N"), "ab"),
        (Data("/city", TEXT.CONTAINS, "RLI"), "b"),
        (Data("/city", TEXT.CONTAINS_IGNORE_CASE, "er"), "ab"),
        (Data("/city", KIND.GREATER, "BERLIN"), "a"),
        (Data("/age", KIND.GREATER, 3), "b"),
        (Data("/age", KIND.GREATER_OR_EQUALS, 3), "ab"),
        (Data("/age", KIND.LESS, 30), "a"),
        (Data("/age", KIND.EQUALS, 3.0), "a"),
        (Data("/age", KIND.EQUALS, value=True), ""),
        (Data("/age", TEXT.EQUALS, "3"), ""),
        (Data("/born", KIND.LESS, "2026-01-01"), "a"),
        (Data("/born", KIND.EQUALS, "2026-01-01T01:00:00+01:00"), "b"),
        (Data("/tags", TEXT.ENDS_WITH, "y"), "a"),
        (Data("/vip", KIND.EQUALS, value=True), "a"),
    ]:
        assert "".join(await found(wiring, query)) == ids, query


async def test_an_opposite_is_told_of_users_whose_schema_has_the_path_only(wiring: Wiring, schema_id: str) -> None:
    """Of others neither the query nor its opposite is true, however it is nested; another schema has no such path."""
    other = await schema_of(wiring, {"properties": {"city": {}, "age": INDEX}})
    await create_user(wiring, OPERATOR, CreateUser(other, {"city": "Bern", "age": 3}, "default", user_id="d"))
    bern, young = Data("/city", TEXT.EQUALS, "Bern"), Data("/age", KIND.LESS, 10)
    told: list[tuple[Query, str]] = [
        (bern, "a"),
        (Not(bern), "bc"),
        (Not(Not(bern)), "a"),
        (young, "ad"),
        (Not(young), "bc"),
        (Not(AllOf((bern, young))), "bc"),
        (Not(AnyOf((bern, young))), "bc"),
        (AnyOf((Not(bern), young)), "abcd"),
        (Not(AllOf((young, Is("schema_id", schema_id)))), "bcd"),
        (Not(Data("/vip", KIND.EQUALS, value=True)), "bc"),
    ]
    for query, ids in told:
        assert "".join(await found(wiring, query)) == ids, query
    with pytest.raises(Malformed, match="indexed by no schema"):
        await found(wiring, Data("/name", TEXT.EQUALS, "x", "queries/0/dataQuery"))


@dataclass(frozen=True)
class Read:
    """What the database read for one command."""

    command: str
    keys: int
    documents: int
    stages: frozenset[str]


async def reads(
    rooms: Rooms,
    asked: Query,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    page: Page = Page("id", ascending=True, limit=10),  # noqa: B008 -- it never changes
) -> list[Read]:
    """Search, and explain each command that the search sends to the collection of users."""
    sent: list[tuple[str, Any, Any]] = []
    covered: list[dict[str, Any]] = []
    read_keys = Collection.keys

    async def reading(self: Collection, *bounds: Any, **options: Any) -> Any:
        index, lower, upper, fields = bounds
        shown = {"_id": 0} | dict.fromkeys(fields, 1)
        ends = {"hint": dict(index), "min": dict(lower), "max": dict(upper), "limit": options["limit"]}
        more = {"sort": dict(options.get("sort") or {}), "skip": options.get("skip", 0)}
        covered.append({"find": "users", "filter": {}, "projection": shown} | ends | more)
        return await read_keys(self, *bounds, **options)

    monkeypatch.setattr(Collection, "keys", reading)
    for name in ("aggregate", "count"):
        original = getattr(Collection, name)

        async def listening(
            self: Collection, first: Any, *rest: Any, _name: str = name, _as: Any = original, **options: Any
        ) -> Any:
            counted = [{"$match": first}, {"$limit": rest[0] if rest else 1}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]
            pipeline: Any = first if _name == "aggregate" else counted
            sent.append((_name, pipeline, options.get("hint")))
            return await _as(self, first, *rest, **options)

        monkeypatch.setattr(Collection, name, listening)
    await search_users(rooms.wiring, caller, asked, page)
    monkeypatch.undo()
    told = []
    client: pymongo.MongoClient[Any]
    with pymongo.MongoClient(rooms.wiring.settings.mongodb_uri) as client:
        for name, pipeline, hint in sent:
            command = {"aggregate": "users", "pipeline": pipeline, "cursor": {}} | (
                {"hint": dict(hint)} if hint else {}
            )
            plan = client.get_default_database().command("explain", command, verbosity="executionStats")
            told.append(read_of(name, plan))
        for command in covered:
            plan = client.get_default_database().command("explain", command, verbosity="executionStats")
            told.append(read_of("keys", plan))
    return told


def read_of(name: str, explained: Any) -> Read:
    """Read an explanation, whatever stages stand around the query."""
    inner = explained["stages"][0]["$cursor"] if "stages" in explained else explained
    stats = inner["executionStats"]
    stages: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            stages.update([value["stage"]] if "stage" in value else [])
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(inner["queryPlanner"]["winningPlan"])
    return Read(name, stats["totalKeysExamined"], stats["totalDocsExamined"], frozenset(stages))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(rooms: Rooms) -> str:
    """Store 3,000 users in three organizations, as creations would, and give their schema."""
    wiring = rooms.wiring
    names = ("town", "years", "since", "kinds")
    schema_id = await schema_of(wiring, {"properties": {name: {"items": {}, **INDEX} for name in names}})
    schema = await wiring.schemas.find(schema_id)
    plan = await wiring.plans.get(schema) if schema else None
    assert plan is not None
    documents, began = [], wiring.now()
    for number in range(3000):
        data = {"town": f"Bern{number:05}", "years": number, "since": "2026-01-01", "kinds": [str(number % 7), "x"]}
        at = began + timedelta(milliseconds=number // 2)  # two at once: then the ids decide
        user = User(f"u{number:05}", f"o{number % 3}", schema_id, 1, data, created_at=at, changed_at=at)
        documents.append(raw(to_document(replace(user, indexed=plan.entries(data), marking=plan.fingerprint))))
    await rooms.database.collection("users").write_all("insert", documents)
    return schema_id


VIEWER = Caller("viewer", (Grant(Role.ORG_USER_VIEWER, "o0"),))


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("asked", "everywhere", "within"),
    [
        pytest.param(Data("/town", TEXT.EQUALS, "Bern00300"), 1, 1, id="equality"),
        pytest.param(Data("/town", TEXT.STARTS_WITH_IGNORE_CASE, "bern0030"), 10, 4, id="prefix"),
        pytest.param(Data("/town", TEXT.ENDS_WITH, "n00300"), 1, 1, id="suffix"),
        pytest.param(Data("/years", KIND.GREATER_OR_EQUALS, 2991), 9, 3, id="range"),
        pytest.param(Data("/since", KIND.LESS, "2026-01-01T00:00:00Z"), 0, 0, id="time"),
        pytest.param(
            AllOf((Data("/years", KIND.GREATER_OR_EQUALS, 300), Data("/years", KIND.LESS, 309))), 9, 3, id="between"
        ),
    ],
)
async def test_a_search_reads_what_it_finds_and_does_not_scan(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, asked: Query, everywhere: int, within: int
) -> None:
    """Over all organizations and within one of them, to count and to fetch."""
    for caller, expected in ((OPERATOR, everywhere), (VIEWER, within)):
        for each in await reads(rooms, asked, caller, monkeypatch):
            assert "COLLSCAN" not in each.stages
            assert "IXSCAN" in each.stages
            assert each.command == "keys"
            assert each.documents == 0, each
            assert each.keys <= expected + 2, each


@pytest.mark.usefixtures("many")
async def test_many_results_are_met_in_their_order_and_not_sorted(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal values come sorted by id; others are met by going through the ids; no more is counted than is told."""
    for asked in (Data("/kinds", TEXT.EQUALS, "x"), Data("/years", KIND.GREATER, 100)):
        for caller in (OPERATOR, VIEWER):
            monkeypatch.setattr(search, "EXACT", 900)
            told = await reads(rooms, asked, caller, monkeypatch)
            *_, paged = [each for each in told if each.command != "keys"]
            [counted] = [each for each in told if each.command == "keys"]
            assert "COLLSCAN" not in counted.stages | paged.stages
            assert not paged.stages & {"SORT", "SAMPLE"}
            assert counted.documents == 0
            assert counted.keys <= 902
            assert paged.keys < 150, (asked, caller, paged)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(("column", "ascending"), [("id", True), ("creation_date", True), ("creation_date", False)])
async def test_a_later_page_of_many_goes_on_where_the_last_one_ended_and_counts_nothing(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, column: str, *, ascending: bool
) -> None:
    """The token knows the estimate; of what lies before the page nothing is read."""
    monkeypatch.setattr(search, "EXACT", 900)
    asked = Data("/years", KIND.GREATER, 100)
    page = Page(column, ascending=ascending, offset=2000, limit=10)
    first, _ = await search_users(rooms.wiring, OPERATOR, asked, page)
    later = replace_page(page, token=first.next_token)
    [paged] = await reads(rooms, asked, OPERATOR, monkeypatch, later)
    assert paged.command == "aggregate"
    assert paged.keys <= 20, paged
    monkeypatch.setattr(search, "EXACT", 900)
    second, _ = await search_users(rooms.wiring, OPERATOR, asked, later)
    assert (second.total, second.is_estimate) == (first.total, True)
    numbers = range(2111, 2121) if ascending else range(989, 979, -1)
    assert [user.user_id for user in second.items] == [f"u{number:05}" for number in numbers]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("column", ["id", "creation_date"])
async def test_a_page_of_a_range_that_holds_for_few_of_many_is_sorted_by_the_index(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """To go through everybody would take long, and to fetch what is found as well: only keys are read and sorted."""
    monkeypatch.setattr(DataRanges, "guess", lambda _self, _asked: 100)
    monkeypatch.setattr(search, "EXACT", 50)
    asked, page = Data("/years", KIND.GREATER_OR_EQUALS, 2900), Page(column, ascending=True, offset=5, limit=10)
    told = await reads(rooms, asked, OPERATOR, monkeypatch, page)
    assert {each.documents for each in told if each.command == "keys"} == {0}
    assert "SORT" in told[-1].stages
    monkeypatch.setattr(search, "EXACT", 50)
    result, _ = await search_users(rooms.wiring, OPERATOR, asked, page)
    assert [user.user_id for user in result.items] == [f"u{number:05}" for number in range(2905, 2915)]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("column", ["id", "creation_date"])
@pytest.mark.parametrize("later", [False, True])
async def test_many_results_that_lie_at_the_other_end_are_not_looked_for_without_end(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, column: str, *, later: bool
) -> None:
    """As far as it costs no more than to sort, users are gone through; the page is the same."""
    monkeypatch.setattr(search, "EXACT", 900)
    asked, page = Data("/years", KIND.LESS, 1200), Page(column, limit=10)
    await search_users(rooms.wiring, OPERATOR, asked, page)  # takes the sample
    first, _ = await search_users(rooms.wiring, OPERATOR, asked, page)
    assert first.is_estimate
    page = replace_page(page, token=first.next_token if later else None)
    monkeypatch.setattr(DataRanges, "guess", lambda _self, _asked: 1200)
    told = await reads(rooms, asked, OPERATOR, monkeypatch, page)
    assert not any("COLLSCAN" in each.stages for each in told)
    if not later:
        [walk] = [each for each in told if each.command == "aggregate"]
        assert walk.keys < 1500, walk
        assert "SORT" in told[-1].stages
    monkeypatch.setattr(search, "EXACT", 900)
    result, _ = await search_users(rooms.wiring, OPERATOR, asked, page)
    last = 1189 if later else 1199
    assert [user.user_id for user in result.items] == [f"u{number:05}" for number in range(last, last - 10, -1)]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("column", ["id", "creation_date"])
@pytest.mark.parametrize("ascending", [True, False])
async def test_the_keys_of_a_large_range_are_sorted_in_two_halves(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, column: str, *, ascending: bool
) -> None:
    """Cut at a value or, of equal values, at an id; who has a value in both comes once."""
    wiring = rooms.wiring
    few, one = Data("/years", KIND.GREATER_OR_EQUALS, 2700), Data("/kinds", TEXT.EQUALS, "3")
    both = Data("/kinds", TEXT.STARTS_WITH_IGNORE_CASE, "x")
    several = Data("/kinds", KIND.GREATER_OR_EQUALS, "3")
    page = Page(column, ascending=ascending, offset=5, limit=10)
    for asked in (few, one, both, several):
        await search_users(wiring, OPERATOR, asked, Page(column))
        wanted = (await search_users(wiring, OPERATOR, asked, page))[0].items
        with monkeypatch.context() as patched:
            patched.setattr(search, "EXACT", 50)
            patched.setattr(data_ranges, "_WORTH_HALVING", 1)
            await search_users(wiring, OPERATOR, asked, Page(column))  # takes the sample
            patched.setattr(RangeSearch, "_way", no_way)
            result, _ = await search_users(wiring, OPERATOR, asked, page)
        assert [user.user_id for user in result.items] == [user.user_id for user in wanted], asked


async def no_way(_self: object, _asked: object, _about: object) -> None:
    """Find no way but to sort."""


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("ascending", [True, False])
async def test_users_of_one_time_are_sorted_by_id_whatever_the_database_leaves_out(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, *, ascending: bool
) -> None:
    """Keys are sorted by the time alone first, and by both if more than a few have the time at which the page ends."""
    wiring = rooms.wiring
    name = "rising" if ascending else "falling"
    schema_id = await schema_of(wiring, {"properties": {name: INDEX}})
    schema = await wiring.schemas.find(schema_id)
    plan = await wiring.plans.get(schema) if schema else None
    assert plan is not None
    documents, at = [], wiring.now()
    for number in range(400):
        data = {name: number * 7 % 400}
        user = User(f"{name}{number:05}", "default", schema_id, 1, data, created_at=at, changed_at=at)
        documents.append(raw(to_document(replace(user, indexed=plan.entries(data), marking=plan.fingerprint))))
    await rooms.database.collection("users").write_all("insert", documents)
    monkeypatch.setattr(DataRanges, "guess", lambda _self, _asked: 390)
    asked = Data(f"/{name}", KIND.LESS, 400)
    page = Page("creation_date", ascending=ascending, offset=30, limit=10)
    result, _ = await search_users(wiring, OPERATOR, asked, page)
    assert (result.total, result.is_estimate) == (400, False)
    monkeypatch.setattr(search, "EXACT", 100)
    for shown in (result, (await search_users(wiring, OPERATOR, asked, page))[0]):
        numbers = range(30, 40) if ascending else range(369, 359, -1)
        assert [user.user_id for user in shown.items] == [f"{name}{number:05}" for number in numbers]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("column", ["id", "creation_date", "change_date"])
@pytest.mark.parametrize("exact", [10_000, 100])
async def test_pages_of_a_range_follow_each_other(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, column: str, exact: int, *, ascending: bool
) -> None:
    """In the order that is asked for, whether they come from the index, from users that are sorted or from a walk."""
    monkeypatch.setattr(search, "EXACT", exact)
    asked = Data("/years", KIND.GREATER, 2699)
    seen: list[str] = []
    token = None
    for _ in range(4):
        page = Page(column, ascending=ascending, limit=100, token=token)
        result, _ = await search_users(wiring, OPERATOR, asked, page)
        seen += [user.user_id for user in result.items]
        token = result.next_token
        if token is None:
            break
    assert seen == [f"u{number:05}" for number in (range(2700, 3000) if ascending else range(2999, 2699, -1))]


@pytest.mark.usefixtures("many")
async def test_a_later_page_of_what_was_counted_reads_no_users_but_its_own(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a sample says: the keys of up to as many as are counted are read and sorted."""
    monkeypatch.setattr(DataRanges, "guess", lambda _self, _asked: 290)
    asked, page = Data("/years", KIND.GREATER_OR_EQUALS, 2700), Page("creation_date", limit=10)
    monkeypatch.setattr(search, "EXACT", 300)
    first, _ = await search_users(rooms.wiring, OPERATOR, asked, page)
    [counted] = await reads(rooms, asked, OPERATOR, monkeypatch, replace_page(page, token=first.next_token))
    assert (counted.command, counted.documents) == ("keys", 0)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("guess", [0, 30, 100, 1_000_000])
@pytest.mark.parametrize("column", ["id", "creation_date", "change_date"])
async def test_a_sample_that_is_wrong_changes_neither_the_count_nor_the_page(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, column: str, guess: int
) -> None:
    """It is minutes old, and many may have come or gone; it only says which way is the shorter one."""
    monkeypatch.setattr(DataRanges, "guess", lambda _self, _asked: guess)
    monkeypatch.setattr(search, "EXACT", 60)
    for start, total in ((2990, 10), (2950, 50)):
        asked = AllOf((Data("/years", KIND.GREATER_OR_EQUALS, start), Data("/years", KIND.LESS, 3000)))
        result, _ = await search_users(wiring, OPERATOR, asked, Page(column, ascending=True, offset=2, limit=5))
        assert [user.user_id for user in result.items] == [f"u{start + at:05}" for at in range(2, 7)]
        assert (result.total, result.is_estimate) == (total, False)
    result, _ = await search_users(
        wiring, OPERATOR, Data("/years", KIND.GREATER_OR_EQUALS, 2900), Page(column, limit=1)
    )
    assert result.is_estimate
    assert result.total >= 61


async def test_whoever_has_two_values_in_a_range_counts_once(wiring: Wiring) -> None:
    """However many items of an array fit; with the ends of a range too, and whoever is deleted counts no more."""
    schema_id = await schema_of(wiring, {"properties": {"marks": {"items": INDEX}}})
    for number in range(5):
        values = list(range(number + 1))
        await create_user(wiring, OPERATOR, CreateUser(schema_id, {"marks": values}, "default", user_id=f"m{number}"))
    low, high = Data("/marks", KIND.GREATER_OR_EQUALS, 1), Data("/marks", KIND.LESS_OR_EQUALS, 3)
    for asked, ids in ((low, 4), (high, 5), (AllOf((low, high)), 4)):
        result, _ = await search_users(wiring, OPERATOR, asked, Page("id", ascending=True, limit=3))
        assert (result.total, len(result.items), result.is_estimate) == (ids, 3, False)
    await delete_user(wiring, Target(OPERATOR, "m3"))
    assert await found(wiring, low) == ["m1", "m2", "m4"]
    result, _ = await search_users(wiring, OPERATOR, low, Page("id", limit=1))
    assert result.total == 3


async def test_ranges_end_where_their_kind_of_value_ends(rooms: Rooms, wiring: Wiring) -> None:
    """Numbers, texts and bools under one path are kept apart, and ends that leave nothing between them find nobody.

    Whoever goes through users instead of the index finds the same.
    """
    users = rooms.database.collection("users")
    schema_id = await schema_of(wiring, {"properties": {"any": INDEX}})
    values: list[Any] = [-1e300, -5, 0, 2.5, 3, 2**63 - 1, "", "a", "b", "\U0010ffff", False, True]
    for number, value in enumerate(values):
        await create_user(wiring, OPERATOR, CreateUser(schema_id, {"any": value}, "default", user_id=f"k{number:02}"))

    def data(kind: DataMethod, value: float | str) -> Data:
        return Data("/any", kind, value)

    for asked, expected in [
        ([data(KIND.LESS, 3)], [0, 1, 2, 3]),
        ([data(KIND.LESS_OR_EQUALS, 3.0)], [0, 1, 2, 3, 4]),
        ([data(KIND.GREATER, 0)], [3, 4, 5]),
        ([data(KIND.GREATER_OR_EQUALS, 2**63 - 1)], [5]),
        ([data(KIND.LESS, "b")], [6, 7]),
        ([data(KIND.GREATER_OR_EQUALS, "a")], [7, 8, 9]),
        ([data(KIND.GREATER, "a")], [8, 9]),
        ([data(KIND.EQUALS, value=False)], [10]),
        ([data(KIND.EQUALS, 0)], [2]),
        ([data(KIND.GREATER, 3), data(KIND.LESS, 3)], []),
        ([data(KIND.GREATER, 3), data(KIND.LESS_OR_EQUALS, 3)], []),
        ([data(KIND.GREATER_OR_EQUALS, 3), data(KIND.LESS_OR_EQUALS, 3)], [4]),
        ([data(KIND.GREATER_OR_EQUALS, 3), data(KIND.LESS, -5)], []),
        ([data(KIND.GREATER, "a"), data(KIND.LESS, 3)], []),
    ]:
        assert await found(wiring, *asked) == [f"k{number:02}" for number in expected], asked
        one, _ = range_of({}, narrowed(AllOf(tuple(map(entries_of, asked)))))
        if one is not None:
            met = await users.find({"schema_id": schema_id} | one.entry_filter)
            assert {each["_id"] for each in met} == {f"k{number:02}" for number in expected}, asked


@pytest.mark.usefixtures("many")
async def test_many_results_are_estimated_and_said_to_be(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit the count is exact; beyond, it is about right."""
    asked = Data("/years", KIND.LESS, 1500)
    result, _ = await search_users(rooms.wiring, OPERATOR, asked, Page("id"))
    assert (result.total, result.is_estimate) == (1500, False)
    monkeypatch.setattr(search, "EXACT", 100)
    result, _ = await search_users(rooms.wiring, OPERATOR, asked, Page("id"))
    assert result.is_estimate
    assert 600 < result.total < 2400


async def test_ranges_of_an_array_may_be_met_by_two_of_its_items(wiring: Wiring) -> None:
    """Each of two queries asks whether any item fits; one value must fit both."""
    schema_id = await schema_of(wiring, {"properties": {"n": {"items": INDEX, **INDEX}}})
    for name, value in {"na": [1, 9], "nb": 5, "nc": 9, "nd": [5]}.items():
        await create_user(wiring, OPERATOR, CreateUser(schema_id, {"n": value}, "default", user_id=name))
    above, below = Data("/n", KIND.GREATER, 4), Data("/n", KIND.LESS, 6)
    assert await found(wiring, above, below) == ["na", "nb", "nd"]
    assert await found(wiring, Not(AllOf((above, below)))) == ["nc"]


@pytest.mark.usefixtures("many")
async def test_a_search_that_takes_too_long_is_refused(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database gives up too, and the caller hears what would be faster."""
    monkeypatch.setattr(search, "LONGEST", 0.01)
    with pytest.raises(Unmet, match="takes more than"):
        await found(rooms.wiring, Data("/town", TEXT.CONTAINS_IGNORE_CASE, "rn00"))


@pytest.mark.usefixtures("many")
async def test_texts_that_go_with_a_deletion_are_counted_without_users(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is deleted has no username, so the index alone tells; nor is it found by what it had."""
    monkeypatch.setattr(UserStore, "erased", frozenset({"username"}))
    wiring, schema_id = rooms.wiring, await schema_of(rooms.wiring)
    for number in range(6):
        new = CreateUser(schema_id, {}, "default", user_id=f"n{number}", username=f"Named{number}")
        await create_user(wiring, OPERATOR, new)
    await delete_user(wiring, Target(OPERATOR, "n3"))
    within = Caller("viewer", (Grant(Role.ORG_USER_VIEWER, "default"),))
    named = Text("username", "nAMED", TEXT.STARTS_WITH_IGNORE_CASE)
    either = AnyOf((named, Text("username", "4", TEXT.ENDS_WITH)))
    cases: list[tuple[Query, Caller, list[str]]] = [
        (named, OPERATOR, ["n0", "n1", "n2", "n4", "n5"]),
        (named, within, ["n0", "n1", "n2", "n4", "n5"]),
        (named, VIEWER, []),
        (either, within, ["n0", "n1", "n2", "n4", "n5"]),
        (AllOf((named, Text("username", "5", TEXT.ENDS_WITH))), OPERATOR, ["n5"]),
        (AllOf((Not(named), Is("schema_id", schema_id))), OPERATOR, []),
    ]
    for asked, caller, ids in cases:
        result, _ = await search_users(wiring, caller, asked, Page("id", ascending=True))
        assert ([user.user_id for user in result.items], result.total) == (ids, len(ids)), asked
    [counted, _] = sorted(await reads(rooms, named, OPERATOR, monkeypatch), key=lambda each: each.documents)
    assert counted.documents == 0


async def test_what_ends_with_a_text_has_nothing_behind_it(rooms: Rooms) -> None:
    """Not even a line break, of which a pattern's ``$`` would not speak."""
    texts = rooms.database.collection("texts")
    for name in ("end", "end\n", "END", "END\n", "end\nx"):
        await texts.insert({"_id": name, "folded": fold(name)})
    for value, method, ids in [
        ("nd", TEXT.ENDS_WITH, {"end"}),
        ("d\n", TEXT.ENDS_WITH, {"end\n"}),
        ("nd", TEXT.ENDS_WITH_IGNORE_CASE, {"end", "END"}),
        ("", TEXT.ENDS_WITH, {"end", "end\n", "END", "END\n", "end\nx"}),
    ]:
        told = await texts.find(text_filter("_id", "folded", Text("name", value, method)))
        assert {each["_id"] for each in told} == ids, (value, method)


async def test_pages_lose_and_double_nobody_while_others_write(wiring: Wiring) -> None:
    """By a column that never changes: who was there from first to last is on one page, whatever comes and goes."""
    schema_id = await schema_of(wiring, {"properties": {"page": INDEX}})
    for number in range(30):
        await create_user(wiring, OPERATOR, CreateUser(schema_id, {"page": 1}, "default", user_id=f"p{number:02}"))
    seen: list[str] = []
    token = None
    while True:
        page = Page("creation_date", ascending=True, limit=7, token=token)
        result, _ = await search_users(wiring, OPERATOR, Data("/page", KIND.EQUALS, 1), page)
        seen += [user.user_id for user in result.items]
        token = result.next_token
        if token is None:
            break
        await delete_user(wiring, Target(OPERATOR, seen[-1]))  # where the next page begins
        await update_user(wiring, Target(OPERATOR, seen[0]), UpdateUser(data={"page": 1.0, "more": len(seen)}))
        if len(seen) < 20:
            new = CreateUser(schema_id, {"page": 1}, "default", user_id=f"new{len(seen)}")
            await create_user(wiring, OPERATOR, new)
    assert [each for each in seen if each.startswith("p")] == [f"p{number:02}" for number in range(30)]
    assert len(set(seen)) == len(seen)
