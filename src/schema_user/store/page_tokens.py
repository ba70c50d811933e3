"""Page tokens: where a page ended, sealed for one search of one caller."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from schema_user.domain.keyring import SealError
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from schema_user.domain.keyring import Keyring
    from schema_user.store.connection import Document


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """Where a page ended: the value of the sorted field and the id of the last result.

    ``total`` is what the first page said of how many results there are, if it was an estimate.
    """

    value: str | int | datetime | None
    last_id: str
    kind: str = "text"
    total: int | None = None


class _StoredMark(msgspec.Struct, array_like=True):
    value: str | int | None
    last_id: str
    kind: str
    total: int | None = None


class PageTokens:
    """Makes and reads page tokens; ``context`` names the search, and its token serves no other one."""

    def __init__(self, keyring: Keyring) -> None:
        """Seal with a keyring."""
        self._keyring = keyring

    def seal(self, document: Document, column: str, context: str, total: int | None) -> str:
        """Make the token of a page that ended with a document."""
        value: Any = document
        for name in column.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        kind = "time" if isinstance(value, datetime) else "text"
        return self._keyring.seal(msgspec.json.encode(Mark(value, document["_id"], kind, total)), context).hex()

    def open(self, token: str, context: str) -> Mark:
        """Read a token.

        Raises:
            Malformed: for one that is not one of this search.
        """
        try:
            mark = msgspec.json.decode(self._keyring.open(bytes.fromhex(token), context), type=_StoredMark)
        except (ValueError, SealError) as error:
            message = "is not a page token of this search"
            raise Malformed(
                "PAGE_TOKEN_INVALID", f"pageToken {message}", [Violation("pageToken", message, "pageToken")]
            ) from error
        value = datetime.fromisoformat(str(mark.value)) if mark.kind == "time" else mark.value
        return Mark(value, mark.last_id, mark.kind, mark.total)


def behind(column: str, order: int, mark: Mark) -> Document:
    """Select what comes after a mark; a field that is absent sorts before every value."""
    beyond = "$gt" if order > 0 else "$lt"
    if column == "_id":
        return {"_id": {beyond: mark.last_id}}
    tie = {column: mark.value, "_id": {beyond: mark.last_id}}
    if mark.value is None:
        return {"$or": [tie, {column: {"$ne": None}}]} if order > 0 else tie
    rest: list[Document] = [tie, {column: {beyond: mark.value}}]
    return {"$or": rest if order > 0 else [*rest, {column: None}]}
