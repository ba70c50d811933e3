"""JSON Resume: its schema, its sample person, and what the schema forbids.

Both come from the npm package of the project at run time. npm fetches it by name; what counts is the digest below.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PACKAGE = "@jsonresume/schema@1.3.1"
_SHA512 = "S9zH1vmS67b1Ld6p9A+sHiZgqZox4lWTVHtca3VarRVkRtp3C/EMQ2bSNlO39+o+0OZbrY+Srnn7Q8uJOtxZhQ=="
_TIMEOUT = 120
"""Seconds for npm, which retries by itself."""

Place = tuple[str | int, ...]


class ResumeError(Exception):
    """The package could not be had; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The schema, and its sample without the key ``$schema``: no key of a user's data may begin so."""

    schema: dict[str, Any]
    sample: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Damage:
    """Changes that make a resume invalid, and the violations that name them: pairs of pointer and reason, sorted."""

    name: str
    changes: tuple[tuple[Place, Any], ...]
    expected: tuple[tuple[str, str], ...]

    def done_to(self, resume: dict[str, Any]) -> dict[str, Any]:
        """Give a copy with the damage in it."""
        damaged = copy.deepcopy(resume)
        for (*way, last), value in self.changes:
            place: Any = damaged
            for step in way:
                place = place[step]
            place[last] = value
        return damaged


def _damage(name: str, *changes: tuple[Place, Any, str]) -> Damage:
    expected = sorted(("/".join(["data", *map(str, path)]), reason) for path, _, reason in changes)
    return Damage(name, tuple((path, value) for path, value, _ in changes), tuple(expected))


# The schema knows types, two formats and one pattern. It requires no property, forbids none, and lists no values.
DAMAGES = (
    _damage("a number for a text", (("basics", "name"), 42, "type")),
    _damage("null for a text", (("basics", "phone"), None, "type")),
    _damage("a text for an object", (("basics", "location"), "San Francisco", "type")),
    _damage("an object for a list", (("skills",), {"name": "Compression"}, "type")),
    _damage("a wrong item, deep inside", (("skills", 1, "keywords", 2), 7, "type")),
    _damage("no email address", (("basics", "email"), "richard at hooli", "format")),
    _damage("no URI", (("work", 0, "url"), "not a URI", "format")),
    _damage("no date", (("work", 0, "startDate"), "December 2013", "pattern")),
    _damage(
        "four at once",
        (("basics", "email"), "@", "format"),
        (("education", 0, "courses", 1), False, "type"),
        (("meta",), [], "type"),
        (("volunteer", 0, "endDate"), "2013-99-01", "pattern"),
    ),
)


def fetch() -> Resume:
    """Fetch the package through npm and check it.

    Raises:
        ResumeError: if npm is missing or fails, or if what it brings is something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        content = _packed(Path(folder))
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != _SHA512:
        raise ResumeError(f"What npm brought as {_PACKAGE} is not what was published: its SHA-512 differs.")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        schema, sample = (_member(archive, name) for name in ("schema.json", "sample.resume.json"))
    del sample["$schema"]
    return Resume(schema, sample)


def _packed(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise ResumeError(f"npm is missing: install Node.js, which brings it, to fetch {_PACKAGE}.")
    command = [npm, "pack", _PACKAGE, "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise ResumeError(f"npm did not fetch {_PACKAGE} in {_TIMEOUT} seconds.") from None
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or "nothing").splitlines()[0]
        raise ResumeError(f"npm could not fetch {_PACKAGE}: {said}")
    return found[0].read_bytes()


def _member(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = archive.extractfile(f"package/{name}")
    document: dict[str, Any] = json.load(file) if file else {}
    return document
