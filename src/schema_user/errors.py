"""Every fact that can refuse a request, as one tree; no number of any wire is known here.

    Fault
    ├── Malformed            the request itself is wrong: field, limit, format, code
    ├── Unmet                well-formed, but the stored state forbids it
    ├── Unauthenticated      no token, or one that is not valid
    ├── Denied               the caller lacks a permission
    ├── Missing              the resource is not there for this caller
    ├── Conflict             the value is taken by another resource
    ├── Aborted              a race against another writer was lost
    │   └── StaleSequence    … and the caller had said which sequence it expected
    ├── Exhausted            a limit of attempts or rate is used up
    ├── Unsupported          the method or operation is not offered
    ├── NotAcceptable        no offered media type suits the client
    ├── TooLarge             the body is over the limit
    ├── WrongMediaType       the body's media type is not taken
    └── Unavailable          the database or a queue cannot take it now

``api/status.py`` gives each branch its code; a test walks this tree and fails for a branch without one.
A fault carries a stable ``reason`` (upper snake case), a sentence for people, the violations with their
JSON Pointers, and metadata for programs. None of them ever holds a value out of a user's data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong at one place.

    ``field`` is the JSON Pointer in the request body without its leading slash (``data/name``; empty for
    the body as a whole), ``reason`` the keyword or rule (``required``, ``maxLength``, ``unknownField``), and
    ``description`` the words for people. The description never repeats the value that was found.
    """

    field: str
    description: str
    reason: str


@dataclass(eq=False)
class Fault(Exception):
    """What the service refuses, and why.

    ``retry_after`` is in seconds and says when the same request may succeed.
    """

    reason: str
    message: str
    violations: Sequence[Violation] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        """Say it in one sentence; the reason is for programs."""
        return self.message


class Malformed(Fault):
    """The request itself is wrong."""


class Unmet(Fault):
    """The request is well-formed, but what is stored forbids it."""


class Unauthenticated(Fault):
    """No token, or one that is not valid."""


class Denied(Fault):
    """The caller lacks the permission."""


class Missing(Fault):
    """The resource named in the path is not there for this caller."""


class Conflict(Fault):
    """An id, a type or a username is taken."""


class Aborted(Fault):
    """The write lost the race against others, after the retries."""


class StaleSequence(Aborted):
    """The resource moved on from the sequence that the caller expects."""


class Exhausted(Fault):
    """Attempts or a rate are used up."""


class Unsupported(Fault):
    """The method or the operation is not offered."""


class NotAcceptable(Fault):
    """The client takes no media type that is offered."""


class TooLarge(Fault):
    """The body is over the limit."""


class WrongMediaType(Fault):
    """The body's media type is not taken."""


class Unavailable(Fault):
    """The database or a queue cannot take it now."""
