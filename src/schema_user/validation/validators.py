"""Who validates: this process where what it costs is known and little, a worker that can be stopped everywhere else.

A schema is used in this process only after a worker has compiled it quickly and found a bound for it (``bound.py``);
the first uses of a revision go to a worker. Here runs ``is_valid`` alone: errors are always listed by a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.domain.comparison import Comparison, Difference, Verdict
from schema_user.errors import Malformed, Unavailable, Unmet, Violation
from schema_user.slices import Slice
from schema_user.validation.bound import MAX_LEVELS, Bound, ordered
from schema_user.validation.breaker import Crowded
from schema_user.validation.cache import ValidatorCache
from schema_user.validation.dialect import Dialect
from schema_user.validation.frames import Compare, Transform
from schema_user.validation.patterns import Refused
from schema_user.validation.pool import Stopped, WorkerFault
from schema_user.validation.rust import compile_schema
from schema_user.validation.violations import unencodable
from schema_user.validation.worker import UPLOAD_BYTES, UPLOAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schema_user.domain.schema import UserSchema
    from schema_user.validation.engine import Compiled
    from schema_user.validation.pool import Outcome, Pool

log = logging.getLogger(__name__)

MAX_SECONDS: Final = 0.005
"""What validating one document, or compiling one schema, may take in this process."""

WINDOW: Final = 0.05
MAX_SHARE: Final = 0.02
"""So many seconds in each window of so many may go to validation in this process."""

MAX_CHAIN: Final = 512
"""Schemas on the stack at once: depth of the document times those in place at each level."""

_KNOWN_BYTES: Final = 1_000
_BUDGET: Final = Violation("data", "takes more time or memory to validate than is allowed", "budget")


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate, and validation under an uploaded schema, found; ``dialect`` is empty if it is not known."""

    violations: Sequence[Violation]
    warnings: Sequence[Violation]
    dialect: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a revision: how to validate it here, or, without ``compiled``, that it isn't."""

    compiled: Compiled | None = None
    bound: Bound | None = None

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return _KNOWN_BYTES + (self.compiled.size if self.compiled else 0)


