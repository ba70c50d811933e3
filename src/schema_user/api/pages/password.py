"""The page ``/ui/password/reset``, where the holder of a signed link sets a new password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litestar import Response, route
from litestar.enums import HttpMethod

from schema_user.api.pages.signed import Form, HttpRequest, SignedPage
from schema_user.api.pages.states import Page, Reader, ResetHolder
from schema_user.api.pages.words import language_of
from schema_user.commands.password_resets import open_reset, set_password_by_link
from schema_user.domain.link import RESET_PATH, Link, Standing
from schema_user.errors import Aborted, Exhausted, Fault, Malformed, Unavailable, Unmet

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.wiring import Wiring

_POLICY: Final = "PASSWORD_POLICY"


async def _hold(wiring: Wiring, link: Link, reader: Reader) -> ResetHolder | None:
    opened = await open_reset(wiring, link)
    if opened is None:
        return None
    return ResetHolder(language_of(opened.language) or reader.language, opened.service or reader.service, link, opened)


def _shown(holder: ResetHolder) -> Page:
    return holder.form() if holder.opened.standing is Standing.OPEN else holder.over(200)


async def _posted(wiring: Wiring, holder: ResetHolder, form: Form, request_id: str) -> Page:
    """Set the password that the holder of a genuine link posted."""
    if holder.opened.standing is not Standing.OPEN:
        return holder.over(400)
    if not form["password"] or not form["again"]:
        return holder.missing()
    if form["password"] != form["again"]:
        return holder.differs()
    try:
        await set_password_by_link(wiring, holder.link, form["password"], request_id)
    except Fault as fault:
        return _refused(holder, fault)
    return holder.done()


def _refused(holder: ResetHolder, fault: Fault) -> Page:
    if isinstance(fault, Malformed) and fault.reason == _POLICY:
        return holder.weak([each.reason for each in fault.violations])
    if isinstance(fault, (Malformed, Exhausted)) or (isinstance(fault, Unmet) and fault.reason == "CODE_EXPIRED"):
        return holder.over(400)
    if isinstance(fault, (Unavailable, Aborted)):
        return holder.later(fault.retry_after or 1)
    return holder.neutral()


_PAGE: Final = SignedPage(None, (frozenset({"password", "again"}),), _hold, _shown, _posted)


@route(RESET_PATH, http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
async def open_password_link(request: HttpRequest) -> Response[bytes]:
    """Show a form for a new password; nothing is used up."""
    return await _PAGE.answer(request)


@route(RESET_PATH, http_method=HttpMethod.POST, status_code=200)
async def post_password(request: HttpRequest) -> Response[bytes]:
    """Set the password of the form."""
    return await _PAGE.answer(request)


ROUTES: list[HTTPRouteHandler] = [open_password_link, post_password]
