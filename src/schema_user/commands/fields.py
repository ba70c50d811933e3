"""What of a user's data a caller may write: asked before the data is validated, of what would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from schema_user.domain.field_access import reveals
from schema_user.errors import Denied, Malformed, Violation
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.caller import Caller
    from schema_user.domain.field_access import FieldAccess
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring


@dataclass(frozen=True, slots=True)
class PermittedDocument:
    """What a user's data shall become, and by which schema it is to be validated.

    ``accesses`` say what the caller may learn of what is wrong with it; none: everything. ``blind``: it wrote where
    it may not read, so that the change counts as one whatever was there.
    """

    schema_id: str
    data: dict[str, Any]
    accesses: tuple[FieldAccess, ...] = ()
    blind: bool = False

    def reported(self, violations: Sequence[Violation]) -> Sequence[Violation]:
        """Give what the caller may learn of what is wrong with the data."""
        for access in self.accesses:
            violations = access.readable(self.data, violations)
        return violations


async def seen_data(wiring: Wiring, caller: Caller, user: User) -> dict[str, Any]:
    """Give a user's data as the caller sees it: what it may change and send back to ``permit_document()``."""
    schema = await wiring.schemas.head(user.schema_id)
    access = None if schema is None else await wiring.field_access(caller, user.user_id, schema)
    return user.data if access is None else await aside(lambda: access.visible(user.data), user.data)


async def permit_document(
    wiring: Wiring, caller: Caller, user: User, schema_id: str | None, data: dict[str, Any] | None
) -> PermittedDocument:
    """Put what the caller may not see back into the data that it sent for a user (None: the stored data stays).

    With another ``schema_id`` a place needs the permission of both schemas, and what was hidden stays hidden. A schema
    that is not known in the user's organization is left for ``usable_schema()`` to refuse.

    Raises:
        Denied: ``FIELD_PERMISSION``, with every place that the caller would change and must not.
        Malformed: if the data would be larger than a body may be, for what is hidden in it.
    """
    schema = await wiring.schemas.head(user.schema_id)
    access = None if schema is None else await wiring.field_access(caller, user.user_id, schema)
    following = access
    moves = schema_id is not None and schema_id != user.schema_id
    if moves:
        other = await wiring.schemas.head(schema_id or "")
        moves = other is not None and other.serves(user.organization_id)
        following = await wiring.field_access(caller, user.user_id, other) if other is not None and moves else access

    def permitted() -> PermittedDocument:
        document, blind = user.data if data is None else data, False
        if access is not None and data is not None:
            judged = access.judged(user.data, data)
            _refuse(judged.denied)
            document, blind = access.merged(user.data, data), judged.blind
            _require_size(document, user.data, wiring.settings.body_max_bytes)
        if moves:
            _require_movable(user.data, document, data or {}, access, following)
        accesses = dict.fromkeys(each for each in (access, following) if each is not None)
        return PermittedDocument(schema_id or user.schema_id, document, tuple(accesses), blind)

    if access is None and following is None:
        return PermittedDocument(schema_id or user.schema_id, user.data if data is None else data)
    return await aside(permitted, user.data, data)


def _require_movable(
    stored: dict[str, Any],
    document: dict[str, Any],
    sent: dict[str, Any],
    access: FieldAccess | None,
    following: FieldAccess | None,
) -> None:
    """Raise Denied if another schema keeps the caller from a change, or would show it what it could not read."""
    if following is not None:
        _refuse(following.denied_between(stored, document))
    if access is not None:
        shown = document if following is None else following.visible(document)
        if reveals(shown, access.visible(stored), sent):
            text = "would make readable what the caller may not read"
            raise _denied([Violation("schemaId", text, "permission")])


async def permit_new_document(
    wiring: Wiring, caller: Caller, user_id: str, schema: UserSchema, document: PermittedDocument
) -> PermittedDocument:
    """As ``permit_document()``, for a user that does not exist yet.

    Raises:
        Denied: as there.
    """
    access = await wiring.field_access(caller, user_id, schema)
    if access is None:
        return document
    _refuse(await aside(lambda: access.denied({}, document.data), document.data))
    return PermittedDocument(document.schema_id, document.data, (access,))


def _require_size(changed: dict[str, Any], stored: dict[str, Any], limit: int) -> None:
    """What is sent is bounded by the body, but what is hidden comes on top, and may be written blindly."""
    size = len(msgspec.json.encode(changed))
    if size > limit and size > len(msgspec.json.encode(stored)):
        text = f"would make the user's data larger than {limit} bytes"
        raise Malformed("FIELD_INVALID", f"data {text}", [Violation("data", text, "size")])


def _refuse(pointers: Sequence[str]) -> None:
    if pointers:
        raise _denied([Violation(each, "may not be changed by the caller", "permission") for each in pointers])


def _denied(violations: list[Violation]) -> Denied:
    first = violations[0]
    return Denied("FIELD_PERMISSION", f"{first.field} {first.description}", violations)
