"""Schemas and documents that are made to be slow, deep or large: each is answered, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import pytest_asyncio

from schema_user.validation import gate
from schema_user.validation.breaker import Crowded
from schema_user.validation.pool import Pool, Stopped
from schema_user.validation.worker import CALL_SECONDS, UPLOAD_SECONDS
from tests.conftest import Server, reason, violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import Tenant

GENEROUS = 40
"""Times the limit, for machines that have other things to do."""

HONEST = json.dumps({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}})
MIB = 1024 * 1024


def nested(levels: int, inner: Any = None) -> Any:
    """A document of so many levels."""
    data = inner
    for _ in range(levels):
        data = {"x": data}
    return data


def doubling(levels: int = 40) -> dict[str, Any]:
    """Each level of a document is asked twice by each that asks it."""
    steps = {
        f"a{n}": {"allOf": [{"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}} for _ in range(2)]}
        for n in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {}}}


def doubling_in_place(keyword: str, levels: int = 30) -> dict[str, Any]:
    """The same, for one value, through a keyword that takes several schemas."""
    names = [f"a{number}" for number in range(levels + 1)]
    steps = {one: {keyword: [{"$ref": f"#/$defs/{after}"}] * 2} for one, after in pairwise(names)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, names[-1]: {"type": "string"}}}


def conditional(levels: int = 40) -> dict[str, Any]:
    """Both ``if`` and ``then`` ask the next level."""
    step = {
        f"a{n}": {
            "if": {"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}},
            "then": {"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}},
        }
        for n in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**step, f"a{levels}": {}}}


def chained(levels: int) -> dict[str, Any]:
    """A recursion whose every level passes through a long chain in place."""
    chain = {f"c{n}": {"allOf": [{"$ref": f"#/$defs/c{n + 1}"}]} for n in range(levels)}
    return {"$ref": "#/$defs/c0", "$defs": {**chain, f"c{levels}": {"properties": {"x": {"$ref": "#"}}}}}


_CHUNK = "".join(chr(97 + (n * n * 7 + n) % 26) for n in range(10_000))
_EQUAL = [{"a": [n % 2, {"b": n}]} for n in range(40_000)]

PAIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "doubling": (doubling(), nested(40)),
    "doubling-allOf": (doubling_in_place("allOf"), "x"),
    "doubling-anyOf": (doubling_in_place("anyOf"), 1),
    "doubling-oneOf": (doubling_in_place("oneOf"), "x"),
    "conditional": (conditional(), nested(40)),
    "counted-pattern": ({"pattern": "x.{1000}y"}, _CHUNK * 60),
    "counted-property": ({"pattern": r"\p{L}{200}\d"}, "é" * 400_000),
    "pattern-names": (
        {"patternProperties": {"[a-z]{90}x": {}}},
        {f"{_CHUNK[n : n + 300]}{n}": n for n in range(3_000)},
    ),
    "look-ahead": ({"items": {"pattern": "^(?=a)(a|a|b)*(?=c)c$"}}, ["a" * 50] * 15_000),
    "uniqueItems": ({"uniqueItems": True}, _EQUAL),
    "uniqueItems-often": ({"allOf": [{"uniqueItems": True, "minItems": n} for n in range(500)]}, _EQUAL[:5_000]),
    "required": ({"items": {"required": [f"n{n}" for n in range(1_000)]}}, [{"n": "x" * 1_000}] * 900),
    "required-of-one": ({"required": [f"n{n}" for n in range(1_000)]}, {"x": "x" * MIB}),
    "wrong-items": ({"items": {"type": "string"}}, [1] * 500_000),
    "recursion": ({"properties": {"x": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "not": {}}}}, nested(62)),
    "deep": (chained(300), nested(62)),
    "wide-oneOf": ({"items": {"oneOf": [{"required": [f"n{n}"]} for n in range(4_000)]}}, [{"a": 1}] * 5_000),
    "wide-enum": ({"items": {"enum": [{"a": n, "b": [n]} for n in range(5_000)]}}, [{"a": -1, "b": [0]}] * 20_000),
    "unevaluated": (
        {**doubling_in_place("allOf", 20), "unevaluatedProperties": False},
        {f"k{n}": n for n in range(99)},
    ),
    "unevaluated-items": (
        {"allOf": [{"contains": {"const": n}} for n in range(500)], "unevaluatedItems": False},
        list(range(20_000)),
    ),
    "contains": ({"allOf": [{"contains": {"const": -n}, "minContains": 0} for n in range(3_000)]}, [0] * 50_000),
    "propertyNames": (
        {"propertyNames": {"allOf": [{"not": {"const": f"{n}"}} for n in range(5_000)]}},
        {f"k{n}": 1 for n in range(50_000)},
    ),
    "dependentSchemas": (
        {"dependentSchemas": {f"k{n}": {"propertyNames": {"maxLength": 9}} for n in range(3_000)}},
        {f"k{n}": n for n in range(20_000)},
    ),
}

_USUAL = ("doubling", "counted-pattern", "uniqueItems", "wrong-items", "recursion", "deep", "wide-enum")
"""One of each kind: time, a pattern, a large value, many errors, depth of data and of schema, many choices."""

EVERY_NAME = [pytest.param(name, marks=[pytest.mark.soak] * (name not in _USUAL)) for name in PAIRS]


@pytest_asyncio.fixture(scope="module")
async def pool() -> AsyncIterator[Pool]:
    """Three workers for all."""
    made = Pool(3)
    made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("name", EVERY_NAME)
async def test_each_is_answered(pool: Pool, name: str) -> None:
    """In a few times the limit there is an answer, this process has not grown, and the next call finds a worker."""
    schema, data = PAIRS[name]
    text, encoded = json.dumps(schema), json.dumps(data).encode()
    assert len(text) <= gate.MAX_BYTES
    me = psutil.Process()
    before, began = me.memory_info().rss, time.monotonic()
    with contextlib.suppress(Stopped, Crowded):
        await pool.violations(name, text, "2020-12", encoded)
    assert time.monotonic() - began < GENEROUS * (CALL_SECONDS + UPLOAD_SECONDS)
    assert me.memory_info().rss - before < 32 * MIB
    assert (await pool.violations("honest", HONEST, "2020-12", b'{"name":"x"}')).valid


@pytest.mark.parametrize("name", EVERY_NAME)
async def test_each_can_be_uploaded_or_is_refused(pool: Pool, name: str) -> None:
    """The gate answers in a few times its limit, and refuses none of them for another reason than its limits."""
    document = json.dumps(PAIRS[name][0]).encode()
    began = time.monotonic()
    with contextlib.suppress(Stopped, Crowded):
        outcome = await pool.check(document, None, gate.MAX_BYTES)
        assert outcome.gated.violations == []
    assert time.monotonic() - began < GENEROUS * UPLOAD_SECONDS


async def test_honest_calls_beside_a_flood(pool: Pool) -> None:
    """While hostile calls come without end, every honest one is answered."""
    text, data = json.dumps(doubling()), json.dumps(nested(40)).encode()
    over = asyncio.Event()

    refused: list[Crowded] = []

    async def hostile() -> None:
        while not over.is_set():
            try:
                await pool.violations("flood", text, "2020-12", data, ("schema flood", "organization 1"))
            except Stopped:
                pass
            except Crowded as error:
                refused.append(error)
                await asyncio.sleep(0.01)

    flood = [asyncio.create_task(hostile()) for _ in range(40)]
    try:
        async with asyncio.timeout(GENEROUS):
            for number in itertools.count():
                name = json.dumps({"name": f"n{number}"}).encode()
                assert (await pool.violations("honest", HONEST, "2020-12", name, ("schema honest",))).valid
                if refused and number > 50:
                    break
    finally:
        over.set()
        await asyncio.gather(*flood)


def test_through_the_door(tenant: Tenant) -> None:
    """A schema that passes the gate and is too slow for a document: 400 code 9, and the next request works."""
    schema = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "slow", "schema": doubling()})
    stopped = tenant.owner.post("/v3alpha/users", json={"schemaId": schema["id"], "data": nested(40)})
    assert (stopped.status_code, stopped.json()["code"], reason(stopped)) == (400, 9, "VALIDATION_BUDGET"), stopped.text
    assert stopped.json()["details"][0]["metadata"]["schemaId"] == schema["id"]
    assert violations(stopped) == {"data": "budget"}
    assert tenant.user()
    wrong = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "wrong", "schema": {"items": {"type": "string"}}})
    body = {"schemaId": wrong["id"], "data": {"a": 1}}
    assert tenant.owner.post("/v3alpha/users", json=body).status_code == 201
    checked = tenant.owner.ok("POST", "/v3alpha/user_schemas/check", {"schema": doubling(), "data": nested(40)})
    assert [(each["field"], each["reason"]) for each in checked["violations"]] == [("data", "budget")]


def test_too_slow_to_upload(tenant: Tenant) -> None:
    """A schema whose gate takes too long is refused with the limit: 400 code 3."""
    patterns = {f"p{number}": {"pattern": f"^(.{{0,900}}x{number})*$"} for number in range(1_000)}
    refused = tenant.owner.post("/v3alpha/user_schemas", json={"type": "slow", "schema": {"properties": patterns}})
    assert (refused.status_code, refused.json()["code"], reason(refused)) == (400, 3, "SCHEMA_INVALID"), refused.text
    assert violations(refused) == {"schema": "budget"}


@pytest.mark.parametrize("signal_to_group", [pytest.param(False, marks=pytest.mark.soak), True])
def test_no_worker_is_left(short_dir: Path, signal_to_group: bool) -> None:
    """When the server has stopped, so have its validation workers; requests beside the signal were answered."""
    workers = {"SCHEMA_USER_VALIDATION_WORKERS": "2"}
    server = Server(short_dir / f"workers-{signal_to_group}", environment=workers).start()
    assert server.process is not None
    try:
        everybody = psutil.Process(server.process.pid).children(recursive=True)
        working = [each for each in everybody if "schema_user.validation.worker" in each.cmdline()]
        assert len(working) >= 2
        if signal_to_group:
            os.killpg(server.process.pid, signal.SIGINT)
            server.process.wait(60)
            if server.process.stdout:
                server.process.stdout.close()
        else:
            assert server.stop() == 0
        _, alive = psutil.wait_procs(working, timeout=5)
        assert not alive
    finally:
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        server.process.kill()
        server.process.wait()