class Allowance:
    """How much time of this process validation may still take in the present window.

    A call is let in by its bound and charged with what it took, so that bounds that are far from the truth keep nobody
    out; the window is never overdrawn, since no call takes longer than its bound.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = 0.0
        self._spent = 0.0

    def admits(self, seconds: float) -> bool:
        """Tell whether a call of at most so many seconds has room."""
        now = self._clock()
        if now - self._began >= WINDOW:
            self._began, self._spent = now, 0.0
        return self._spent + seconds <= MAX_SHARE

    def charge(self, seconds: float) -> None:
        """Note what a call took."""
        self._spent += seconds


class Validators:
    """Validates documents under stored schemas, and checks uploaded ones."""

    def __init__(self, pool: Pool, *, cache_bytes: int, max_schema_bytes: int) -> None:
        self._pool = pool
        self._known: ValidatorCache[Known] = ValidatorCache(cache_bytes)
        self._max_schema_bytes = max_schema_bytes
        self._allowance = Allowance()
        self._studies: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def violations(self, schema: UserSchema, data: Any) -> Sequence[Violation]:
        """List what is wrong with a document under a schema; their fields begin with ``data``.

        Raises:
            Unmet: ``VALIDATION_BUDGET``, if it took too long or too much memory to tell.
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        try:
            encoded = msgspec.json.encode(data)
        except UnicodeEncodeError:
            return unencodable(data, "data")
        known = self._known.get((schema.schema_id, schema.revision))
        if known is not None and self._is_valid_here(known, data, len(encoded)):
            return ()
        payers = _payers(schema)
        with _faults(schema):
            outcome = await self._pool.violations(_key(schema), schema.text, schema.dialect, encoded, payers)
        if known is None:
            self._study(schema)
        return _listed(outcome)

    def passes(self, schema: UserSchema, data: Any) -> bool:
        """Tell whether a document is valid, if that can be told here and now; no says nothing."""
        known = self._known.get((schema.schema_id, schema.revision))
        try:
            return known is not None and self._is_valid_here(known, data, len(msgspec.json.encode(data)))
        except UnicodeEncodeError:
            return False

    async def violations_of_many(self, schema: UserSchema, documents: Sequence[Any]) -> list[Sequence[Violation]]:
        """List what is wrong with each of many documents, for work in the background; their fields begin with ``data``.

        It is no part of what requests may take of this process, so whoever calls it rests in between. A document that
        takes too long or too much memory has that as its violation.

        Raises:
            Unmet: ``SCHEMA_UNSUPPORTED``, if the validator that is set does not take the schema.
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        known = self._known.get((schema.schema_id, schema.revision))
        found: list[Sequence[Violation]] = [()] * len(documents)
        left: list[tuple[int, bytes]] = []
        turn = Slice()
        for at, data in enumerate(documents):
            await turn.rest()
            try:
                encoded = msgspec.json.encode(data)
            except UnicodeEncodeError:
                found[at] = unencodable(data, "data")
                continue
            if known is None or not _is_valid_in(known, data, len(encoded)):
                left.append((at, encoded))
        while left:
            judged = await self._first_of_many(schema, [encoded for _, encoded in left])
            for (at, _), violations in zip(left, judged, strict=False):
                found[at] = violations
            left = left[len(judged) :]
        if known is None:
            self._study(schema)
        return found

    async def _first_of_many(self, schema: UserSchema, documents: list[bytes]) -> Sequence[Sequence[Violation]]:
        """Judge as many as a worker has time for; one by one, if one of them is too much."""
        key, payers = _key(schema), _payers(schema)
        with _faults(schema):
            try:
                return await self._pool.violations_of_many(key, schema.text, schema.dialect, documents, payers)
            except Stopped:
                judged: list[Sequence[Violation]] = []
                for document in documents:
                    try:
                        outcome = await self._pool.violations(key, schema.text, schema.dialect, document, payers)
                        judged.append(_listed(outcome))
                    except Stopped:
                        judged.append([_BUDGET])
                return judged

    def _is_valid_here(self, known: Known, data: Any, size: int) -> bool:
        """Tell whether a document is valid; no, if it isn't or can't be told here."""
        if known.bound is None or not self._allowance.admits(known.bound.seconds(size)):
            return False
        began = time.perf_counter()
        valid = _is_valid_in(known, data, size)
        self._allowance.charge(time.perf_counter() - began)
        return valid

    def _study(self, schema: UserSchema) -> None:
        """Find out whether a schema can be used in this process, once, and only while a worker is idle."""
        key = (schema.schema_id, schema.revision)
        if self._pool.engine != "rust" or key in self._studies or self._pool.is_busy:
            return
        task = self._studies[key] = asyncio.create_task(self._learn(schema))
        task.add_done_callback(lambda _: self._studies.pop(key, None))

    async def _learn(self, schema: UserSchema) -> None:
        key = (schema.schema_id, schema.revision)
        known = Known()
        try:
            studied = await self._pool.study(schema.text, schema.dialect, _payers(schema))
        except Crowded:
            return
        except (Stopped, WorkerFault):
            log.info("a schema is too costly to be studied, and is validated by workers only")
        else:
            if studied.bound is not None and studied.compile_seconds <= MAX_SECONDS:
                document = ordered(msgspec.json.decode(schema.text), Dialect(schema.dialect))
                known = Known(compile_schema(document, schema.dialect, quick=True), Bound(*studied.bound))
        self._known.put(key, known)

    async def check(self, document: object, data: Any = None, payers: Sequence[str] = ()) -> Judged:
        """Put an uploaded JSON Schema through the gate, and a document, unless it is None, through the schema.

        What takes too long or too much memory is a finding too.

        Raises:
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        encoded = msgspec.json.encode(document)
        sample = None if data is None else msgspec.json.encode(data)
        try:
            outcome = await self._pool.check(encoded, sample, self._max_schema_bytes, payers)
        except Crowded:
            raise _queue_full() from None
        except Stopped:
            text = f"takes more than {UPLOAD_SECONDS:g} s or {UPLOAD_BYTES} bytes to check and to compile"
            return Judged([Violation("schema", text, "budget")], (), "")
        found = outcome.gated
        violations: Sequence[Violation] = found.violations
        if outcome.stopped:
            text = f"takes more than {UPLOAD_SECONDS:g} s or {UPLOAD_BYTES} bytes to validate"
            violations = [Violation("data", text, "budget")]
        elif outcome.validated is not None:
            violations = _listed(outcome.validated)
        return Judged(violations, found.warnings, found.dialect)

    async def transform(self, expression: str, data: dict[str, Any], payers: Sequence[str] = ()) -> Any:
        """Give what an expression (JMESPath) makes of a document.

        Raises:
            Malformed: ``EXPRESSION_INVALID``, if it is none, or one that would fit no document.
            Unmet: ``EXPRESSION_UNFIT`` if it does not fit this one, ``VALIDATION_BUDGET`` if it takes too long.
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        try:
            made = await self._pool.transform(Transform(expression, msgspec.json.encode(data)), payers)
        except Crowded:
            raise _queue_full() from None
        except Stopped:
            violation = Violation("expression", "takes more time or memory than is allowed", "budget")
            raise Unmet("VALIDATION_BUDGET", f"expression {violation.description}", [violation]) from None
        if made.error:
            text, violations = f"expression {made.error}", [Violation("expression", made.error, "expression")]
            if made.always:
                raise Malformed("EXPRESSION_INVALID", text, violations)
            raise Unmet("EXPRESSION_UNFIT", text, violations)
        return msgspec.json.decode(made.data)

    async def compare(self, old: UserSchema, new: UserSchema) -> Comparison:
        """Tell how a new schema differs from an old one, and whether it takes every document that the old one took.

        What takes too long or too much memory is unknown.

        Raises:
            Unavailable: ``QUEUE_FULL``, if too many validations wait.
        """
        request = Compare(old.text, old.dialect, new.text, new.dialect)
        try:
            return await self._pool.compare(request, _payers(new))
        except Crowded:
            raise _queue_full() from None
        except Stopped:
            words = "the document's schemas take too long, or too much memory, to be compared"
            return Comparison(Verdict.UNKNOWN, (Difference("", "unexplored", words, None),))


def _is_valid_in(known: Known, data: Any, size: int) -> bool:
    """Tell whether a document is valid; no, if it isn't, or could take too long in this process."""
    if known.compiled is None or known.bound is None or known.bound.seconds(size) > MAX_SECONDS:
        return False
    # No request, and so no document, is deeper than MAX_LEVELS; to count what is allowed to be costs too much.
    levels = MAX_CHAIN // max(known.bound.chain, 1)
    if levels < MAX_LEVELS and _depth(data, levels) > levels:
        return False
    return known.compiled.is_valid(data)


