"""The verification pages as a person uses them: in a real browser, without scripts, with eyes, keys and ears."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from schema_user.api.pages.words import WORDS
from tests.browser.states import STATES, Reader, press
from tests.links import code_in, links_to, wrong

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.browser.conftest import Visits
    from tests.conftest import Server, Tenant

LANGUAGES = sorted(WORDS)
_USUAL = {("es", "email"), ("de", "phone")}
READERS = [
    pytest.param(language, channel, marks=[pytest.mark.soak] * ((language, channel) not in _USUAL))
    for language in LANGUAGES
    for channel in ("email", "phone")
]
"""By language and channel: what differs between them is words, which the other tests compare too."""

# WCAG 2.2, relative luminance and contrast: what a text, the edge of a control or a ring of focus has to what is
# behind it. A colour that is partly transparent would need mixing; there is none, and one is reported as 0.
CONTRASTS = """
() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (one, other) => {
    if (one.length !== 3) return 0;
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const style = getComputedStyle(element), name = element.tagName + '.' + element.className;
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (own || element.tagName === 'INPUT') {
      found.push([name + ' text', ratio(parse(style.color), behind(element)), 4.5]);
    }
    if (element.matches('input')) {
      found.push([name + ' edge', ratio(parse(style.borderTopColor), behind(element.parentElement)), 3]);
    }
    if (element.matches('button')) {
      found.push([name + ' shape', ratio(parse(style.borderTopColor), behind(element.parentElement)), 3]);
    }
  }
  return found;
}
"""
RING = """
() => {
  const style = getComputedStyle(document.activeElement);
  return [style.outlineStyle, parseFloat(style.outlineWidth)];
}
"""


async def active(page: Page) -> str:
    """Name the element that has the focus."""
    return str(await page.evaluate("document.activeElement.id || document.activeElement.className"))


@pytest.mark.parametrize(("language", "channel"), READERS)
async def test_from_the_mailbox_to_done(
    tenant: Tenant, server: Server, visits: Visits, language: str, channel: str
) -> None:
    """A click in the mailbox and one on the page, without any script; every page is in the user's language."""
    reader, words = Reader(tenant, language, channel), WORDS[language]
    async with visits.open() as page:
        await page.goto(f"{server.url}/ui/mailbox")
        await page.locator("article", has_text=reader.address).get_by_role("link").click()
        await expect(page).to_have_url(reader.link)
        await expect(page.locator("html")).to_have_attribute("lang", language)
        await expect(page.get_by_role("heading", level=1)).to_have_text(words[f"{channel}.heading"])
        await expect(page.get_by_role("textbox", name=words["label"])).to_have_value(reader.code)
        assert not reader.is_verified
        await page.get_by_role("button", name=words["confirm"]).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(words[f"{channel}.done"])
    assert reader.is_verified


async def test_with_the_keyboard_alone(tenant: Tenant, visits: Visits) -> None:
    """Nothing takes the focus at first; after a mistake the summary has it, and leads to the field."""
    reader = Reader(tenant, "en")
    async with visits.open() as page:
        await page.goto(reader.link)
        assert await active(page) == ""
        await page.keyboard.press("Tab")
        assert await active(page) == "code"
        assert await page.evaluate(RING) == ["solid", 3]
        await page.keyboard.press("ControlOrMeta+A")
        await page.keyboard.type(wrong(reader.code))
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Confirm")).to_be_focused()
        assert await page.evaluate(RING) == ["solid", 3]
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#code")).to_be_focused()
        await page.keyboard.press("ControlOrMeta+A")
        await page.keyboard.type(reader.code.lower())
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Your email address is confirmed")
    assert reader.is_verified


async def test_another_code_is_asked_for_and_entered_on_one_page(tenant: Tenant, visits: Visits) -> None:
    """An expired link, its button, and the code of the new message typed by hand."""
    reader = Reader(tenant, "en")
    reader.expire()
    async with visits.open() as page:
        await page.goto(reader.link)
        await press(page, "button[name=action]")
        await expect(page.get_by_role("heading", level=1)).to_have_text("A new code is on its way")
        fresh = code_in(links_to(tenant.server, reader.address, 2)[-1])
        await page.get_by_label("Code").fill(fresh)
        await press(page, "form button")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Your email address is confirmed")
    assert reader.is_verified


@pytest.mark.parametrize("state", STATES)
async def test_every_state_can_be_seen_and_heard(tenant: Tenant, visits: Visits, state: str) -> None:
    """Narrow, light and dark: nothing hides at the side, all contrasts are AA, all roles have names."""
    language = LANGUAGES[STATES.index(state) % len(LANGUAGES)]
    reader = Reader(tenant, language)
    async with visits.open(width=320) as page:
        await reader.reach(page, state)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            seen: list[tuple[str, float, float]] = await page.evaluate(CONTRASTS)
            assert len(seen) > 2
            assert [(name, ratio) for name, ratio, least in seen if ratio < least] == []
        assert await page.evaluate("document.documentElement.scrollWidth") == 320
        await hear(page, state, language)


async def hear(page: Page, state: str, language: str) -> None:
    """Go through what a screen reader is told."""
    words: dict[str, Any] = dict(WORDS[language])
    await expect(page.get_by_role("main")).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    heading = await page.get_by_role("heading", level=1).inner_text()
    title = await page.title()
    problem = state in {"missing", "wrong", "exhausted", "soon", "expired"}
    assert title == (words["problem.title"].format(title=heading) if problem else heading) + " | schema-user"
    alert = page.get_by_role("alert")
    await expect(alert).to_have_count(int(problem))
    if problem:
        await expect(alert).to_have_accessible_name(words["problem"])
        await expect(alert).to_be_focused()
    field = page.get_by_role("textbox")
    await expect(field).to_have_count(int(state in {"form", "missing", "wrong", "sent"}))
    if await field.count():
        await expect(field).to_have_accessible_name(words["label"])
        await expect(field).to_have_attribute("autocomplete", "one-time-code")
        about = words["hint"]
        if problem:
            about = f"{words['missing' if state == 'missing' else 'wrong'].format(count=4)} {about}"
            await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_have_accessible_description(about)
    buttons = await page.get_by_role("button").all_inner_texts()
    offered = {"form": "confirm", "missing": "confirm", "wrong": "confirm", "sent": "confirm"}
    again = {"exhausted": "resend", "soon": "resend", "expired": "resend"}
    name = {**offered, **again}.get(state)
    assert buttons == ([] if name is None else [words[name]])


async def test_a_page_of_somebody_else_cannot_post(tenant: Tenant, visits: Visits) -> None:
    """The browser says that a form comes from elsewhere, and the right code in it verifies nothing."""
    reader = Reader(tenant, "en")
    form = f'<form method="post" action="{escape(reader.link)}"><button name="code" value="{reader.code}">'
    async with visits.open() as page:
        await page.set_content(form)
        await press(page, "form button")
        await expect(page.get_by_role("heading", level=1)).to_have_text("This link cannot be used")
    assert not reader.is_verified
