"""What a new revision of a schema means for the documents that the old one took."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """Whether documents that the old schema takes are taken by the new one.

    ``SAFE`` is a proof: every one of them is. ``BREAKING``: what the schema asks was narrowed somewhere. ``UNKNOWN``:
    it could not be told by looking at the schemas alone; only a dry run over the stored users tells.
    """

    SAFE = "safe"
    BREAKING = "breaking"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two schemas, at one place of the documents that they describe.

    ``pointer`` is a JSON Pointer in the data, where ``*`` stands for every other property or item; empty: the document
    as a whole. ``kind`` is a stable id in camel case. ``breaking``: a value may be refused that was taken before; None
    if that could not be told.
    """

    pointer: str
    kind: str
    description: str
    breaking: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on a new schema, and how it differs from the old one: at most 200 differences."""

    verdict: Verdict
    differences: tuple[Difference, ...] = ()
