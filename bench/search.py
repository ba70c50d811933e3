"""Measures searches over ``data`` of a million users of 1 KB on one machine: ``make bench-search``.

Users are stored as raw documents that the store itself builds, in 1,000 organizations of one schema with five indexed
paths. Each kind of query is asked one after the other, with other values each time, through ``search_users()`` as a
caller of the instance and as one of an organization. ``--users`` and ``--queries`` make it smaller, ``--only`` asks the
kinds whose name has a word. ``--data`` keeps the database in a folder, so that the next run need not store again what
takes some nine minutes. On a machine that does other things as well, the processor time of the service and the database
together says more than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import random
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pymongo
from msgspec.structs import replace

from schema_user.commands.bootstrap import prepare
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.caller import Caller, Grant
from schema_user.domain.contact import Address, Contact
from schema_user.domain.permission import Role
from schema_user.domain.search import AllOf, Data, DataMethod, Not, Page, Text, TextMethod
from schema_user.domain.user import User
from schema_user.errors import Unmet
from schema_user.queries import search_users
from schema_user.rooms import wired
from schema_user.settings import Settings
from schema_user.store.connection import raw
from schema_user.store.data_search import BY_ORGANIZATION, BY_VALUE
from schema_user.store.embedded import EmbeddedMongod
from schema_user.store.user_documents import to_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.collection import Collection

    from schema_user.domain.search import Query
    from schema_user.rooms import Rooms

DATABASE: Final = "schema_user"
INDEX: Final = {"urn:schema-user:index": True}
SCHEMA: Final = {
    "type": "object",
    "properties": dict.fromkeys(("mail", "city", "points", "joined"), INDEX) | {"tags": {"items": INDEX}},
}
ORGANIZATIONS: Final = 1_000
CITIES: Final = 2_000
BATCH: Final = 1_000
FILLER: Final = "x" * 560


def data_of(number: int, chance: random.Random) -> dict[str, Any]:
    """Make the data of a user: about 1 KB as a document without what is indexed."""
    return {
        "mail": f"{chance.randrange(16**8):08x}.{number}@example{number % 50}.com",
        "city": f"City {chance.randrange(CITIES)}",
        "points": chance.randrange(1_000_000),
        "joined": f"20{chance.randrange(10, 26)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T10:00:00Z",
        "tags": [f"tag{chance.randrange(100)}", f"tag{chance.randrange(100)}"],
        "filler": FILLER,
    }


def username_of(number: int) -> str:
    """Make a username: eight letters that say nothing of the number, and the number."""
    return f"{hashlib.sha256(str(number).encode()).hexdigest()[:8]}.{number}"


def contact_of(number: int) -> Contact:
    """Make the addresses of a user."""
    email = Address(f"{username_of(number)}@Example{number % 50}.com", is_verified=True)
    return Contact(email, Address(f"+4179{number:07}", is_verified=True))


def known_value(name: str, number: int) -> str:
    """Give what a user has as its ``username``, ``email`` or ``phone``."""
    contact = contact_of(number)
    address = {"email": contact.email, "phone": contact.phone}.get(name)
    return address.value if address else username_of(number)


def kinds(users: int) -> dict[str, Callable[[random.Random], Query]]:
    """Give the kinds of queries, each with other values each time."""
    text, kind = TextMethod, DataMethod

    def between(chance: random.Random) -> Query:
        start = chance.randrange(1_000_000)
        return AllOf((Data("/points", kind.GREATER_OR_EQUALS, start), Data("/points", kind.LESS, start + 200)))

    def mail(chance: random.Random) -> str:
        number = chance.randrange(users)
        return f".{number}@example{number % 50}.com"

    def known(name: str, method: TextMethod, cut: Callable[[str], str]) -> Callable[[random.Random], Query]:
        return lambda c: Text(name, cut(known_value(name, c.randrange(users))), method)

    return {
        "equality, one of 2,000 values": lambda c: Data("/city", text.EQUALS, f"City {c.randrange(CITIES)}"),
        "equality, an item of an array, 2 %": lambda c: Data("/tags", text.EQUALS, f"tag{c.randrange(100)}"),
        "prefix of 5 characters": lambda c: Data("/mail", text.STARTS_WITH, f"{c.randrange(16**5):05x}"),
        "prefix without case": lambda c: Data("/city", text.STARTS_WITH_IGNORE_CASE, f"CITY {c.randrange(100, 200)}"),
        "suffix": lambda c: Data("/mail", text.ENDS_WITH, mail(c)),
        "suffix, 2 %": lambda c: Data("/mail", text.ENDS_WITH_IGNORE_CASE, f"@EXAMPLE{c.randrange(50)}.com"),
        "range with two ends": between,
        "range with one end, all sizes": lambda c: Data("/points", kind.GREATER, c.randrange(1_000_000)),
        "range of times": lambda c: Data("/joined", kind.LESS, f"2010-01-{c.randrange(2, 28):02}"),
        "username equals": known("username", text.EQUALS, str),
        "username equals without case": known("username", text.EQUALS_IGNORE_CASE, str.upper),
        "username prefix": known("username", text.STARTS_WITH, lambda value: value[:5]),
        "username prefix without case": known(
            "username", text.STARTS_WITH_IGNORE_CASE, lambda value: value[:5].upper()
        ),
        "username prefix of 1 character": known("username", text.STARTS_WITH, lambda value: value[:1]),
        "username suffix": known("username", text.ENDS_WITH, lambda value: value[-8:]),
        "email equals": known("email", text.EQUALS, str),
        "email equals without case": known("email", text.EQUALS_IGNORE_CASE, str.upper),
        "email prefix": known("email", text.STARTS_WITH, lambda value: value[:5]),
        "email prefix without case": known("email", text.STARTS_WITH_IGNORE_CASE, lambda value: value[:5].upper()),
        "email suffix": known("email", text.ENDS_WITH, lambda value: value[-20:]),
        "email suffix without case": known("email", text.ENDS_WITH_IGNORE_CASE, lambda value: value[-20:].upper()),
        "phone equals": known("phone", text.EQUALS, str),
        "phone prefix": known("phone", text.STARTS_WITH, lambda value: value[:10]),
        "phone suffix": known("phone", text.ENDS_WITH, lambda value: value[-6:]),
        "contains": lambda c: Data("/mail", text.CONTAINS, f"{c.randrange(16**6):06x}"),
        "not equal": lambda c: Not(Data("/city", text.EQUALS, f"City {c.randrange(CITIES)}")),
    }


async def store_users(rooms: Rooms, users: int) -> None:
    """Store the users as creations would, without their history.

    The indexes over data are made afterwards: so they cost a third of what they do key by key.
    """
    wiring, chance = rooms.wiring, random.Random(1)
    schema_id = (await create_schema(wiring, OPERATOR, CreateSchema("bench", SCHEMA, None))).schema.schema_id
    schema = await wiring.schemas.find(schema_id)
    plan = await wiring.plans.get(schema) if schema else None
    if plan is None:
        raise AssertionError
    collection, began = rooms.database.collection("users"), wiring.now() - timedelta(days=400)
    client: pymongo.MongoClient[Any]
    with pymongo.MongoClient(wiring.settings.mongodb_uri) as client:
        stored: Collection[Any] = client[DATABASE]["users"]
        for index in (BY_VALUE, BY_ORGANIZATION):
            stored.drop_index(list(index))
    for start in range(0, users, BATCH):
        batch = []
        for number in range(start, min(start + BATCH, users)):
            data = data_of(number, chance)
            at = began + timedelta(seconds=number)
            organization = f"o{chance.randrange(ORGANIZATIONS)}"
            user = User(f"{number:020}", organization, schema_id, 1, data, created_at=at, changed_at=at)
            user = replace(user, contact=contact_of(number), username=username_of(number))
            batch.append(raw(to_document(replace(user, indexed=plan.entries(data), marking=plan.fingerprint))))
        await collection.write_all("insert", batch, durable=False)
        if start % 100_000 == 0:
            print(f"  {start:,} users stored", flush=True)
    await wiring.users.prepare()


def busy() -> float:
    """Give the processor seconds that this process and the database have taken."""
    own = psutil.Process()
    spent = [own.cpu_times(), *(each.cpu_times() for each in own.children(recursive=True) if each.name() == "mongod")]
    return sum(each.user + each.system for each in spent)


async def measure(rooms: Rooms, users: int, queries: int, only: str) -> None:
    """Ask each kind of query whose name has ``only``, and print what it took."""
    viewer = Caller("viewer", (Grant(Role.ORG_USER_VIEWER, "o1"),))
    print(f"{'query':36} {'scope':13} {'results':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms':>8}")
    for name, make in kinds(users).items():
        if only not in name:
            continue
        for scope, caller in (("instance", OPERATOR), ("organization", viewer)):
            chance = random.Random(2)
            bounded = name in {"contains", "not equal"} or (" suffix" in name and not name.startswith("suffix"))
            took, totals, refused = [], [], 0
            spent = busy()
            for turn in range(3 + (queries if not bounded else min(queries, 10))):
                page = Page(chance.choice(["id", "creation_date"]))
                query = make(chance)
                began = time.perf_counter()
                try:
                    found, _ = await search_users(rooms.wiring, caller, query, page)
                    totals.append(found.total)
                except Unmet:
                    refused += 1
                if turn >= 3:  # the first ones read the index from the disk
                    took.append((time.perf_counter() - began) * 1000)
            spent = (busy() - spent) * 1000 / (len(took) + 3)
            took.sort()
            p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
            told = f"{statistics.median(totals):,.0f}" if totals else "-"
            more = f"  {refused} refused after 2 s" if refused else ""
            print(
                f"{name:36} {scope:13} {told:>9} {statistics.median(took):8.1f} {p99:8.1f} {spent:8.1f}{more}",
                flush=True,
            )


async def run(uri: str, options: argparse.Namespace) -> None:
    """Store, if that is not done, and measure."""
    settings = Settings(
        mongodb_timeout=timedelta(hours=1),
        mongodb_uri=uri,
        secret_keys=("a secret of the bench, long enough",),
        public_url="http://localhost",
    )
    async with wired(settings) as rooms:
        await prepare(rooms.wiring, rooms.instance)
        if await rooms.database.collection("users").estimate() < options.users:
            began = time.perf_counter()
            await store_users(rooms, options.users)
            print(f"{options.users:,} users stored in {time.perf_counter() - began:.0f} s")
        gc.collect()
        gc.freeze()  # as the HTTP process does: to look through all modules for cycles takes 40 ms
        gc.set_threshold(20_000, 20, 50)
        await measure(rooms, options.users, options.queries, options.only)


def main() -> None:
    """Run on a database of its own, which goes afterwards unless it is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--only", default="")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache-gb", type=float, default=2.0)
    options = parser.parse_args()
    with contextlib.ExitStack() as held:
        folder = options.data or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="su-bench-"))) / "db"
        mongod = EmbeddedMongod(folder, cache_gb=options.cache_gb)
        held.callback(mongod.stop)
        asyncio.run(run(mongod.start(), options))


if __name__ == "__main__":
    main()
