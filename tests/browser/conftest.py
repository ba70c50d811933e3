"""A real browser, and a server whose pages it visits."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests.conftest import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page, Request

    from tests.conftest import Api

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


@pytest.fixture(scope="session")
def server(short_dir: Path) -> Iterator[Server]:
    """Run a server that one machine may visit often."""
    running = Server(short_dir / "browser", environment={"SCHEMA_USER_PAGES_PER_PEER": "100000"}).start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.fixture(scope="session")
def admin(server: Server) -> Iterator[Api]:
    """Call that server with its first token."""
    with server.client() as client:
        yield client


@dataclass
class Visit:
    """A window of the browser, and what it asked for."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def note(self, request: Request) -> None:
        """Remember a request."""
        self.asked.append(request.url)


class Visits:
    """Opens windows; each must have asked nothing of any other origin when it closes."""

    def __init__(self, browser: Browser, url: str) -> None:
        """Visit the server at ``url``."""
        self._browser = browser
        self._origin = urlsplit(url).netloc

    @contextlib.asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Page]:
        """Open a window that runs no script, in English unless the options say something else."""
        chosen: dict[str, Any] = {"java_script_enabled": False, "locale": "en-GB"} | options
        context = await self._browser.new_context(**chosen)
        visit = Visit(await context.new_page())
        context.on("request", visit.note)
        visit.page.on("console", lambda message: visit.complaints.append(message.text))
        yield visit.page
        await context.close()
        assert {urlsplit(url).netloc for url in visit.asked} == {self._origin}
        assert [each for each in visit.complaints if "Content Security Policy" in each] == []


@pytest.fixture
def visits(browser: Browser, server: Server) -> Visits:
    """Give what opens windows."""
    return Visits(browser, server.url)
