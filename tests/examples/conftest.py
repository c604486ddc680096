"""Fixtures: a browser, the running example page, and a visit to the page in a new browser context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, async_playwright

from tests.browser.conftest import ARGUMENTS, chromium
from tests.clients.npm import installed_project
from tests.examples.page import WEB, Site, Visit, npm, running_site
from tools.chaos.proxy import NORMAL

__all__ = ["chromium"]

DESKTOP = ViewportSize(width=1280, height=900)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_browser(chromium: Path) -> AsyncIterator[Browser]:
    """One Chromium for all tests of a module; each test uses its own context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        async with browser:
            yield browser


@pytest.fixture(scope="session")
def site(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page, built after its types were generated from the current schema and checked."""
    installed_project(WEB)
    npm("run", "build")
    with running_site(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visit(shared_browser: Browser, site: Site) -> AsyncIterator[Visit]:
    """A visit to the page in a new browser context; fails if the page logs an error or calls another origin."""
    site.set_network(NORMAL)
    site.set_network_in_front(NORMAL)
    site.mail.rcpt_responses.clear()
    async with await shared_browser.new_context(viewport=DESKTOP) as context:
        visit = Visit(await context.new_page(), site)
        yield visit
    assert visit.foreign_requests == []
    assert [
        each for each in visit.console_messages if "Failed to load resource" not in each and "WebSocket" not in each
    ] == []
