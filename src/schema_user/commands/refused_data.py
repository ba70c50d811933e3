"""Refusals of a user's data: what they tell of the data that is stored, beside what is wrong with what was sent."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from schema_user.errors import Unmet
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.commands.fields import PermittedDocument
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.errors import Conflict, Violation
    from schema_user.wiring import Wiring

_MOST_NAMED: Final = 10


def of_moved(user: User, fault: Conflict | Unmet, *, own_data: bool) -> Conflict | Unmet:
    """Give the refusal of another schema for a user, with what became of the stored data: nothing.

    ``own_data``: the stored data should have gone along, as none was sent.
    """
    kept = "nothing was changed: the user keeps its schema and its data"
    if fault.reason == "DATA_INVALID" and own_data:
        kept += ", which does not match the other schema; send data that does, and it replaces what is stored"
    elif fault.reason == "DATA_INVALID":
        kept += ", which the data that was sent would have replaced"
    moved_from = {"fromSchemaId": user.schema_id, "fromRevision": str(user.revision), "storedData": "kept"}
    words = f"{fault.message}; {kept}"
    return type(fault)(fault.reason, words, fault.violations, metadata={**fault.metadata, **moved_from})


async def of_outdated(wiring: Wiring, user: User, fault: Unmet, document: PermittedDocument) -> Unmet:
    """Give the refusal of a user's data, with the revision that the user is at and what its stored data fails too.

    Whoever sends a part, or an old shape, learns from it that the rest has to be brought to the revision as well. Only
    a refusal pays for this: the stored data is validated once more.
    """
    schema = await wiring.schemas.head(user.schema_id)
    if fault.reason != "DATA_INVALID" or schema is None or user.revision >= schema.revision:
        return fault
    places = await _failing(wiring, user, schema, fault.violations, document)
    words = f"{fault.message}; the user is at revision {user.revision}"
    metadata = {**fault.metadata, "userRevision": str(user.revision)}
    if places:
        named = ", ".join(places[:_MOST_NAMED])
        more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        words += f", and its stored data fails revision {schema.revision} too, at {named}{more}"
        metadata["storedFails"] = ",".join(places[:_MOST_NAMED])
    return Unmet(fault.reason, words, fault.violations, metadata=metadata)


async def _failing(
    wiring: Wiring, user: User, schema: UserSchema, violations: Sequence[Violation], document: PermittedDocument
) -> list[str]:
    """List the places of these violations that the stored data has too, as far as the caller may know of them."""
    found = await wiring.violations(schema, user.data)
    stored = dataclasses.replace(document, data=user.data)
    if stored.accesses:
        found = await aside(lambda: stored.reported(found), user.data)
    both = {(each.field, each.reason) for each in found}
    return sorted({each.field for each in violations if (each.field, each.reason) in both})
