"""The page that shows how messages look."""

from __future__ import annotations

import base64
import enum
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, get

from schema_user.api.door import bearer
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.access import lacking, reached_organization, require
from schema_user.domain.contact import Channel
from schema_user.domain.permission import Permission
from schema_user.domain.wording import Choice, Language, Occasion
from schema_user.errors import Malformed, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.caller import Caller
    from schema_user.wiring import Wiring

_FOLDER: Final = Path(__file__).parents[1] / "templates"
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False
)
_STYLE: Final = (_FOLDER / "preview.css").read_text(encoding="utf-8")
_OCCASIONS: Final = {
    Occasion.VERIFY: "Verify",
    Occasion.PASSWORD_RESET: "New password",
    Occasion.ADDRESS_CHANGED: "Address changed",
    Occasion.ADDRESS_REMOVED: "Address removed",
}
_CHANNELS: Final = {Channel.EMAIL: "mail", Channel.PHONE: "text message"}
_LANGUAGES: Final = {Language.EN: "English", Language.DE: "German", Language.FR: "French", Language.ES: "Spanish"}

E = TypeVar("E", bound=enum.StrEnum)


class Previews(Protocol):
    """What shows messages; the application hands it in, for the api knows nothing of deliveries."""

    @property
    def style(self) -> str:
        """The style sheet of mails."""

    async def show(self, choice: Choice, organization_id: str | None) -> Any:
        """Show a message: ``sender``, ``recipient``, ``text``, and of a mail ``subject`` and ``html``."""


@get("/ui/messages/preview")
async def preview_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show how a message looks: every `kind`, `channel` and `language`, by samples.

    With `organizationId` in the sender's name and the texts of that organization. A caller needs `message.read`, there
    or anywhere; on the local database this machine itself needs no token.
    """
    wiring: Wiring = request.app.state.wiring
    previews: Previews = request.app.state.previews
    organization_id = request.query_params.get("organizationId") or None
    await _permit(wiring, await _caller(request), organization_id)
    choice = Choice(
        _chosen(request, "kind", Occasion.VERIFY),
        _chosen(request, "channel", Channel.EMAIL),
        _chosen(request, "language", Language.EN),
    )
    page = _TEMPLATES.get_template("preview.html.j2").render(
        style=_STYLE,
        organization_id=organization_id,
        rows=list(_rows(choice, organization_id)),
        name=_name(choice.occasion, choice.channel),
        language=_LANGUAGES[choice.language],
        tag=choice.language.value,
        preview=await previews.show(choice, organization_id),
    )
    return Response(page.encode(), media_type="text/html", headers=_headers(_STYLE, previews.style))


async def _caller(request: Request[Any, Any, Any]) -> Caller:
    """Give who asks; this machine itself, whom the door lets in without a token, only on the local database.

    Raises:
        Unauthenticated: without a token elsewhere.
    """
    state, rooms = request.scope["state"], request.app.state
    found: Caller | None = state.get("caller")
    if found is None:
        local = rooms.wiring.settings.embedded
        found = OPERATOR if local else await rooms.gatekeeper.caller(bearer(state["headers"]))
    return found


async def _permit(wiring: Wiring, caller: Caller, organization_id: str | None) -> None:
    """Let a caller see what it may read of messages.

    Raises:
        Missing: for an organization that is not there for the caller.
        Denied: without ``message.read``.
    """
    if organization_id is None:
        if caller.organizations(Permission.MESSAGE_READ) == frozenset():
            raise lacking(Permission.MESSAGE_READ)
        return
    exists = await wiring.organizations.find(organization_id) is not None
    reached_organization(caller, organization_id, exists=exists)
    require(caller, Permission.MESSAGE_READ, organization_id)


def _chosen(request: Request[Any, Any, Any], name: str, default: E) -> E:
    """Read a parameter of the page."""
    given, options = request.query_params.get(name), type(default)
    if given is None:
        return default
    try:
        return options(given)
    except ValueError:
        rule = f"must be one of {', '.join(options)}"
        raise Malformed("FIELD_INVALID", f"{name} {rule}", [Violation(name, rule, "enum")]) from None


def _rows(choice: Choice, organization_id: str | None) -> Iterator[dict[str, Any]]:
    """Give the table of all messages: a row for each kind and channel, with a link for each language."""
    for occasion, channel in itertools.product(Occasion, Channel):
        links = [_link(Choice(occasion, channel, language), choice, organization_id) for language in Language]
        yield {"name": _name(occasion, channel), "links": links}


def _link(to: Choice, shown: Choice, organization_id: str | None) -> dict[str, Any]:
    query = {"kind": to.occasion.value, "channel": to.channel.value, "language": to.language.value}
    if organization_id is not None:
        query["organizationId"] = organization_id
    return {"name": _LANGUAGES[to.language], "query": urlencode(query), "chosen": to == shown}


def _name(occasion: Occasion, channel: Channel) -> str:
    return f"{_OCCASIONS[occasion]}, {_CHANNELS[channel]}"


def _headers(*styles: str) -> dict[str, str]:
    """Allow these style sheets and nothing else; a mail in a frame stands under the policy of the page around it."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in styles
    )
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src {allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


ROUTES: list[HTTPRouteHandler] = [preview_page]
