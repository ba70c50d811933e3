"""The pages ``/ui/verify/email`` and ``/ui/verify/phone``, to which the signed links in messages lead.

Opening one changes nothing, as mail scanners open links; a form is posted back to the link, without any script. The
link is what entitles to the request, and what a page of somebody else cannot know. Whoever has no genuine one is
answered by one and the same page, whatever is wrong.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from litestar import Request, Response, route
from litestar.enums import HttpMethod

from schema_user.api.pages.states import CODE_MAX_CHARACTERS, HEADERS, Holder, Page, Reader
from schema_user.api.pages.words import accepted_language, language_of
from schema_user.api.peer import peer_network
from schema_user.commands.links import open_link, resend_by_link, verify_by_link
from schema_user.domain.contact import Channel
from schema_user.domain.link import PATH, Link, Standing
from schema_user.errors import Aborted, Exhausted, Fault, Malformed, Unavailable, Unmet

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from schema_user.api.door import Headers
    from schema_user.commands.links import Opened
    from schema_user.wiring import Wiring

_SPAN: Final = timedelta(minutes=1)
"""In which the requests to the pages are counted."""

_BODY_MAX_BYTES: Final = 8 * 1024
_MOST_FIELDS: Final = 32
_ID_MAX_CHARACTERS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS: Final = frozenset({"code", "action"})
_RESEND: Final = "resend"
_PARAMETERS: Final = {
    "userID": _ID_MAX_CHARACTERS,
    "code": CODE_MAX_CHARACTERS,
    "orgID": _ID_MAX_CHARACTERS,
    "sig": _ID_MAX_CHARACTERS,
}
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})

HttpRequest = Request[Any, Any, Any]


def _routes_of(channel: Channel) -> list[HTTPRouteHandler]:
    async def opened(request: HttpRequest) -> Response[bytes]:
        return await _answer(request, channel)

    async def posted(request: HttpRequest) -> Response[bytes]:
        return await _answer(request, channel)

    opened.__name__ = f"open_{channel}_link"
    opened.__doc__ = "Show where the verification stands, and a form for the code; nothing is used up."
    posted.__name__ = f"post_{channel}_code"
    posted.__doc__ = "Verify by the code of the form, or send another one."
    return [
        route(PATH + channel, http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)(opened),
        route(PATH + channel, http_method=HttpMethod.POST, status_code=200)(posted),
    ]


async def _answer(request: HttpRequest, channel: Channel) -> Response[bytes]:
    wiring: Wiring = request.app.state.wiring
    headers: Headers = request.scope["state"]["headers"]
    language = accepted_language(headers.get(b"accept-language", b"").decode("latin-1"))
    reader = Reader(language, wiring.settings.service)
    try:
        return await _limited(request, channel, wiring, reader)
    except Unavailable as fault:
        return _response(reader, reader.later(fault.retry_after or 1))


async def _limited(request: HttpRequest, channel: Channel, wiring: Wiring, reader: Reader) -> Response[bytes]:
    """Answer whoever did not ask too often."""
    headers: Headers = request.scope["state"]["headers"]
    settings = wiring.settings
    peer = peer_network(request.scope, headers, settings.trusted_proxies)
    if (wait := await _wait(wiring, f"page peer {peer}", settings.pages_per_peer)) is not None:
        return _response(reader, reader.many(wait))
    link = _link(request, channel)
    form = await _form(request, headers) if request.method == HttpMethod.POST else {}
    opened = None if link is None or form is None else await open_link(wiring, link)
    if link is None or form is None or opened is None:
        return _response(reader, reader.neutral())
    language, service = language_of(opened.language) or reader.language, opened.service or reader.service
    holder = Holder(language, service, link, opened)
    if (wait := await _wait(wiring, f"page user {link.user_id}", settings.pages_per_user)) is not None:
        return _response(holder, holder.many(wait))
    if request.method == HttpMethod.POST:
        return _response(holder, await _posted(wiring, holder, form, request.scope["state"]["request_id"]))
    return _response(holder, _shown(holder, opened))


async def _wait(wiring: Wiring, name: str, limit: int) -> int | None:
    """Count a request; None: it is within the limit. Else in how many seconds there is room."""
    now = wiring.now()
    until = await wiring.quotas.take(name, limit, _SPAN, now)
    return None if until is None else max(1, math.ceil((until - now).total_seconds()))


def _shown(holder: Holder, opened: Opened) -> Page:
    if opened.standing is Standing.VERIFIED:
        return holder.verified()
    if opened.standing is Standing.EXHAUSTED:
        return holder.exhausted(200)
    return holder.expired(200) if opened.standing is Standing.EXPIRED else holder.form()


async def _posted(wiring: Wiring, holder: Holder, form: dict[str, str], request_id: str) -> Page:
    """Do what the holder of a genuine link posted."""
    resend = "action" in form
    if holder.opened.standing is Standing.VERIFIED or (resend and holder.opened.standing is Standing.OPEN):
        return _shown(holder, holder.opened)
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


def _response(reader: Reader, page: Page) -> Response[bytes]:
    headers = dict(HEADERS)
    if page.retry_after is not None:
        headers["Retry-After"] = str(page.retry_after)
    return Response(reader.html(page), status_code=page.status, media_type="text/html", headers=headers)


def _link(request: HttpRequest, channel: Channel) -> Link | None:
    """Read the link; parameters that others add on the way, as mail programs do, are none of it."""
    found = _pairs(request.scope["query_string"], frozenset(_PARAMETERS), strict=False)
    if found is None or any(len(found.get(name, "")) > most for name, most in _PARAMETERS.items()):
        return None
    user_id, organization_id, signature = (found.get(name, "") for name in ("userID", "orgID", "sig"))
    if not user_id or not organization_id or not signature:
        return None
    return Link(channel, user_id, organization_id, found.get("code", ""), signature)


async def _form(request: HttpRequest, headers: Headers) -> dict[str, str] | None:
    """Read the fields of a form; None: it was not posted by one of these pages."""
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type != _FORM or b"content-encoding" in headers or _is_foreign(request, headers):
        return None
    raw, more = b"", True
    while more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            return None
        raw += message.get("body", b"")
        more = message.get("more_body", False)
        if len(raw) > _BODY_MAX_BYTES:
            return None
    request.scope["state"]["body_read"] = True
    form = _pairs(raw, _FIELDS, strict=True)
    return form if form is not None and (form.keys() == {"code"} or form == {"action": _RESEND}) else None


def _is_foreign(request: HttpRequest, headers: Headers) -> bool:
    """Whether a browser says that a page of somebody else posts.

    These pages let no referrer out, so that a browser names no origin for them but ``null``.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITES
    origin = headers.get(b"origin", b"null").decode("latin-1")
    public = urlsplit(request.app.state.wiring.settings.public_url).netloc
    return origin != "null" and urlsplit(origin).netloc not in {public, headers.get(b"host", b"").decode("latin-1")}


def _pairs(raw: bytes, known: frozenset[str], *, strict: bool) -> dict[str, str] | None:
    """Decode ``name=value`` pairs; None: not UTF-8, one of the known names twice, or, if ``strict``, another name."""
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=strict,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        return None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found or (strict and name not in known):
            return None
        if name in known:
            found[name] = value
    return found


ROUTES: list[HTTPRouteHandler] = [made for channel in Channel for made in _routes_of(channel)]
