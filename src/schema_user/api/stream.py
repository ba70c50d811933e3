"""Operations that take or give a stream: as long as the client likes, and never more of it in memory than a little.

The steps before the operation's own code are those of every operation (``operation.py``). An answer begins with the
first piece of it, so that what is refused before is refused with its status; whatever goes wrong later cuts the answer
off, and the client sees that: an answer that ends as HTTP says is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from schema_user.api.door import bearer
from schema_user.api.ndjson import NDJSON
from schema_user.api.operation import (
    Call,
    Media,
    Operation,
    acting,
    once_of,
    query_of,
    require_acceptable,
    require_readable,
)
from schema_user.api.reply import GUARDS, PRIVATE, fault_reply
from schema_user.errors import Fault, Malformed, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    import msgspec

    from schema_user.api.arrival import Arrival
    from schema_user.api.details import View
    from schema_user.api.door import Headers, Receive, Scope, Send
    from schema_user.domain.caller import Caller

MOST: Final = 8
MOST_OF_TOKEN: Final = 2
"""Streams that one process serves at once, in all and of one token."""

_PIECE: Final = 64 * 1024
_IN_MEMORY: Final = 1024 * 1024
_MOST_UNREAD: Final = 512 * 1024 * 1024
"""Bytes of an answer that wait on the disk for a client which sends all before it reads anything, as most do."""

_AHEAD: Final = 1024 * 1024
"""Bytes of a body that are read before they are asked for."""

_LOOK: Final = 1.0
"""Seconds between two looks at whether the server stops."""


class Streams:
    """The streams of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._of_token: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, token_id: str) -> Iterator[None]:
        """Have a place for a stream.

        Raises:
            Unavailable: ``QUEUE_FULL``, if there are enough.
        """
        if self._of_token[token_id] >= MOST_OF_TOKEN or self._of_token.total() >= MOST:
            raise Unavailable("QUEUE_FULL", "too many imports and exports are under way", retry_after=5)
        self._of_token[token_id] += 1
        try:
            yield
        finally:
            self._of_token[token_id] -= 1
            self._of_token += Counter()  # forgets whoever has none


@dataclass(slots=True)
class StreamCall:
    """One request of an operation on streams: the call, and the way to its body."""

    call: Call
    seconds: float
    _receive: Receive
    _scope: Scope

    async def caller(self) -> Caller:
        """Give the caller as the token makes it now: it may have been revoked while the stream went on.

        Raises:
            Unauthenticated, Missing: as at the door.
        """
        rooms = self._scope["app"].state
        self.call.caller = await rooms.gatekeeper.caller(bearer(self.call.headers))
        self.call.caller = await acting(rooms, self.call)
        return self.call.caller

    @property
    def stopping(self) -> bool:
        """Whether the server stops, so that what can be resumed should end."""
        return bool(self._scope["app"].state.stopping)

    async def pieces(self) -> AsyncGenerator[bytes | None, None]:
        """Give the pieces of the body as they come; None, if none has come just now: then work on what there is.

        Whoever ends a line calls ``progressed()``, as a body that makes no progress has only so much time.

        Raises:
            Malformed: ``BODY_TRUNCATED``, ``BODY_TIMEOUT``.
            Unavailable: ``SERVER_STOPPING``.
        """
        ahead = _Ahead(self._receive)
        reading = asyncio.create_task(ahead.read())
        try:
            while not ahead.at_end:
                if not ahead.pieces:
                    await asyncio.sleep(0)
                if not ahead.pieces:
                    yield None
                while not await ahead.is_news(_LOOK):
                    self._go_on()
                while ahead.pieces:
                    yield ahead.take()
                self._go_on()
            await reading
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Fault):
                await reading

    def progressed(self) -> None:
        """Give the rest of the body its whole time again."""
        arrival: Arrival = self._scope["state"]["arrival"]
        arrival.renew()

    def _go_on(self) -> None:
        if self.stopping:
            raise Unavailable("SERVER_STOPPING", "the server stops; go on with another one", retry_after=1)


