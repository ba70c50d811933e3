"""Pages for people."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, get
from markupsafe import Markup, escape

from schema_user.api.door import is_local
from schema_user.errors import Missing
from schema_user.store.mailbox import Mailbox

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

_SHOWN: Final = 100
"""Messages on the mailbox page, the newest of all."""

_FOLDER: Final = Path(__file__).parent / "templates"
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False
)
_LINK: Final = re.compile(r"https?://\S+")
_STYLE: Final = (_FOLDER / "mailbox.css").read_text(encoding="utf-8")
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def linked(text: str) -> Markup:
    """Turn web addresses into links, whole to the next white space: a code may well stand at their end."""
    made, end = Markup(), 0
    for match in _LINK.finditer(text):
        link = Markup('<a href="{0}" rel="noopener noreferrer">{0}</a>').format(match[0])
        made += escape(text[end : match.start()]) + link
        end = match.end()
    return made + escape(text[end:])


_TEMPLATES.filters["linked"] = linked


@get("/ui/mailbox")
async def mailbox_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show the messages in the local mailbox, to this machine itself only: they hold codes.

    The door lets a token in from anywhere, so where the request comes from is asked once more.
    """
    settings = request.app.state.wiring.settings
    if not settings.embedded or not is_local(dict(request.scope), dict(request.scope["headers"])):
        raise Missing("PATH_UNKNOWN", "there is nothing at this path")
    letters = await asyncio.to_thread(Mailbox(settings.data_dir).newest, _SHOWN)
    page = _TEMPLATES.get_template("mailbox.html.j2").render(style=_STYLE, letters=letters)
    return Response(page.encode(), media_type="text/html", headers=_HEADERS)


ROUTES: list[HTTPRouteHandler] = [mailbox_page]
