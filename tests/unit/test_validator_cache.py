from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.validation import cache
from schema_user.validation.cache import ValidatorCache
from schema_user.validation.rust import RustValidator, compile_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOW = datetime(2026, 1, 2, tzinfo=UTC)
_SCHEMA = UserSchema(
    schema_id="1",
    organization_id=None,
    type="customer",
    revision=1,
    text=json.dumps({"required": ["name"]}),
    dialect="2020-12",
    state=SchemaState.ACTIVE,
    authenticators=(),
    created_at=_NOW,
    changed_at=_NOW,
)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """List what is compiled, in order."""
    documents: list[Mapping[str, Any]] = []

    def counting(document: Mapping[str, Any], dialect: str) -> RustValidator:
        documents.append(document)
        return compile_schema(document, dialect)

    monkeypatch.setattr(cache, "compile_schema", counting)
    return documents


async def test_compiles_once(compiled: list[Mapping[str, Any]]) -> None:
    """The second caller gets the first one's validator, also when both ask at once."""
    validators = ValidatorCache()
    first, *others = await asyncio.gather(*(validators.get(_SCHEMA) for _ in range(10)))
    assert all(each is first for each in others)
    assert await validators.get(_SCHEMA) is first
    assert len(compiled) == 1
    assert [each.field for each in first.violations({})] == ["data/name"]


async def test_revision_is_another(compiled: list[Mapping[str, Any]]) -> None:
    """Another revision is compiled anew, and both are kept."""
    validators = ValidatorCache()
    old = await validators.get(_SCHEMA)
    new = await validators.get(replace(_SCHEMA, revision=2, text="{}"))
    assert (len(old.violations({})), len(new.violations({}))) == (1, 0)
    assert await validators.get(_SCHEMA) is old
    assert len(compiled) == 2


async def test_bounded_by_bytes(compiled: list[Mapping[str, Any]]) -> None:
    """The least recently used goes when the bytes are full."""
    one = compile_schema({"required": ["name"]}, "2020-12").size
    validators = ValidatorCache(one * 2)
    a, b, c = (replace(_SCHEMA, schema_id=name) for name in "abc")
    await validators.get(a)
    await validators.get(b)
    await validators.get(a)
    await validators.get(c)
    assert validators.size == one * 2
    compiled.clear()
    await validators.get(a)
    await validators.get(c)
    assert compiled == []
    await validators.get(b)
    assert len(compiled) == 1


async def test_too_large_to_keep(compiled: list[Mapping[str, Any]]) -> None:
    """A validator larger than the whole cache works, and isn't kept."""
    validators = ValidatorCache(1)
    assert (await validators.get(_SCHEMA)).violations({"name": "a"}) == []
    await validators.get(_SCHEMA)
    assert (len(compiled), validators.size) == (2, 0)


async def test_failure_is_not_kept(compiled: list[Mapping[str, Any]]) -> None:
    """What fails to compile fails again, and leaves nothing behind."""
    validators = ValidatorCache()
    broken = replace(_SCHEMA, text='{"type": "wrong"}')
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            await validators.get(broken)
    assert (len(compiled), validators.size) == (2, 0)


def test_compile_keeps_nothing() -> None:
    """A document can be compiled without being kept."""
    validators = ValidatorCache()
    assert validators.compile({"type": "object"}, "draft-07").violations([])[0].reason == "type"
    assert validators.size == 0
