"""The page for a new password as a person uses it: in a real browser, without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from schema_user.api.pages.words import WORDS
from tests.browser.states import press
from tests.browser.test_verification_page import CONTRASTS
from tests.links import links_to

if TYPE_CHECKING:
    from tests.browser.conftest import Visits
    from tests.conftest import Tenant

GOOD = "Secr3tP4ssw0rd!"


async def test_from_the_link_to_a_new_password(tenant: Tenant, visits: Visits) -> None:
    """In the user's language: the rules are told with the field, a mistake has the focus, and the link works once."""
    body = {
        "profile": {"givenName": "Minnie", "familyName": "Mouse", "preferredLanguage": "de"},
        "email": {"email": "browser-password@example.com", "isVerified": True},
    }
    user_id = tenant.owner.ok("POST", "/v2/users/human", body)["userId"]
    tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/password/reset")
    (link,) = links_to(tenant.server, "browser-password@example.com")
    words = WORDS["de"]
    async with visits.open(width=320) as page:
        await page.goto(link)
        first, again = page.get_by_label(words["reset.label"], exact=True), page.get_by_label(words["reset.again"])
        await expect(first).to_have_accessible_description(
            f"{words['reset.rules'].split('{')[0]}mindestens 8 Zeichen,"
            " ein Kleinbuchstabe, ein Großbuchstabe, eine Ziffer, ein Sonderzeichen oder Leerzeichen."
        )
        await first.fill(GOOD)
        await again.fill("something else")
        await press(page, "form button")
        await expect(page.get_by_role("alert")).to_be_focused()
        await expect(first).to_have_value("")
        await expect(first).to_have_attribute("aria-invalid", "true")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            seen: list[tuple[str, float, float]] = await page.evaluate(CONTRASTS)
            assert [(name, ratio) for name, ratio, least in seen if ratio < least] == []
        assert await page.evaluate("document.documentElement.scrollWidth") == 320
        await page.get_by_role("alert").get_by_role("link").click()
        await expect(first).to_be_focused()
        await page.keyboard.type(GOOD)
        await page.keyboard.press("Tab")
        await page.keyboard.type(GOOD)
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(words["reset.done"])
        await page.goto(link)
        await expect(page.get_by_role("heading", level=1)).to_have_text(WORDS["en"]["neutral"])
    tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/password/verify", {"password": GOOD})
