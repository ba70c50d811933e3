"""The verification page in each of its states, reached as a person reaches it."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx

from tests.conftest import ANY_TLS, age
from tests.links import code_in, links_to, wrong

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.conftest import Tenant

STATES = ("form", "missing", "wrong", "exhausted", "soon", "expired", "sent", "done", "verified", "many", "neutral")
ADDRESSES = {"email": "address", "phone": "number"}
_SCHEMA = {"type": "object", "properties": {"preferredLanguage": {"type": "string"}}}
_numbers = itertools.count(1)


class Reader:
    """A user who was sent a link, in a language."""

    def __init__(self, tenant: Tenant, language: str, channel: str = "email") -> None:
        """Make the user and wait for the message."""
        number = next(_numbers)
        made = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": f"reader {number}", "schema": _SCHEMA})
        data = {"preferredLanguage": language}
        self.user_id = tenant.user(schemaId=made["id"], data=data)
        self.address = f"browser-{number}@example.com" if channel == "email" else f"+4178{number:03}1234"
        self._tenant = tenant
        self._channel = channel
        body = {ADDRESSES[channel]: self.address}
        tenant.owner.ok("PUT", f"/v3alpha/users/{self.user_id}/{channel}", body)
        self.link = links_to(tenant.server, self.address)[0]
        self.code = code_in(self.link)

    @property
    def is_verified(self) -> bool:
        """Whether the address counts as verified."""
        user = self._tenant.owner.ok("GET", f"/v3alpha/users/{self.user_id}")["user"]
        return bool(user["contact"][self._channel]["isVerified"])

    def expire(self) -> None:
        """Let two hours pass."""
        age(self._tenant.server, self.user_id, self._channel, timedelta(hours=2))

    async def reach(self, page: Page, state: str) -> None:
        """Bring the page into a state."""
        if state == "neutral":
            await page.goto(self.link[:-1])
            return
        if state == "many":
            async with httpx.AsyncClient(verify=ANY_TLS) as client:
                for _ in range(30):
                    await client.get(self.link)
        if state in {"expired", "sent"}:
            self.expire()
        await page.goto(self.link)
        if state in {"done", "verified"}:
            await press(page, "form button")
        if state == "verified":
            await page.goto(self.link)
        if state == "missing":
            await self._enter(page, " ")
        for _ in range({"wrong": 1, "exhausted": 5, "soon": 5}.get(state, 0)):
            await self._enter(page, wrong(self.code))
        if state in {"sent", "soon"}:
            await press(page, "button[name=action]")

    async def _enter(self, page: Page, code: str) -> None:
        await page.locator("#code").fill(code)
        await press(page, "form button")


async def press(page: Page, button: str) -> None:
    """Press the first of these buttons, and wait for the page that it leads to."""
    async with page.expect_navigation():
        await page.locator(button).first.click()
