"""Many clients that update a few users at once, half of the time with data that must be refused."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.ledger import Breaches, Promise, UserLedger, check_refusal, marked, race_lost
from bench.resume import DAMAGES
from bench.wire import Answer, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.resume import Resume
    from bench.served import Served

_TRIES = 50
"""How often a client sends an update that loses its race."""

_SAMPLE_SECONDS = 0.1
_SPREAD_AT = 3
"""The sample at which connections are looked at: all clients have theirs by then."""

MEBIBYTE = 1024 * 1024
_GROWTH_BYTES = 4 * MEBIBYTE
"""What memory may grow from the second fifth of a load to the last; chance was seen to bring 0.1 MiB."""

_MARKER = "a marker comes here"


@dataclass(slots=True)
class Phase:
    """One load and what came of it; times in seconds, memory in bytes.

    ``valid`` holds the time of each valid update from its first request to its 200, retries and their pauses
    included; ``invalid`` the time of each that was refused; ``lost`` counts the 409s; ``spread`` is the number of
    connections that each HTTP process had.
    """

    name: str
    users: list[UserLedger]
    breaches: Breaches = field(default_factory=Breaches)
    valid: list[float] = field(default_factory=list)
    invalid: list[float] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    spread: list[int] = field(default_factory=list)

    def growth(self) -> tuple[float, float]:
        """Give the medians of memory in the second fifth of the time, when all is warm, and in the last."""
        fifth = max(1, len(self.memory) // 5)
        return statistics.median(self.memory[fifth : 2 * fifth] or self.memory), statistics.median(self.memory[-fifth:])

    def check_memory(self) -> None:
        """Hold the growth against what chance may bring."""
        before, after = self.growth()
        if after - before > _GROWTH_BYTES:
            self.breaches.add(Promise.FLAT, f"from {before / MEBIBYTE:.1f} to {after / MEBIBYTE:.1f} MiB")


class Load:
    """Clients that share a list of updates: every second one invalid, by each damage in turn, over users in turn."""

    def __init__(self, server: Served, resume: Resume, phase: Phase, advance: Callable[[], None]) -> None:
        """Prepare the bodies; ``advance`` is called after each update."""
        self._server = server
        self._resume = resume
        self._phase = phase
        self._advance = advance
        document = marked(resume.sample, _MARKER)
        self._good = _body(document)
        self._bad = [(damage, _body(damage.done_to(document))) for damage in DAMAGES]

    async def run(self, updates: int, clients: int) -> None:
        """Send all updates, then compare every user with what was answered."""
        phase, numbers = self._phase, iter(range(updates))
        sampling = asyncio.create_task(self._sample())
        started = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(clients):
                    group.create_task(self._client(numbers))
        finally:
            phase.seconds = time.perf_counter() - started
            sampling.cancel()
        valid, invalid = updates - updates // 2, updates // 2
        if len(phase.valid) != valid:
            phase.breaches.add(Promise.APPLIED, f"{len(phase.valid)} of {valid} were")
        if len(phase.invalid) != invalid:
            phase.breaches.add(Promise.REFUSED, f"{len(phase.invalid)} of {invalid} were answered")
        phase.check_memory()
        await self._close()

    async def _close(self) -> None:
        breaches = self._phase.breaches
        async with Wire(self._server.port, self._server.token) as wire:
            for ledger in self._phase.users:
                try:
                    found = await wire.ok("GET", f"/v3alpha/users/{ledger.user_id}")
                except WireError as error:
                    breaches.add(Promise.STORED, str(error))
                else:
                    ledger.close(found["user"], self._resume.sample, breaches)

    async def _sample(self) -> None:
        while True:
            self._phase.memory.append(self._server.memory())
            if len(self._phase.memory) == _SPREAD_AT:
                self._phase.spread = self._server.connections()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _client(self, numbers: Iterator[int]) -> None:
        """Take updates until none is left. One that got no answer is not sent again: it may have been applied."""
        async with Wire(self._server.port, self._server.token) as wire:
            for number in numbers:
                ledger = self._phase.users[number // 2 % len(self._phase.users)]
                try:
                    await (self._refused if number % 2 else self._applied)(wire, ledger, number)
                except WireError as error:
                    self._phase.breaches.add(Promise.STEADY, str(error))
                    if self._server.process.poll() is not None:
                        return
                self._advance()

    async def _applied(self, wire: Wire, ledger: UserLedger, number: int) -> None:
        phase, marker, started = self._phase, f"update {number}", time.perf_counter()
        body = self._good.replace(_MARKER.encode(), marker.encode())
        for tried in range(_TRIES):
            seen = ledger.highest
            answer = await self._put(wire, ledger, body)
            if answer.status == 200:
                ledger.acknowledge(answer, marker, seen, phase.breaches)
                phase.valid.append(time.perf_counter() - started)
                return
            pause = race_lost(answer)
            if pause is None:
                phase.breaches.add(Promise.APPLIED, f"{marker}, try {tried + 1}: {answer.status} {answer.text}")
                return
            phase.lost += 1
            await asyncio.sleep(pause * random.uniform(1, 1.5))
        phase.breaches.add(Promise.APPLIED, f"{marker}: lost its race {_TRIES} times")

    async def _refused(self, wire: Wire, ledger: UserLedger, number: int) -> None:
        damage, body = self._bad[number // 2 % len(self._bad)]
        answer = await self._put(wire, ledger, body)
        check_refusal(answer, damage, self._phase.breaches)
        self._phase.invalid.append(answer.seconds)

    async def _put(self, wire: Wire, ledger: UserLedger, body: bytes) -> Answer:
        answer = await wire.call("PUT", f"/v3alpha/users/{ledger.user_id}", body)
        if answer.status >= 500:
            self._phase.breaches.add(Promise.STEADY, f"{answer.status} {answer.text}")
        return answer


def _body(document: dict[str, Any]) -> bytes:
    return json.dumps({"data": document}).encode()
