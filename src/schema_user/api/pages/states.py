"""The pages behind signed links in each of their states, as HTML; which one it is, the pages themselves find out."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schema_user.api.pages.words import WORDS, spoken
from schema_user.domain.password import MAX_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_user.commands.links import Opened
    from schema_user.commands.password_resets import OpenedReset
    from schema_user.domain.link import Link

CODE_MAX_CHARACTERS: Final = 20

_FOLDER: Final = Path(__file__).parents[1] / "templates"
_TEMPLATE: Final = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False
).get_template("verification.html.j2")
_STYLE: Final = (_FOLDER / "verification.css").read_text(encoding="utf-8")
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer shows.

    ``code`` fills in the field for the code; None: there is no such field. ``code_wrong`` ties the problem to it.
    ``resend`` offers another code. ``rules`` say what a new password needs, beside the fields for it; None: there are
    no such fields. ``password_wrong`` ties the problem to them. ``retry_after`` is in seconds.
    """

    status: int
    heading: str
    texts: tuple[str, ...] = ()
    problem: str | None = None
    code: str | None = None
    code_wrong: bool = False
    resend: bool = False
    rules: str | None = None
    password_wrong: bool = False
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Whoever asks for a page, by the language that the browser prefers; nothing is known of anybody."""

    language: str
    service: str

    def word(self, name: str, **values: object) -> str:
        """Give words, with the values for their places."""
        return WORDS[self.language][name].format(**values)

    def html(self, page: Page) -> bytes:
        """Write a page that has no form."""
        return self._html(page, query="", renew="")

    def _html(self, page: Page, *, query: str, renew: str) -> bytes:
        title = page.heading if page.problem is None else self.word("problem.title", title=page.heading)
        return _TEMPLATE.render(
            language=self.language,
            service=self.service,
            words=WORDS[self.language],
            style=_STYLE,
            title=f"{title} | {self.service}",
            page=page,
            query=query,
            renew=renew,
            longest=CODE_MAX_CHARACTERS,
            longest_password=MAX_LENGTH,
        ).encode()

    def neutral(self) -> Page:
        """Say that the link leads nowhere, and not why."""
        return Page(404, self.word("neutral"), (self.word("neutral.text"), self.word("neutral.advice")))

    def many(self, seconds: int) -> Page:
        """Say that there were too many requests, whoever made them."""
        return Page(429, self.word("many"), (self.word("many.text", span=self.span(seconds)),), retry_after=seconds)

    def later(self, seconds: int) -> Page:
        """Say that the service cannot answer."""
        return Page(503, self.word("later"), (self.word("later.text"),), retry_after=seconds)

    def span(self, seconds: int) -> str:
        """Say how long to wait."""
        return spoken(WORDS[self.language], seconds)


@dataclass(frozen=True, slots=True)
class Holder(Reader):
    """Whoever opened a genuine link; the language is the user's own, where there are words in it."""

    link: Link
    opened: Opened

    def _own(self, name: str) -> str:
        """Give words that depend on the channel, and may name the address."""
        return self.word(f"{self.link.channel}.{name}", address=self.opened.address, service=self.service)

    @property
    def _later_code(self) -> str | None:
        """Give an empty field if a code waits that may be entered, though that of the link may not."""
        return "" if self.opened.code_waits else None

    def html(self, page: Page) -> bytes:
        """Write a page whose forms lead back to the link."""
        return self._html(page, query=self.link.query, renew=self.word("renew", address=self.opened.address))

    def form(self) -> Page:
        """Ask for the code, with the one of the link filled in."""
        return Page(200, self._own("heading"), (self._own("intro"),), code=self.link.code)

    def missing(self, entered: str) -> Page:
        """Ask again, as nothing was entered that could be a code."""
        return self._asking_again(self.word("missing"), entered)

    def wrong(self, entered: str, left: int) -> Page:
        """Ask again, as the code was wrong."""
        problem = self.word("wrong.last") if left == 1 else self.word("wrong", count=left)
        return self._asking_again(problem, entered)

    def _asking_again(self, problem: str, entered: str) -> Page:
        return Page(400, self._own("heading"), (), problem, code=entered, code_wrong=True)

    def expired(self, status: int) -> Page:
        """Offer another code; one that was sent since can be entered too."""
        return Page(status, self._own("heading"), (), self.word("expired"), code=self._later_code, resend=True)

    def exhausted(self, status: int, retry_after: int | None = None) -> Page:
        """Offer another code, as no more can be tried."""
        return Page(status, self._own("heading"), (), self.word("exhausted"), resend=True, retry_after=retry_after)

    def soon(self, seconds: int) -> Page:
        """Say when another code can be sent."""
        problem = self.word("soon", span=self.span(seconds))
        return Page(429, self._own("heading"), (), problem, code=self._later_code, resend=True, retry_after=seconds)

    def sent(self) -> Page:
        """Ask for the code that was just sent."""
        return Page(200, self.word("sent"), (self.word("sent.text", address=self.opened.address),), code="")

    def done(self) -> Page:
        """Say that the address is verified."""
        return Page(200, self._own("done"), (self._own("done.text"),))

    def verified(self) -> Page:
        """Say that the address was verified before."""
        return Page(200, self._own("verified"), (self._own("verified.text"),))


@dataclass(frozen=True, slots=True)
class ResetHolder(Reader):
    """Whoever opened a genuine link to a new password."""

    link: Link
    opened: OpenedReset

    def html(self, page: Page) -> bytes:
        """Write a page whose form leads back to the link."""
        return self._html(page, query=self.link.query, renew="")

    def form(self) -> Page:
        """Ask for the new password."""
        return Page(200, self.word("reset.heading"), rules=self._rules)

    @property
    def _rules(self) -> str:
        asked = ("minLength", *(each.reason for each in self.opened.policy.problems("") if each.reason != "minLength"))
        return self.word("reset.rules", rules=self._listed(asked))

    def _listed(self, reasons: Iterable[str]) -> str:
        counts = {"minLength": self.opened.policy.min_length, "maxLength": MAX_LENGTH}
        return ", ".join(self.word(f"reset.{reason}", count=counts.get(reason)) for reason in reasons)

    def _asking_again(self, problem: str) -> Page:
        return Page(400, self.word("reset.heading"), (), problem, rules=self._rules, password_wrong=True)

    def missing(self) -> Page:
        """Ask again, as a field was empty."""
        return self._asking_again(self.word("reset.missing"))

    def differs(self) -> Page:
        """Ask again, as the two fields differ."""
        return self._asking_again(self.word("reset.differs"))

    def weak(self, reasons: Iterable[str]) -> Page:
        """Ask again, as the password breaks rules of the policy."""
        return self._asking_again(self.word("reset.weak", rules=self._listed(reasons)))

    def over(self, status: int) -> Page:
        """Say that the link is of no more use."""
        return Page(status, self.word("reset.over"), (self.word("reset.over.text"),))

    def done(self) -> Page:
        """Say that the password is set."""
        return Page(200, self.word("reset.done"), (self.word("reset.done.text", service=self.service),))
