"""What the pages have in common to which the signed links in messages lead.

Opening one changes nothing, as mail scanners open links; a form is posted back to the link, without any script. The
link is what entitles to the request, and what a page of somebody else cannot know. Whoever has no genuine one is
answered by one and the same page, whatever is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from litestar import Request, Response
from litestar.enums import HttpMethod

from schema_user.api.pages.states import CODE_MAX_CHARACTERS, HEADERS, Page, Reader
from schema_user.api.pages.words import accepted_language
from schema_user.api.peer import peer_network
from schema_user.domain.link import Link
from schema_user.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from schema_user.api.door import Headers
    from schema_user.domain.contact import Channel
    from schema_user.wiring import Wiring

_SPAN: Final = timedelta(minutes=1)
"""In which the requests to the pages are counted."""

_BODY_MAX_BYTES: Final = 8 * 1024
_MOST_FIELDS: Final = 32
_ID_MAX_CHARACTERS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"
_PARAMETERS: Final = {
    "userID": _ID_MAX_CHARACTERS,
    "code": CODE_MAX_CHARACTERS,
    "orgID": _ID_MAX_CHARACTERS,
    "sig": _ID_MAX_CHARACTERS,
}
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})

HttpRequest = Request[Any, Any, Any]
Form = dict[str, str]
H = TypeVar("H", bound=Reader)


@dataclass(frozen=True, slots=True)
class SignedPage(Generic[H]):
    """A page behind the signed links of a channel (None: those to a new password).

    ``forms`` are the sets of fields that are posted. ``hold`` gives whoever has a genuine link, else None; ``shown`` is
    the page for somebody who opens it, ``posted`` that for somebody who posts a form, by the id of the request.
    """

    channel: Channel | None
    forms: Collection[frozenset[str]]
    hold: Callable[[Wiring, Link, Reader], Awaitable[H | None]]
    shown: Callable[[H], Page]
    posted: Callable[[Wiring, H, Form, str], Awaitable[Page]]

    async def answer(self, request: HttpRequest) -> Response[bytes]:
        """Answer a request to the page, whoever it is from."""
        wiring: Wiring = request.app.state.wiring
        headers: Headers = request.scope["state"]["headers"]
        language = accepted_language(headers.get(b"accept-language", b"").decode("latin-1"))
        reader = Reader(language, wiring.settings.service)
        try:
            return await self._limited(request, wiring, headers, reader)
        except Unavailable as fault:
            return _response(reader, reader.later(fault.retry_after or 1))

    async def _limited(self, request: HttpRequest, wiring: Wiring, headers: Headers, reader: Reader) -> Response[bytes]:
        """Answer whoever did not ask too often."""
        settings = wiring.settings
        peer = peer_network(request.scope, headers, settings.trusted_proxies)
        if (wait := await _wait(wiring, f"page peer {peer}", settings.pages_per_peer)) is not None:
            return _response(reader, reader.many(wait))
        link = _link(request, self.channel)
        form = await self._posted_form(request, headers) if request.method == HttpMethod.POST else {}
        holder = None if link is None or form is None else await self.hold(wiring, link, reader)
        if link is None or form is None or holder is None:
            return _response(reader, reader.neutral())
        if (wait := await _wait(wiring, f"page user {link.user_id}", settings.pages_per_user)) is not None:
            return _response(holder, holder.many(wait))
        if request.method == HttpMethod.POST:
            return _response(holder, await self.posted(wiring, holder, form, request.scope["state"]["request_id"]))
        return _response(holder, self.shown(holder))

    async def _posted_form(self, request: HttpRequest, headers: Headers) -> Form | None:
        form = await _form(request, headers, frozenset().union(*self.forms))
        return form if form is not None and frozenset(form) in self.forms else None


async def _wait(wiring: Wiring, name: str, limit: int) -> int | None:
    """Count a request; None: it is within the limit. Else in how many seconds there is room."""
    now = wiring.now()
    until = await wiring.quotas.take(name, limit, _SPAN, now)
    return None if until is None else max(1, math.ceil((until - now).total_seconds()))


def _response(reader: Reader, page: Page) -> Response[bytes]:
    headers = dict(HEADERS)
    if page.retry_after is not None:
        headers["Retry-After"] = str(page.retry_after)
    return Response(reader.html(page), status_code=page.status, media_type="text/html", headers=headers)


def _link(request: HttpRequest, channel: Channel | None) -> Link | None:
    """Read the link; parameters that others add on the way, as mail programs do, are none of it."""
    found = _pairs(request.scope["query_string"], frozenset(_PARAMETERS), strict=False)
    if found is None or any(len(found.get(name, "")) > most for name, most in _PARAMETERS.items()):
        return None
    user_id, organization_id, signature = (found.get(name, "") for name in ("userID", "orgID", "sig"))
    if not user_id or not organization_id or not signature:
        return None
    return Link(channel, user_id, organization_id, found.get("code", ""), signature)


async def _form(request: HttpRequest, headers: Headers, names: frozenset[str]) -> dict[str, str] | None:
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
    return _pairs(raw, names, strict=True)


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
