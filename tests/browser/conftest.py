"""Fixtures: Chromium and a built GraphiQL; tests are skipped on a machine without Chromium or Node.js."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from gateway.explorer.build import MIN_NODE_VERSION, main, node_version

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Path of the installed Chromium."""
    path = Path(os.environ.get("CHROMIUM") or "/usr/bin/chromium")
    if not path.is_file():
        pytest.skip(f"There is no Chromium at {path}; install one or name it by CHROMIUM.")
    return path


@pytest.fixture(scope="session")
def explorer(chromium: Path) -> None:
    """Build GraphiQL, only if Chromium is installed because the first build takes a minute."""
    if (node_version() or 0) < MIN_NODE_VERSION:
        pytest.skip(f"GraphiQL is built by Node.js {MIN_NODE_VERSION} or newer, which is not here.")
    assert main() == 0


@pytest.fixture
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """A headless Chromium of this machine; Playwright downloads no browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        async with browser:
            yield browser


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """The folder for screenshots, which a person can inspect after the tests."""
    folder = Path(__file__).parent.parent / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder
