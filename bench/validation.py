"""What validation costs with each library, and on the two ways that the service takes.

    .venv/bin/python -m bench.validation
    .venv/bin/python -m bench.validation --seconds 0.3 --rounds 5 --json -

Every library gets the same draft-07 schemas and the same documents, as Python objects. ``fastjsonschema`` and
``jsonschema`` are used as their own documentation does, so what they do about hostile patterns is no part of this;
``jsonschema-rs`` is its bare validator, ``here`` what the service's process does where a bound is proved (the document
to JSON for its size, the bound, ``is_valid``), and ``bound`` what the bound promises. Valid documents are
told valid, invalid ones, which have one error at their end, have all their errors listed, but ``here``, which only
tells. Each round measures every side once; the figures are medians over the rounds, in microseconds.

Before that, ``--schemas`` different schemas are compiled and kept, and each is asked once in random order: what they
hold is what the process grows by.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import fastjsonschema
import jsonschema
import jsonschema_rs
import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench.measure import circumstances
from bench.report import write_json
from schema_user.validation.bound import bound, ordered
from schema_user.validation.dialect import Dialect
from schema_user.validation.rust import compile_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIALECT: Final = Dialect.DRAFT_7
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_CODE: Final = {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"}
_TARGET_SECONDS: Final = 0.002
"""At least so long runs what is timed at once, since one call takes less than it takes to look at the clock."""


@dataclass(frozen=True, slots=True)
class Case:
    """A schema, a document that is valid by it, and one with an error at its end."""

    name: str
    schema: dict[str, Any]
    valid: Any
    invalid: Any

    @property
    def size(self) -> int:
        """Bytes of the valid document as JSON."""
        return len(msgspec.json.encode(self.valid))


@dataclass(frozen=True, slots=True)
class Library:
    """A library: how it compiles, tells, and lists."""

    name: str
    compile: Callable[[dict[str, Any]], Any]
    tell: Callable[[Any, Any], bool]
    list_all: Callable[[Any, Any], object]


@dataclass(frozen=True, slots=True)
class Figure:
    """One time: microseconds, the median of the rounds."""

    case: str
    what: str
    library: str
    microseconds: float


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _broken(document: dict[str, Any], *path: str | int) -> Any:
    """Copy a document with a number in the place of a text."""
    made = msgspec.json.decode(msgspec.json.encode(document))  # a copy of Python's would share what is shared here
    here = made
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = 5
    return made


def flat() -> Case:
    """Ten fields, some 300 bytes."""
    names = [f"field{number}" for number in range(8)]
    schema = _object({**dict.fromkeys(names, _TEXT), "age": {"type": "integer", "minimum": 0}, "code": _CODE})
    document = {**{name: f"a text of some bytes, {name[-1]}" for name in names}, "age": 42, "code": "CH1234"}
    return Case("flat", schema, document, _broken(document, "code"))


def nested() -> Case:
    """Orders with lines and addresses, three levels deep, some 2.8 KB."""
    line = _object({"code": _CODE, "name": _TEXT, "count": {"type": "integer", "minimum": 1, "maximum": 999}})
    order = _object({"id": _CODE, "to": {"$ref": "#/definitions/address"}, "lines": {"type": "array", "items": line}})
    address = _object({"street": _TEXT, "city": _TEXT, "country": {"enum": ["CH", "DE", "FR"]}})
    schema = {**_object({"orders": {"type": "array", "items": order}}), "definitions": {"address": address}}
    lines = [{"code": "AB1234", "name": f"A thing of some kind, {number}", "count": number + 1} for number in range(5)]
    to = {"street": "Long Street 12", "city": "Winterthur", "country": "CH"}
    document = {"orders": [{"id": f"OR{1000 + number}", "to": to, "lines": lines} for number in range(7)]}
    return Case("nested", schema, document, _broken(document, "orders", 6, "lines", 4, "code"))


def wide() -> Case:
    """Two hundred fields, some 5 KB."""
    names = [f"field{number:03}" for number in range(200)]
    document = {name: f"a text {name[-3:]}" for name in names}
    return Case("wide", _object(dict.fromkeys(names, _TEXT)), document, _broken(document, names[-1]))


def large() -> Case:
    """The nested one with many more orders, 100 KB."""
    small = nested()
    document = {"orders": list(itertools.islice(itertools.cycle(small.valid["orders"]), 255))}
    return Case("large", small.schema, document, _broken(document, "orders", 254, "lines", 4, "code"))


CASES: Final = (flat, nested, wide, large)


def _fast_compile(schema: dict[str, Any]) -> Any:
    return fastjsonschema.compile(copy.deepcopy(schema), use_default=False)  # it writes into what it gets


def _checked_compile(schema: dict[str, Any]) -> Any:
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def _fast_is_valid(compiled: Any, document: Any) -> bool:
    try:
        compiled(document)
    except fastjsonschema.JsonSchemaException:
        return False
    return True


def _here(compiled: Any, document: Any) -> bool:
    validator, limit = compiled
    encoded = msgspec.json.encode(document)
    within = limit.fixed_ns + limit.ns_per_byte * len(encoded) > 0  # whatever it is: this measures the way
    return bool(within and validator.is_valid(document))


def _compile_here(schema: dict[str, Any]) -> Any:
    made = ordered(schema, DIALECT)
    return compile_schema(made, DIALECT, quick=True), bound(made, DIALECT)


LIBRARIES: Final = (
    Library(
        "fastjsonschema",
        _fast_compile,
        _fast_is_valid,
        _fast_is_valid,  # it stops at the first error
    ),
    Library(
        "jsonschema",
        _checked_compile,
        lambda compiled, document: bool(compiled.is_valid(document)),
        lambda compiled, document: list(compiled.iter_errors(document)),
    ),
    Library(
        "jsonschema-rs",
        jsonschema_rs.Draft7Validator,
        lambda compiled, document: bool(compiled.is_valid(document)),
        lambda compiled, document: list(compiled.iter_errors(document)),
    ),
    Library("here", _compile_here, _here, _here),
)
BASE: Final = "jsonschema-rs"


def per_call(call: Callable[[], object], seconds: float) -> float:
    """Time a call, over and over for some seconds; give the median in microseconds."""
    begun = time.perf_counter()
    call()
    times = max(1, int(_TARGET_SECONDS / max(time.perf_counter() - begun, 1e-7)))
    figures: list[float] = []
    end = time.perf_counter() + seconds
    while not figures or time.perf_counter() < end:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        figures.append((time.perf_counter() - begun) / times * 1e6)
    return statistics.median(figures)


def measure(cases: Sequence[Case], rounds: int, seconds: float) -> list[Figure]:
    """Measure every library with every case, round by round, in turns that go backwards every second round."""
    plan: list[tuple[str, str, str, Callable[[], object]]] = []
    for case, library in itertools.product(cases, LIBRARIES):
        compiled = library.compile(case.schema)
        assert library.tell(compiled, case.valid)
        assert not library.tell(compiled, case.invalid)
        calls: dict[str, Callable[[], object]] = {
            "valid": partial(library.tell, compiled, case.valid),
            "invalid": partial(library.list_all, compiled, case.invalid),
            "compile": partial(library.compile, case.schema),
        }
        plan += [(case.name, what, library.name, call) for what, call in calls.items()]
    found: dict[tuple[str, str, str], list[float]] = {}
    for index in range(rounds):
        for case_name, what, name, call in plan[:: -1 if index % 2 else 1]:
            found.setdefault((case_name, what, name), []).append(per_call(call, seconds))
    return [Figure(*key, statistics.median(values)) for key, values in found.items()]


def held(count: int) -> dict[str, dict[str, float]]:
    """Compile and keep many schemas that differ; give bytes and microseconds of one, and of a document by any of them.

    ``fastjsonschema`` and ``jsonschema`` take much longer, and get a tenth as many.
    """
    case, process = flat(), psutil.Process()
    figures: dict[str, dict[str, float]] = {}
    everything = []  # no memory comes back, for the next library would use it again
    for library in reversed(LIBRARIES):
        number = count if library.name in {"here", BASE} else max(count // 10, 1)
        made = [{**case.schema, "title": f"{library.name} {index}"} for index in range(number)]
        before, begun = process.memory_info().rss, time.perf_counter()
        kept = [library.compile(each) for each in made]
        compiled = time.perf_counter()
        grown = process.memory_info().rss - before
        random.shuffle(kept)
        asked = time.perf_counter()
        assert all(library.tell(each, case.valid) for each in kept)
        figures[library.name] = {
            "schemas": number,
            "held_bytes": grown / number,
            "compile_us": (compiled - begun) / number * 1e6,
            "valid_us": (time.perf_counter() - asked) / number * 1e6,
        }
        everything.append(kept)
    return figures


def bounds(cases: Sequence[Case]) -> dict[str, float | None]:
    """Give what the bound promises for each valid document, in microseconds."""
    promised: dict[str, float | None] = {}
    for case in cases:
        limit = bound(ordered(case.schema, DIALECT), DIALECT)
        promised[case.name] = None if limit is None else (limit.fixed_ns + limit.ns_per_byte * case.size) / 1000
    return promised


def figures_table(cases: Sequence[Case], figures: Sequence[Figure], promised: dict[str, float | None]) -> Table:
    """Draw the times, with the ratio of each to the bare engine's."""
    by_key = {(each.case, each.what, each.library): each.microseconds for each in figures}
    drawn = Table(title=f"Microseconds of one call (times that of {BASE})")
    for name in ("document", "bytes", "what", *(library.name for library in LIBRARIES), "bound"):
        drawn.add_column(name, justify="left" if name in {"document", "what"} else "right")
    for case in cases:
        for what in ("valid", "invalid", "compile"):
            base = by_key[case.name, what, BASE]
            cells = []
            for library in LIBRARIES:
                value = by_key[case.name, what, library.name]
                cells.append(f"{value:,.1f} ({value / base:,.1f})")
            limit = promised[case.name]
            shown = f"{limit:,.0f}" if limit is not None and what == "valid" else ""
            drawn.add_row(case.name, f"{case.size:,}", what, *cells, shown)
        drawn.add_section()
    return drawn


def held_table(figures: dict[str, dict[str, float]]) -> Table:
    """Draw what many schemas hold."""
    drawn = Table(title="Many schemas that are compiled and kept")
    for name in ("library", "schemas", "KiB of one", "compile, µs", "valid, any of them, µs", "MiB of 10,000"):
        drawn.add_column(name, justify="left" if name == "library" else "right")
    for name, found in figures.items():
        size = found["held_bytes"]
        drawn.add_row(
            name,
            f"{found['schemas']:,.0f}",
            f"{size / 1024:,.1f}",
            f"{found['compile_us']:,.0f}",
            f"{found['valid_us']:,.1f}",
            f"{size * 10_000 / 1024**2:,.0f}",
        )
    return drawn


def as_json(
    cases: Sequence[Case],
    figures: Sequence[Figure],
    promised: dict[str, float | None],
    kept: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """Give everything as JSON: microseconds, and bytes."""
    by_key = {(each.case, each.what): each.microseconds for each in figures if each.library == BASE}
    rows = [
        {
            "case": each.case,
            "what": each.what,
            "library": each.library,
            "microseconds": each.microseconds,
            f"times_{BASE}": each.microseconds / by_key[each.case, each.what],
        }
        for each in figures
    ]
    made = {**circumstances("none"), "cases": {case.name: case.size for case in cases}}
    return {**made, "rows": rows, "bound_microseconds": promised, "held": kept}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of one measurement (0.2)")
    parser.add_argument("--schemas", type=int, default=10_000, help="that are kept at once (10000)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too; - is the standard output")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.schemas < 1:
        parser.error("--rounds and --schemas must be 1 or more")
    console = Console(stderr=True) if options.json == "-" else Console(width=None if sys.stdout.isatty() else 160)
    cases = [make() for make in CASES]
    promised = bounds(cases)
    kept = held(options.schemas)  # first, while the process has no memory to use again
    figures = measure(cases, options.rounds, options.seconds)
    console.print(figures_table(cases, figures, promised))
    console.print(held_table(kept))
    if options.json:
        write_json(as_json(cases, figures, promised, kept), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
