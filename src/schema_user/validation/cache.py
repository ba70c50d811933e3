"""Compiled validators of the schemas that are in use, bounded by bytes."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from schema_user.validation.rust import RustValidator, compile_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_user.domain.schema import UserSchema


class ValidatorCache:
    """Keeps validators by schema and revision, the least recently used go first.

    A revision never changes, so nothing here is ever stale. ``limit`` is in bytes, as the validators estimate
    themselves; one that is larger than the limit is used and not kept.
    """

    def __init__(self, limit: int = 256 * 1024 * 1024) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, int], RustValidator] = OrderedDict()
        self.size = 0

    async def get(self, schema: UserSchema) -> RustValidator:
        """Give the validator of a schema's revision.

        Nothing is awaited between looking and keeping, so those who ask at the same moment compile once.
        """
        key = (schema.schema_id, schema.revision)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        made = self.compile(json.loads(schema.text), schema.dialect)
        self._held[key] = made
        self.size += made.size
        while self.size > self._limit:
            _, gone = self._held.popitem(last=False)
            self.size -= gone.size
        return made

    def compile(self, document: Mapping[str, Any], dialect: str) -> RustValidator:
        """Compile a document that has passed the gate, without keeping it."""
        return compile_schema(document, dialect)