def _key(schema: UserSchema) -> str:
    return f"{schema.schema_id}/{schema.revision}"


@contextlib.contextmanager
def _faults(schema: UserSchema) -> Iterator[None]:
    """Say in words of the service what a worker could not do."""
    try:
        yield
    except Crowded:
        raise _queue_full() from None
    except Stopped:
        raise _over_budget(schema) from None
    except WorkerFault as fault:
        if str(fault) != Refused.__name__:
            raise
        raise _unsupported(schema) from None


def _payers(schema: UserSchema) -> tuple[str, ...]:
    """Name who pays for a call under a schema: the schema, and the organization that it belongs to."""
    own = f"schema {schema.schema_id}"
    return (own,) if schema.organization_id is None else (own, f"organization {schema.organization_id}")


def _listed(outcome: Outcome) -> Sequence[Violation]:
    if outcome.listed:
        return outcome.violations
    return [Violation("data", "does not match; to list what is wrong takes too long or too much memory", "truncated")]


def _depth(data: Any, enough: int) -> int:
    """Count the levels of a document, and no more of them than ``enough`` and one."""
    level, depth = [data], 0
    while level and depth <= enough:
        depth += 1
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return depth


def _queue_full() -> Unavailable:
    return Unavailable("QUEUE_FULL", "too many validations wait for a worker", retry_after=1)


def _unsupported(schema: UserSchema) -> Unmet:
    return Unmet(
        "SCHEMA_UNSUPPORTED",
        "the validator that is set does not take this user schema",
        [Violation("schemaId", "is not taken by the validator that is set", "schemaUnsupported")],
        metadata={"schemaId": schema.schema_id, "revision": str(schema.revision)},
    )


def _over_budget(schema: UserSchema) -> Unmet:
    return Unmet(
        "VALIDATION_BUDGET",
        "the data takes more time or memory to validate under this user schema than is allowed",
        [_BUDGET],
        metadata={"schemaId": schema.schema_id, "revision": str(schema.revision)},
    )
