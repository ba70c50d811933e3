"""What a validator engine is to the rest: ``rust.py`` and ``python.py`` are two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from schema_user.errors import Violation
    from schema_user.validation.dialect import Dialect


class Compiled(Protocol):
    """A compiled schema."""

    @property
    def size(self) -> int:
        """The bytes that it holds, estimated."""

    def is_valid(self, data: Any) -> bool:
        """Tell whether a document is valid."""

    def violations(self, data: Any, prefix: str = "data") -> list[Violation]:
        """List what is wrong with a document: at most 100 in a settled order, then how many more; empty if valid."""


class Engine(Protocol):
    """A way to compile schemas."""

    @property
    def name(self) -> str:
        """The name that the settings know it by."""

    @property
    def dialects(self) -> frozenset[Dialect]:
        """The dialects that it takes."""

    def refusals(self, document: dict[str, Any], dialect: Dialect) -> list[Violation]:
        """List what it does not take of a document that is right otherwise; fields begin with ``schema``."""

    def compile(self, document: dict[str, Any], dialect: Dialect) -> Compiled:
        """Compile a document that it takes."""
