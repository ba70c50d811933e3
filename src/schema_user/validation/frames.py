"""What a server and its validation workers say to each other: MessagePack behind four bytes of length.

The server sends one request and reads replies up to the one that is ``last``. A worker that is asked to ``Validate``
under a key that it doesn't know says ``Need``, and is sent the ``Text``.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from schema_user.domain.comparison import Comparison
from schema_user.errors import Violation

HEADER: Final = struct.Struct("!I")
MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes of one frame; what is larger is no frame. The largest are documents of a few megabytes."""


class Validate(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Validate a document (JSON) under the schema of a key."""

    key: str
    dialect: str
    data: bytes


class ValidateMany(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Validate documents (JSON) under the schema of a key: as many of the first ones as there is time for."""

    key: str
    dialect: str
    documents: list[bytes]


class Text(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The schema (JSON) that was needed."""

    text: str


class Check(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Put an uploaded schema (JSON) through the gate, and perhaps a document through the schema."""

    document: bytes
    data: bytes | None
    max_bytes: int


class Study(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Find out what a schema costs to compile, and whether what it costs to validate has a bound."""

    dialect: str
    text: str


class Compare(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Compare two schemas (JSON) that have passed the gate."""

    old: str
    old_dialect: str
    new: str
    new_dialect: str


class Transform(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Apply an expression to a document (JSON)."""

    expression: str
    data: bytes


class Ready(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The worker has started."""

    last: bool = True


class Need(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The worker doesn't know the schema of the key."""

    last: bool = False


class Verdict(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Whether the document is valid: said before anything is listed, which may take too long."""

    valid: bool
    last: bool


class Listed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What is wrong with the document."""

    violations: list[Violation]
    last: bool = True


class ListedMany(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What is wrong with each of the first documents: one at least, perhaps not all that were asked about."""

    violations: list[list[Violation]]
    last: bool = True


class Gated(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What the gate found."""

    violations: list[Violation]
    warnings: list[Violation]
    dialect: str
    last: bool


class Studied(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What compiling took, and the fields of the bound, if there is one; importing its class takes long."""

    compile_seconds: float
    bound: tuple[float, int, float] | None
    last: bool = True


class Compared(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """How two schemas differ: said once they are walked, and again, if that left a doubt, after a proof was sought."""

    comparison: Comparison
    last: bool


class Transformed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What an expression made of a document (JSON), or why it did not; ``always``: no document would do."""

    data: bytes
    error: str = ""
    always: bool = False
    last: bool = True


class Failed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Something that should not happen did; the type of the exception says all that can be told."""

    error: str
    last: bool = True


Request = Validate | ValidateMany | Text | Check | Study | Compare | Transform
Reply = Ready | Need | Verdict | Listed | ListedMany | Gated | Studied | Compared | Transformed | Failed

_encoder: Final = msgspec.msgpack.Encoder()
read_request: Final = msgspec.msgpack.Decoder(Request).decode
read_reply: Final = msgspec.msgpack.Decoder(Reply).decode


def framed(message: Request | Reply) -> bytes:
    """Write a frame."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body