class _Ahead:
    """What of a body was read ahead while somebody works on what came before."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._size = 0
        self._ended = False
        self.pieces: deque[bytes] = deque()

    @property
    def at_end(self) -> bool:
        """Whether all was taken."""
        return self._ended and not self.pieces

    async def read(self) -> None:
        """Read to the end.

        Raises:
            Malformed: if the client goes away, or takes too long.
        """
        try:
            more = True
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise Malformed("BODY_TRUNCATED", "the body ended before its length")
                more = message.get("more_body", False)
                if piece := message.get("body", b""):
                    self.pieces.append(piece)
                    self._size += len(piece)
                    self._news.set()
                while self._size >= _AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._news.set()

    async def is_news(self, seconds: float) -> bool:
        """Wait for a piece, or the end; False if neither comes in so many seconds."""
        if not self.pieces and not self._ended:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        return bool(self.pieces) or self._ended

    def take(self) -> bytes:
        """Take the next piece."""
        piece = self.pieces.popleft()
        self._size -= len(piece)
        self._room.set()
        return piece


def stream_operation(
    method: str,
    path: str,
    *,
    summary: str,
    tag: str,
    permission: str,
    view: type[View],
    query: Mapping[str, str],
    line: type[msgspec.Struct] | None = None,
    example: Any = None,
    keyed: bool = False,
    faults: tuple[int, ...] = (),
    answer: Any = None,
    answer_type: str = NDJSON,
) -> Callable[[Callable[[StreamCall], AsyncGenerator[bytes, None]]], HTTPRouteHandler]:
    """Make a route of a function that gives its answer piece by piece, each line of it a ``view``.

    With another ``answer_type`` than NDJSON the whole of it is one ``view``. It takes a body of which each line is a
    ``line``, or none; the other arguments are those of ``operation()``.
    """

    def make(handler: Callable[[StreamCall], AsyncGenerator[bytes, None]]) -> HTTPRouteHandler:
        described = Operation(
            name=handler.__name__,
            summary=summary,
            tag=tag,
            body=line,
            view=view,
            status=200,
            permission=permission,
            query=query,
            faults=faults,
            example=example,
            answer=answer,
            conditional=False,
            optional_body=False,
            keyed=keyed,
            media={} if line is None else {NDJSON: Media(line.__name__, example)},
            answer_type=answer_type,
        )

        async def perform(scope: Scope, receive: Receive, send: Send) -> None:
            answered = _Answer(send, answer_type)
            try:
                await _perform(scope, receive, answered, described, handler)
            except Fault as fault:
                if not answered.begun:
                    await fault_reply(fault, scope["state"]["request_id"]).send_to(send)

        async def endpoint() -> None:
            """Stand for the operation where Litestar wants a function; ``perform`` is called in its place."""

        endpoint.__name__ = handler.__name__
        endpoint.__doc__ = handler.__doc__
        return HTTPRouteHandler(
            path,
            http_method=HttpMethod(method),
            opt={"operation": described},
            status_code=200,
            middleware=[lambda app: perform],  # noqa: ARG005 -- the signature of a middleware
        )(endpoint)

    return make


async def _perform(
    scope: Scope,
    receive: Receive,
    answered: _Answer,
    described: Operation,
    handler: Callable[[StreamCall], AsyncGenerator[bytes, None]],
) -> None:
    state, rooms = scope["state"], scope["app"].state
    headers: Headers = state["headers"]
    require_acceptable(headers.get(b"accept", b"*/*").decode("latin-1"), described.answer_type)
    if described.takes_body:
        require_readable(headers, described)
    query = query_of(scope, described)
    call = Call(rooms.wiring, state["caller"], state["request_id"], scope["path_params"], query, headers)
    call.caller = await acting(rooms, call)
    if described.keyed and not call.validate_only:
        call.once = once_of(scope, call, b"")
    seconds = rooms.wiring.settings.request_timeout.total_seconds()
    stream = StreamCall(call, seconds, receive, scope)
    with rooms.streams.one(call.caller.token_id):
        async with contextlib.aclosing(handler(stream)) as pieces:
            if described.takes_body:
                await _both_ways(pieces, answered, seconds)
            else:
                await _one_way(pieces, answered, receive, seconds)
    await answered.end()


class _Answer:
    """An answer that is sent piece by piece."""

    def __init__(self, send: Send, media_type: str) -> None:
        self._send = send
        self._headers = [*GUARDS, (b"content-type", media_type.encode()), *PRIVATE]
        self.begun = False

    async def add(self, piece: bytes) -> None:
        """Send a piece; with the head before the first one."""
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """Say that it is whole."""
        if not self.begun:
            await self.add(b"")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _one_way(pieces: AsyncIterator[bytes], answered: _Answer, receive: Receive, seconds: float) -> None:
    """Send what is made as fast as the client takes it; cut it off if that is not at all, or it goes away."""
    gone = asyncio.create_task(_gone(receive))
    try:
        async for piece in pieces:
            if gone.done():
                raise Malformed("BODY_TRUNCATED", "the client went away")
            async with asyncio.timeout(seconds):
                await answered.add(piece)
    except TimeoutError:
        raise Malformed("BODY_TIMEOUT", "the client does not read the answer") from None
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _both_ways(pieces: AsyncIterator[bytes], answered: _Answer, seconds: float) -> None:
    """Read on whether the client reads its answer or not.

    One that sends all before it reads anything would wait for ever, and we for it.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        spool = _Spool(file)
        filling = asyncio.create_task(spool.fill(pieces))
        try:
            while (piece := await spool.next()) is not None:
                await _taken(answered.add(piece), spool, seconds)
            await filling
        finally:
            filling.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await filling


async def _taken(adding: Any, spool: _Spool, seconds: float) -> None:
    """Wait until the client takes a piece; for a limited time once it has nothing left to send."""
    task = asyncio.ensure_future(adding)
    try:
        while not (await asyncio.wait({task}, timeout=seconds))[0]:
            if spool.waits:
                raise Malformed("BODY_TIMEOUT", "the client does not read the answer")
        task.result()
    finally:
        task.cancel()


class _Spool:
    """Pieces of an answer on their way to a client: what it has not taken yet lies in a file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._written = 0
        self._read = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    @property
    def waits(self) -> bool:
        """Whether nothing more is written before the client takes something."""
        return self._ended or self._written - self._read >= _MOST_UNREAD

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Write pieces until there are no more, or something goes wrong."""
        try:
            async for piece in pieces:
                while self._written - self._read >= _MOST_UNREAD:
                    self._room.clear()
                    await self._room.wait()
                self._file.seek(self._written)
                self._file.write(piece)
                self._written += len(piece)
                self._news.set()
        finally:
            self._ended = True
            self._news.set()

    async def next(self) -> bytes | None:
        """Give what follows; None at the end."""
        while self._read == self._written:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._file.seek(self._read)
        piece: bytes = self._file.read(min(_PIECE, self._written - self._read))
        self._read += len(piece)
        if self._read == self._written:  # the client keeps up: the file need not grow
            self._file.seek(0)
            self._file.truncate()
            self._read = self._written = 0
        self._room.set()
        return piece
