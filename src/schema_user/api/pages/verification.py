"""The pages ``/ui/verify/email`` and ``/ui/verify/phone``, where the holder of a signed link verifies an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litestar import Response, route
from litestar.enums import HttpMethod

from schema_user.api.pages.signed import Form, HttpRequest, SignedPage
from schema_user.api.pages.states import CODE_MAX_CHARACTERS, Holder, Page, Reader
from schema_user.api.pages.words import language_of
from schema_user.commands.links import open_link, resend_by_link, verify_by_link
from schema_user.domain.contact import Channel
from schema_user.domain.link import PATH, Link, Standing
from schema_user.errors import Aborted, Exhausted, Fault, Malformed, Unavailable, Unmet

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.wiring import Wiring

_RESEND: Final = "resend"
_FORMS: Final = (frozenset({"code"}), frozenset({"action"}))


def _routes_of(channel: Channel) -> list[HTTPRouteHandler]:
    page = SignedPage(channel, _FORMS, _hold, _shown, _posted)

    async def opened(request: HttpRequest) -> Response[bytes]:
        return await page.answer(request)

    async def posted(request: HttpRequest) -> Response[bytes]:
        return await page.answer(request)

    opened.__name__ = f"open_{channel}_link"
    opened.__doc__ = "Show where the verification stands, and a form for the code; nothing is used up."
    posted.__name__ = f"post_{channel}_code"
    posted.__doc__ = "Verify by the code of the form, or send another one."
    return [
        route(PATH + channel, http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)(opened),
        route(PATH + channel, http_method=HttpMethod.POST, status_code=200)(posted),
    ]


async def _hold(wiring: Wiring, link: Link, reader: Reader) -> Holder | None:
    opened = await open_link(wiring, link)
    if opened is None:
        return None
    return Holder(language_of(opened.language) or reader.language, opened.service or reader.service, link, opened)


def _shown(holder: Holder) -> Page:
    standing = holder.opened.standing
    if standing is Standing.VERIFIED:
        return holder.verified()
    if standing is Standing.EXHAUSTED:
        return holder.exhausted(200)
    return holder.expired(200) if standing is Standing.EXPIRED else holder.form()


async def _posted(wiring: Wiring, holder: Holder, form: Form, request_id: str) -> Page:
    """Do what the holder of a genuine link posted."""
    resend = "action" in form
    if resend and form["action"] != _RESEND:
        return holder.neutral()
    if holder.opened.standing is Standing.VERIFIED or (resend and holder.opened.standing is Standing.OPEN):
        return _shown(holder)
    entered = form.get("code", "").strip()
    code = "".join(entered.split())
    try:
        if resend:
            await resend_by_link(wiring, holder.link, request_id)
            return holder.sent()
        if not 1 <= len(code) <= CODE_MAX_CHARACTERS:
            return holder.missing(entered[:CODE_MAX_CHARACTERS])
        await verify_by_link(wiring, holder.link, code, request_id)
    except Fault as fault:
        return _refused(holder, entered, fault)
    return holder.done()


def _refused(holder: Holder, entered: str, fault: Fault) -> Page:
    if isinstance(fault, Malformed) and fault.reason == "CODE_INVALID":
        left = int(fault.metadata["attemptsLeft"])
        return holder.wrong(entered, left) if left else holder.exhausted(400)
    if isinstance(fault, Unmet) and fault.reason == "CODE_EXPIRED":
        return holder.expired(400)
    if isinstance(fault, Exhausted):
        wait = fault.retry_after or 1
        spent = fault.reason == "CODE_ATTEMPTS_EXHAUSTED"
        return holder.exhausted(429, wait) if spent else holder.soon(wait)
    if isinstance(fault, (Unavailable, Aborted)):
        return holder.later(fault.retry_after or 1)
    return holder.neutral()


ROUTES: list[HTTPRouteHandler] = [made for channel in Channel for made in _routes_of(channel)]
