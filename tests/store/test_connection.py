"""The one module that knows a driver, on both drivers."""

from __future__ import annotations

import gc

import pytest

from schema_user.errors import Unavailable
from schema_user.store.connection import Database, DuplicateKey


@pytest.fixture(params=["pymongo", "motor"])
def driver(request: pytest.FixtureRequest) -> str:
    """Run each test with both drivers."""
    return str(request.param)


async def test_the_verbs_do_what_they_say(database: Database) -> None:
    """Insert, find, change, count, take, delete, aggregate."""
    things = database.collection("things")
    for number in range(3):
        await things.insert({"_id": number, "n": number})
    assert await things.find_one({"_id": 1}) == {"_id": 1, "n": 1}
    assert await things.find_one({"_id": 9}) is None
    assert [each["_id"] for each in await things.find({}, sort=[("n", -1)], limit=2)] == [2, 1]
    assert await things.update({"_id": 1}, {"$set": {"n": 5}}) is True
    assert await things.update({"_id": 9}, {"$set": {"n": 5}}) is False
    assert await things.update_all({}, {"$inc": {"n": 1}}) == 3
    assert await things.take({"n": {"$lt": 4}, "_id": {"$gt": 0}}, {"$set": {"t": 1}}) == {"_id": 2, "n": 3, "t": 1}
    assert await things.take({"n": 99}, {"$set": {"t": 1}}) is None
    assert await things.count({}) == 3
    assert await things.count({}, limit=2) == 2
    assert await things.aggregate([{"$match": {"_id": 0}}]) == [{"_id": 0, "n": 1}]
    assert await things.durable().find_one({"_id": 0}) == {"_id": 0, "n": 1}
    assert await things.delete({"_id": 0}) is True
    assert await things.delete({"_id": 0}) is False


async def test_a_duplicate_names_the_index(database: Database) -> None:
    """The caller can tell the id from another unique field."""
    things = database.collection("things")
    await things.ensure_index([("name", 1)], unique=True)
    await things.insert({"_id": 1, "name": "a"})
    with pytest.raises(DuplicateKey) as by_id:
        await things.insert({"_id": 1, "name": "b"})
    assert by_id.value.pattern == {"_id"}
    with pytest.raises(DuplicateKey) as by_name:
        await things.insert({"_id": 2, "name": "a"})
    assert by_name.value.pattern == {"name"}


async def test_integers_come_back_plain(database: Database) -> None:
    """A 64-bit integer is an int and nothing more, wherever it stands."""
    things = database.collection("things")
    await things.insert({"_id": 1, "big": 2**62, "in": [{"deep": -(2**63)}]})
    found = await things.find_one({"_id": 1})
    assert found is not None
    assert type(found["big"]) is int
    assert type(found["in"][0]["deep"]) is int


async def test_writes_wait_for_a_journaled_majority(database: Database) -> None:
    """Whatever the URI says."""
    concern = database.collection("things")._raw.write_concern
    assert concern.document == {"w": "majority", "j": True}


# The driver leaves the socket of a refused connection to the garbage collector, which is called here and not later.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_database_that_is_away_is_unavailable_in_time(driver: str) -> None:
    """The fault says when to come again."""
    from datetime import timedelta

    away = Database("mongodb://127.0.0.1:9/?directConnection=true", driver, timedelta(seconds=1))
    try:
        with pytest.raises(Unavailable) as fault:
            await away.ping()
        assert fault.value.retry_after
        with pytest.raises(Unavailable):
            await away.collection("things").find_one({})
    finally:
        await away.close()
        gc.collect()


async def test_the_database_is_named_by_the_uri_or_by_default() -> None:
    """A URI without a name means schema_user."""
    for uri, name in (("mongodb://127.0.0.1:9/", "schema_user"), ("mongodb://127.0.0.1:9/mine", "mine")):
        database = Database(uri)
        assert database.collection("x")._raw.database.name == name
        await database.close()
