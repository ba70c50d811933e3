"""The import of users on the wire of v3alpha: a line in, a line out."""

from __future__ import annotations

import contextlib
import enum
import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from schema_user.api.body import refused
from schema_user.api.details import DetailsView, View, details
from schema_user.api.door import log_unexpected
from schema_user.api.glossary import DATA, SCHEMA_ID, USER_ID
from schema_user.api.ndjson import LineCutter
from schema_user.api.operation import read_body
from schema_user.api.status import internal_body, status_body
from schema_user.api.stream import stream_operation
from schema_user.api.v3alpha.contact_bodies import contact_wishes
from schema_user.api.v3alpha.password_bodies import HashedPasswordBody, PasswordBody, new_password
from schema_user.api.v3alpha.users import CreateUserBody, organization_of
from schema_user.commands import imports
from schema_user.commands.imports import BATCH_BYTES, BATCH_LINES, ImportUsers, Line, Mode, begin_import
from schema_user.commands.users import CreateUser
from schema_user.domain.access import lacking
from schema_user.domain.contact import Channel, Unverified
from schema_user.domain.permission import Permission
from schema_user.domain.user import UserState
from schema_user.errors import Fault, Malformed, TooLarge, Violation
from schema_user.slices import Slice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from litestar.handlers import HTTPRouteHandler

    from schema_user.api.ndjson import RawLine
    from schema_user.api.stream import StreamCall
    from schema_user.commands.imports import Outcome
    from schema_user.domain.caller import Caller
    from schema_user.wiring import Wiring

_QUERY: Final = {
    "mode": "What becomes of a line whose `userId` is there: `create` refuses it (the default), `replace` replaces.",
    "validateOnly": "true: check every line against what is stored, and store and send nothing.",
}
_MARK: Final = b'{"nextPageToken":'
_ENCODER: Final = msgspec.json.Encoder()


class ImportedState(enum.StrEnum):
    """A state that a user can be imported in."""

    ACTIVE = UserState.ACTIVE.value
    INACTIVE = UserState.INACTIVE.value
    LOCKED = UserState.LOCKED.value


class ImportUserBody(CreateUserBody, kw_only=True):
    """One line of an import: a new user, or what a user shall be from now on."""

    state: ImportedState | None = None
    password: PasswordBody | None = None
    hashed_password: HashedPasswordBody | None = None


class SchemalessBody(ImportUserBody, kw_only=True):
    """A line that may leave its schema to whoever imports it."""

    schema_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = ""


class ImportedView(View, kw_only=True):
    """What became of one line. Exactly those that failed have an `error`: a google.rpc.Status."""

    line: int
    user_id: str | None = None
    details: DetailsView | None = None
    email_code: str | None = None
    phone_code: str | None = None
    error: Any = None


@stream_operation(
    "POST",
    "/v3alpha/users/import",
    summary="Import users",
    tag="Users",
    permission="user.write",
    view=ImportedView,
    query=_QUERY,
    line=ImportUserBody,
    example={
        "userId": USER_ID,
        "schemaId": SCHEMA_ID,
        "data": DATA,
        "contact": {"email": {"address": "minnie@example.org", "isVerified": True}},
        "username": "minnie",
    },
    answer={
        "line": 1,
        "userId": USER_ID,
        "details": {
            "sequence": "1",
            "creationDate": "2025-01-03T13:39:46.859Z",
            "changeDate": "2025-01-03T13:39:46.859Z",
            "resourceOwner": "default",
        },
    },
    keyed=True,
    faults=(409,),
)
async def import_users(stream: StreamCall) -> AsyncGenerator[bytes, None]:
    """Create or replace users, one for each line: a body of the creation, with `state` and a password if there is one.

    The results come in the order of the lines, and their answers are 200 whatever becomes of them: a line that is
    wrong costs itself alone. Empty lines count and have no result, and neither have the lines of an export that hold
    only a `nextPageToken`. An address without an alternative is stored unverified, and nothing is sent. Under an
    `Idempotency-Key` the same stream can be sent again after it broke off: lines that are done are answered as done.
    """
    call = stream.call
    organizations = call.caller.organizations(Permission.USER_WRITE)
    if organizations is not None and not organizations:
        raise lacking(Permission.USER_WRITE)
    command = ImportUsers(
        await begin_import(call.wiring, call.once), _mode(call.query.get("mode")), call.validate_only, call.request_id
    )
    async with (
        contextlib.aclosing(_batches(stream)) as batches,
        contextlib.aclosing(imports.import_users(call.wiring, command, stream.caller, batches)) as results,
    ):
        async for outcomes in results:
            yield b"".join(result_line(each, call.request_id) for each in outcomes)


