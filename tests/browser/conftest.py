"""A real browser, and windows of it that ask nothing of anybody but the server."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page, Request

    from tests.conftest import Server

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run")


def find_browser() -> str:
    """Find the browser on this machine; without one these tests fail, as skipped ones would be forgotten."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    pytest.fail(f"no browser: install Chromium (Debian package chromium); looked for {', '.join(_NAMES)}")


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Run one browser for all of these tests; each visit has a context of its own."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=find_browser(), args=_ARGUMENTS)
        yield running
        await running.close()


@dataclass
class Visit:
    """A window of the browser, and what it asked for."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def note(self, request: Request) -> None:
        """Remember a request."""
        self.asked.append(request.url)

    async def leave(self) -> None:
        """Forget what one visitor did, before the next one comes."""
        await self.page.goto("about:blank")
        await self.page.context.clear_cookies()
        await self.page.emulate_media(color_scheme="null")
        self.asked.clear()
        self.complaints.clear()


class Visits:
    """Opens windows, each of which must ask nothing of any other origin; one of each width does for all tests."""

    def __init__(self, browser: Browser, url: str) -> None:
        """Visit the server at ``url``."""
        self._browser = browser
        self._origin = urlsplit(url).netloc
        self._kept: dict[int, Visit] = {}

    @contextlib.asynccontextmanager
    async def open(self, width: int = 1280) -> AsyncIterator[Page]:
        """Open a window that runs no script, in English."""
        visit = self._kept.pop(width, None) or await self._opened(width)
        yield visit.page
        assert {urlsplit(url).netloc for url in visit.asked} == {self._origin}
        assert [each for each in visit.complaints if "Content Security Policy" in each] == []
        await visit.leave()
        self._kept[width] = visit

    async def _opened(self, width: int) -> Visit:
        context = await self._browser.new_context(
            java_script_enabled=False, locale="en-GB", viewport={"width": width, "height": 640}
        )
        visit = Visit(await context.new_page())
        context.on("request", visit.note)
        visit.page.on("console", lambda message: visit.complaints.append(message.text))
        return visit

    async def close(self) -> None:
        """Close all windows."""
        for visit in self._kept.values():
            await visit.page.context.close()


@pytest_asyncio.fixture(scope="session")
async def visits(browser: Browser, server: Server) -> AsyncIterator[Visits]:
    """Give what opens windows."""
    made = Visits(browser, server.url)
    yield made
    await made.close()
