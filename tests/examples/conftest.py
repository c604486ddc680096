"""What the examples run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.conftest import ARGUMENTS, chromium

__all__ = ["chromium"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_browser(chromium: Path) -> AsyncIterator[Browser]:
    """For all tests of a module: they keep out of each other's way by contexts of their own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        async with browser:
            yield browser