def _mode(text: str | None) -> Mode:
    try:
        return Mode(text or Mode.CREATE)
    except ValueError:
        words = "must be create or replace"
        raise Malformed("QUERY_INVALID", f"mode {words}", [Violation("?mode", words, "query")]) from None


async def _batches(stream: StreamCall) -> AsyncGenerator[list[Line], None]:
    """Read the lines, as many at once as there are; those before a break are still worked on."""
    call, batch, turn = stream.call, Batch(), Slice()
    cutter = LineCutter(call.wiring.settings.body_max_bytes)

    async def read(line: RawLine) -> bool:
        lines = await read_line(call.wiring, line, call.caller, digested=call.once is not None)
        return batch.add(lines, len(line.raw or b""))

    try:
        async with contextlib.aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                async for part in cutter.parts(piece or b"", stream.progressed):
                    for each in part:
                        if await read(each):
                            yield batch.take()
                        if turn.over:
                            await turn.rest()
                if piece is None and batch.lines:
                    yield batch.take()
        for each in cutter.end():
            await read(each)
    except Fault:
        if batch.lines:
            yield batch.take()
        raise
    if batch.lines:
        yield batch.take()


class Batch:
    """Lines that are worked on together."""

    def __init__(self) -> None:
        """Begin with none."""
        self.lines: list[Line] = []
        self._size = 0

    def add(self, lines: list[Line], size: int) -> bool:
        """Take what was read of so many bytes; whether that is enough."""
        self.lines += lines
        self._size += size
        return len(self.lines) >= BATCH_LINES or self._size >= BATCH_BYTES

    def take(self) -> list[Line]:
        """Give the lines, and begin anew."""
        lines, self.lines, self._size = self.lines, [], 0
        return lines


async def read_line(
    wiring: Wiring, line: RawLine, caller: Caller, *, digested: bool, schema_id: str | None = None
) -> list[Line]:
    """Read one line; what cannot be read becomes its refusal, and a mark of an export nothing.

    ``digested``: the line shall be known again; ``schema_id`` is the schema of a line that names none.
    """
    if line.raw is None:
        limit = wiring.settings.body_max_bytes
        words = f"the line is larger than {limit} bytes"
        return [Line(line.number, TooLarge("LINE_TOO_LARGE", words, metadata={"limit": str(limit)}))]
    if line.raw.startswith(_MARK) and _is_mark(line.raw):
        return []
    try:
        body = await read_body(line.raw, ImportUserBody if schema_id is None else SchemalessBody, wiring)
        command = line_command(body, organization_of(caller, body.organization), schema_id)
    except Fault as fault:
        return [Line(line.number, fault)]
    return [Line(line.number, command, hashlib.sha256(line.raw).digest() if digested else b"")]


def _is_mark(raw: bytes) -> bool:
    """Whether a line holds only the token of an export: one that names a user beside it must not be passed over."""
    try:
        return len(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])) == 1
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def line_command(body: ImportUserBody, organization_id: str, schema_id: str | None = None) -> CreateUser:
    """Turn a line into a command.

    Raises:
        Malformed: for alternatives that stand beside one another.
    """
    wishes, found = contact_wishes(body.contact), list[Violation]()
    password = new_password(body.password, body.hashed_password, "password", found)
    if found:
        raise refused(found)
    return CreateUser(
        schema_id=body.schema_id or schema_id or "",
        data={} if body.data is None else body.data,
        organization_id=organization_id,
        user_id=body.user_id,
        username=body.username,
        wishes=tuple(each if each.verification else replace(each, verification=Unverified()) for each in wishes),
        state=None if body.state is None else UserState(body.state),
        password=password,
    )


def result_line(outcome: Outcome, request_id: str) -> bytes:
    """Write down what became of a line."""
    user, error = outcome.user, outcome.error
    if user is not None:
        view = ImportedView(
            line=outcome.number,
            user_id=user.user_id,
            details=details(user, user.organization_id),
            email_code=outcome.codes.get(Channel.EMAIL),
            phone_code=outcome.codes.get(Channel.PHONE),
        )
        return _ENCODER.encode(view) + b"\n"
    if isinstance(error, Fault):
        status = status_body(error, request_id)
    else:
        if error is not None:
            log_unexpected(error, request_id)
        status = internal_body(request_id)
    return _ENCODER.encode(ImportedView(line=outcome.number, error=msgspec.Raw(status))) + b"\n"


ROUTES: list[HTTPRouteHandler] = [import_users]
