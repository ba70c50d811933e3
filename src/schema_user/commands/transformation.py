"""What users' data becomes on its way to a revision: checked when it is asked for, then applied user by user."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schema_user.commands.patches import patched
from schema_user.domain.migration import moves, require_storable, with_defaults
from schema_user.domain.patch import Limits, read_json_patch
from schema_user.errors import Malformed, Unmet, Violation
from schema_user.validation.defaults import defaults_of

if TYPE_CHECKING:
    from schema_user.domain.caller import Caller
    from schema_user.domain.migration import Defaults, Transformation
    from schema_user.domain.patch import Patch
    from schema_user.domain.schema import UserSchema
    from schema_user.wiring import Wiring


async def require_transformation(wiring: Wiring, caller: Caller, asked: Transformation) -> None:
    """Raise Malformed for a patch that is none, and for what can be told without a document to be no expression."""
    if asked.patch is not None:
        _require_patch(asked.patch)
    if asked.expression is not None:
        try:
            await wiring.validators.transform(asked.expression, {}, [f"token {caller.token_id}"])
        except Unmet as fault:
            if fault.reason == "VALIDATION_BUDGET":
                raise Malformed("EXPRESSION_INVALID", fault.message, fault.violations) from None


def _require_patch(patch: Any) -> None:
    try:
        read_json_patch(patch)
    except Malformed as fault:
        found = [
            Violation(f"patch/{each.field}".rstrip("/"), each.description, each.reason) for each in fault.violations
        ]
        raise Malformed(fault.reason, fault.message, found) from None


@dataclass(frozen=True, slots=True)
class Transformer:
    """Applies a transformation on the way to one revision of a schema."""

    wiring: Wiring
    asked: Transformation
    payer: str
    patch: Patch | None
    defaults: Defaults
    limits: Limits

    @classmethod
    async def of(cls, wiring: Wiring, asked: Transformation, schema: UserSchema, schema_id: str) -> Transformer:
        """Prepare what is the same for all users; the schema of ``schema_id`` pays for what takes long."""
        defaults: Defaults = ()
        if asked.defaults:
            defaults = await asyncio.to_thread(defaults_of, schema.text, schema.dialect)
        patch = None if asked.patch is None else read_json_patch(asked.patch)
        settings = wiring.settings
        limits = Limits(settings.body_max_bytes, settings.body_max_depth - 1)
        return cls(wiring, asked, f"schema {schema_id}", patch, defaults, limits)

    async def applied(self, data: dict[str, Any]) -> dict[str, Any]:
        """Give what data becomes: the same object if nothing changes it.

        Raises:
            Malformed, Unmet: with what is wrong, if it cannot be applied, or makes what could not be stored.
        """
        asked, before = self.asked, data
        if asked.renames:
            operations = moves(data, asked.renames)
            data = await patched(self.wiring, read_json_patch(operations), data) if operations else data
        if self.patch is not None:
            data = await patched(self.wiring, self.patch, data)
        if asked.expression is not None:
            data = await self.wiring.validators.transform(asked.expression, data, [self.payer])
        if self.defaults:
            data = with_defaults(data, self.defaults)
        if data is not before:
            require_storable(data, self.limits)
        return data
