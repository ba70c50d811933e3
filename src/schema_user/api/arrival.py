"""How long a body may take to arrive: the server waits for the next of its bytes for ever, and holds what has come.

No request has a timer of its own, which would cost each of them some microseconds for the few that are slow: one look
every now and then finds those that took too long.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from schema_user.errors import Malformed

if TYPE_CHECKING:
    from schema_user.api.door import Receive

_LOOK_SECONDS: Final = 0.25


class Arrivals:
    """The bodies that are awaited in this process, each for ``seconds`` at most, and two looks more."""

    def __init__(self, seconds: float) -> None:
        """Begin with none."""
        self.seconds = seconds
        self._awaited: dict[Arrival, asyncio.Task[Any]] = {}
        self._looking = False

    def add(self, arrival: Arrival, task: asyncio.Task[Any]) -> None:
        """Await a piece of a body in a task, which is cancelled if that takes too long."""
        self._awaited[arrival] = task
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def remove(self, arrival: Arrival) -> None:
        """Await it no more."""
        self._awaited.pop(arrival, None)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for arrival, task in list(self._awaited.items()):
            if not arrival.deadline:
                arrival.deadline = now + self.seconds
            elif now >= arrival.deadline:
                del self._awaited[arrival]
                arrival.late = True
                task.cancel()
        self._looking = bool(self._awaited)
        if self._looking:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)


class Arrival:
    """Gives the body of one request piece by piece, for a limited time; ``deadline`` is set at the first look."""

    __slots__ = ("_arrivals", "_receive", "_whole", "deadline", "late")

    def __init__(self, receive: Receive, arrivals: Arrivals) -> None:
        """Take the pieces from the server's ``receive``."""
        self._receive = receive
        self._arrivals = arrivals
        self._whole = False
        self.deadline = 0.0
        self.late = False

    async def receive(self) -> Any:
        """Give the next piece; behind the last one, wait for as long as the client stays.

        It is answered 400, not 408: browsers and others send a request again by themselves upon 408 (RFC 9110,
        15.5.9), and what was too slow once would be once more.

        Raises:
            Malformed: ``BODY_TIMEOUT``, if the time is over.
        """
        if self._whole:
            return await self._receive()
        task = asyncio.current_task()
        if task is None:
            message = "a request is a task"
            raise AssertionError(message)
        before = task.cancelling()
        self._arrivals.add(self, task)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if self.late and task.uncancel() <= before:  # nobody else cancelled it meanwhile
                raise self._fault() from None
            raise
        finally:
            self._arrivals.remove(self)
        self._whole = not message.get("more_body", False)
        return message

    def renew(self) -> None:
        """Begin the time anew, for a stream that made some progress."""
        self.deadline = 0.0

    def _fault(self) -> Malformed:
        limit = f"{self._arrivals.seconds:g}s"
        return Malformed("BODY_TIMEOUT", f"the body did not arrive within {limit}", metadata={"limit": limit})
