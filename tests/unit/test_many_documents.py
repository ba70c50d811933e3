"""Many documents under one schema, for work in the background: judged in batches, and each for itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json

from schema_user.validation.validators import Validators
from tests.unit.test_worker_pool import FLAT, SCHEMA, SLOW, SLOW_DATA, opened


async def test_each_document_gets_its_own_answer() -> None:
    """Before the schema is known here and after, in the order that was asked."""
    async with opened(2) as pool:
        validators = Validators(pool, cache_bytes=2**20, max_schema_bytes=2**18)
        documents = [{"name": "Minnie"}, {"age": 3}, {"name": 1}, {"name": "\ud800"}] * 30
        wanted = [[], ["required"], ["type"], ["surrogate"]] * 30
        for _ in range(2):
            found = await validators.violations_of_many(SCHEMA, documents)
            assert [[each.reason for each in violations] for violations in found] == wanted
            await asyncio.gather(*validators._studies.values())
        assert validators._known.get((SCHEMA.schema_id, SCHEMA.revision)) is not None
        assert await validators.violations_of_many(SCHEMA, []) == []


async def test_one_that_takes_too_long_spoils_no_other() -> None:
    """It has that as its violation."""
    either = {"if": {"required": ["name"]}, "then": {"properties": FLAT["properties"]}, "else": {"$ref": "#/$defs/a0"}}
    text = json.dumps({**SLOW, **either, "$ref": "#/$defs/ok", "$defs": {**SLOW["$defs"], "ok": {}}})
    schema = dataclasses.replace(SCHEMA, schema_id="slow", text=text)
    async with opened(2) as pool:
        validators = Validators(pool, cache_bytes=2**20, max_schema_bytes=2**18)
        found = await validators.violations_of_many(schema, [{"name": "Minnie"}, SLOW_DATA, {"name": 1}])
        assert [[each.reason for each in violations] for violations in found] == [[], ["budget"], ["type"]]
