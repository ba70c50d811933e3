"""What was promised, and what was seen to break it."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.resume import Damage
    from bench.wire import Answer

_SHOWN = 3
"""Breaches of one promise that are kept; the others are only counted."""


class Promise(enum.StrEnum):
    """What the demo holds the service to."""

    APPLIED = "every valid update is answered 200, after retries of a 409 if it must be"
    REFUSED = "every invalid update is answered 400, code 9, with exactly its pointers and reasons"
    COUNTED = "none is lost: the last sequence is 1 + the updates answered 200"
    UNIQUE = "no sequence is answered twice"
    ORDERED = "an update sent after an answer has a higher sequence than that answer"
    STORED = "the stored document is the acknowledged one of the highest sequence"
    STEADY = "no 5xx, and no request without an answer"
    FLAT = "the memory of the HTTP processes is flat"


class Breaches:
    """Each promise with what broke it."""

    def __init__(self) -> None:
        """Begin with all promises kept."""
        self.count: Counter[Promise] = Counter()
        self.shown: defaultdict[Promise, list[str]] = defaultdict(list)

    def add(self, promise: Promise, what: str) -> None:
        """Note a breach."""
        self.count[promise] += 1
        if len(self.shown[promise]) < _SHOWN:
            self.shown[promise].append(what[:500])


@dataclass(slots=True)
class UserLedger:
    """What one user's updates were answered.

    ``applied`` counts the 200s; ``acknowledged`` has the document of each sequence, by the marker that it carries.
    """

    user_id: str
    applied: int = 0
    acknowledged: dict[int, str] = field(default_factory=dict)
    highest: int = 1

    def acknowledge(self, answer: Answer, marker: str, seen: int, breaches: Breaches) -> None:
        """Take down a 200; ``seen`` is the highest sequence that had been answered when the update was sent."""
        try:
            sequence = int(answer.json()["details"]["sequence"])
        except (KeyError, TypeError, ValueError):
            breaches.add(Promise.APPLIED, f"200 without a sequence: {answer.text}")
            return
        if answer.headers.get("etag") != f'"{sequence}"':
            breaches.add(Promise.APPLIED, f"sequence {sequence} with ETag {answer.headers.get('etag')}")
        if sequence in self.acknowledged:
            breaches.add(Promise.UNIQUE, f"user {self.user_id}: sequence {sequence} for two updates")
        if sequence <= seen:
            breaches.add(Promise.ORDERED, f"user {self.user_id}: sequence {sequence} after {seen}")
        self.applied += 1
        self.acknowledged[sequence] = marker
        self.highest = max(self.highest, sequence)

    def close(self, user: dict[str, Any], original: dict[str, Any], breaches: Breaches) -> None:
        """Compare with the user as it is in the end."""
        last = int(user["details"]["sequence"])
        if last != 1 + self.applied:
            breaches.add(Promise.COUNTED, f"user {self.user_id}: sequence {last} after {self.applied} updates")
        marker = self.acknowledged.get(self.highest)
        wanted = original if marker is None else marked(original, marker)
        if user["data"] != wanted:
            found = user["data"].get("meta", {}).get("version")
            breaches.add(Promise.STORED, f"user {self.user_id}: {found} is stored, {marker} was acknowledged last")


def marked(resume: dict[str, Any], marker: str) -> dict[str, Any]:
    """Give the resume with a marker in its ``meta.version``, which makes it another document."""
    return {**resume, "meta": {**resume["meta"], "version": marker}}


def check_refusal(answer: Answer, damage: Damage, breaches: Breaches) -> None:
    """Compare the answer to an invalid update with the one that its damage must have."""
    try:
        body = answer.json()
        info, request = body["details"][:2]
        found = tuple(sorted((each["field"], each["reason"]) for each in request["fieldViolations"]))
        seen = (answer.status, body["code"], info["reason"], found)
    except (KeyError, TypeError, ValueError):
        seen = None
    if seen != (400, 9, "DATA_INVALID", damage.expected):
        breaches.add(Promise.REFUSED, f"{damage.name}: {answer.status} {answer.text}")


def race_lost(answer: Answer) -> float | None:
    """Give the seconds to wait if the update lost its race, as a 409 of code 10 says; None for any other answer."""
    try:
        if answer.status == 409 and answer.json()["code"] == 10:
            return float(answer.headers["retry-after"])
    except (KeyError, TypeError, ValueError):
        pass
    return None
