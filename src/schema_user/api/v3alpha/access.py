"""Everything that is held on a user, as one document, on the wire of v3alpha."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user import access_reporting
from schema_user.api.details import View, rfc3339
from schema_user.api.operation import JSON
from schema_user.api.stream import stream_operation
from schema_user.api.v3alpha.history import EntryView, entry_view
from schema_user.api.v3alpha.messages import MessageView, message_view
from schema_user.api.v3alpha.tokens import TokenView, token_view
from schema_user.api.v3alpha.users import UserView, user_view
from schema_user.domain.contact import Channel
from schema_user.domain.credential import RESET

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from litestar.handlers import HTTPRouteHandler

    from schema_user.access_reporting import AccessReport
    from schema_user.api.stream import StreamCall
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

_ENCODER: Final = msgspec.json.Encoder()


class HeldPasswordView(View, kw_only=True):
    """What is known of a user's password; never the hash of it."""

    change_date: str | None = None
    change_required: bool = False
    times_set: int
    wrong_tries: int
    locked_until: str | None = None


class HeldCodeView(View, kw_only=True):
    """A code that can still be returned, or has expired since; only a digest of it is kept."""

    purpose: str
    creation_date: str
    expiration_date: str


class AskedCodeView(View, kw_only=True):
    """When another code was asked for, in the last day of its kind."""

    purpose: str
    at: str


class HeldClaimView(View, kw_only=True):
    """How many values are reserved for the user; kept are keyed digests of them."""

    kind: str
    count: int


class HeldView(View, kw_only=True):
    """What is held on a user, but for what there may be much of."""

    report_date: str
    user: UserView
    password: HeldPasswordView | None = None
    codes: list[HeldCodeView]
    asked_codes: list[AskedCodeView]
    claims: list[HeldClaimView]
    left_out: list[str]


class AccessReportView(HeldView, kw_only=True):
    """Everything that is held on a user, as far as the caller may read it."""

    tokens: list[TokenView]
    messages: list[MessageView]
    history: list[EntryView]


def _held(report: AccessReport) -> HeldView:
    user = report.seen.user
    claims = Counter(each.kind for each in user.claims)
    if user.username_claim is not None:
        claims["username"] += 1
    return HeldView(
        report_date=rfc3339(report.at),
        user=user_view(user, report.seen.schema_type),
        password=_password(user),
        codes=_codes(user),
        asked_codes=_asked(user),
        claims=[HeldClaimView(kind=kind, count=count) for kind, count in sorted(claims.items())],
        left_out=sorted(report.left_out),
    )


def _password(user: User) -> HeldPasswordView | None:
    credential = user.credential
    if credential is None or credential.encoded is None:
        return None
    return HeldPasswordView(
        change_date=None if credential.set_at is None else rfc3339(credential.set_at),
        change_required=credential.change_required,
        times_set=credential.generation,
        wrong_tries=credential.failed,
        locked_until=None if credential.locked_until is None else rfc3339(credential.locked_until),
    )


def _codes(user: User) -> list[HeldCodeView]:
    held = {channel.value: address.codes for channel in Channel if (address := user.contact.on(channel)) is not None}
    if user.credential is not None:
        held[RESET] = user.credential.reset.codes
    return [
        HeldCodeView(purpose=purpose, creation_date=rfc3339(code.created_at), expiration_date=rfc3339(code.expires_at))
        for purpose, codes in held.items()
        for code in codes
    ]


def _asked(user: User) -> list[AskedCodeView]:
    asked = [AskedCodeView(purpose=each.channel.value, at=rfc3339(each.at)) for each in user.contact.resends]
    if user.credential is not None:
        asked += [AskedCodeView(purpose=RESET, at=rfc3339(at)) for at in user.credential.reset.asked]
    return asked


async def report_pieces(wiring: Wiring, report: AccessReport) -> AsyncGenerator[bytes, None]:
    """Write a report as one ``AccessReportView``, piece by piece: no more of it is in memory than a page."""
    yield _ENCODER.encode(_held(report))[:-1]
    sections: tuple[tuple[str, AsyncGenerator[Any, None], Callable[[Any], View]], ...] = (
        ("tokens", access_reporting.tokens_of(wiring, report), token_view),
        ("messages", access_reporting.messages_of(wiring, report), message_view),
        ("history", access_reporting.history_of(wiring, report), entry_view),
    )
    for name, found, view in sections:
        yield f',"{name}":['.encode()
        between = b""
        async with contextlib.aclosing(found) as pages:
            async for page in pages:
                if page:
                    yield between + b",".join(_ENCODER.encode(view(each)) for each in page)
                    between = b","
        yield b"]"
    yield b"}"


@stream_operation(
    "GET",
    "/v3alpha/users/{user_id:str}/access_report",
    summary="Get everything that is held on a user",
    tag="Users",
    permission="user.read",
    view=AccessReportView,
    query={},
    faults=(404,),
    answer_type=JSON,
)
async def get_access_report(stream: StreamCall) -> AsyncGenerator[bytes, None]:
    """Give one document with everything that is held on a user: what to hand over when it asks for that.

    It has the user, what is known of its password and codes, its tokens, messages and history. What the caller may not
    read is left out: fields that the schema hides, and the tokens and messages without `token.read` and `message.read`
    in the user's organization, which `leftOut` then names. The user itself needs `user.read` too, for the history
    tells who else did what. A document that breaks off is not whole: ask again.
    """
    call = stream.call
    report = await access_reporting.access_report(call.wiring, call.caller, call.path["user_id"])
    async with contextlib.aclosing(report_pieces(call.wiring, report)) as pieces:
        async for piece in pieces:
            await stream.caller()
            yield piece


ROUTES: list[HTTPRouteHandler] = [get_access_report]
