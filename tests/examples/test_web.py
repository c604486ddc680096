"""The example page in a real browser: small screens, the keyboard, and the development server of Vite."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.async_api import FilePayload, Page, ViewportSize, expect

from tests.examples.page import Site, Visit, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE = ViewportSize(width=375, height=812)


async def test_fits_a_phone_and_works_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    await page.set_viewport_size(PHONE)
    await page.goto(visit.site.url)
    await expect(page.get_by_label("E-mail")).to_be_focused()
    assert await overflow(page) == 0
    await page.keyboard.type("ada@example.com")
    await page.keyboard.press("Tab")
    await page.keyboard.type("adx-demo-password")
    await page.keyboard.press("Enter")
    await expect(visit.state).to_have_text("Live")
    assert await overflow(page) == 0

    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Tenant: Acme")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Globex")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Globex")).to_be_hidden()
    for _ in range(2):
        await page.keyboard.press("Tab")
    await expect(page.get_by_label("Upload a file")).to_be_focused()
    await page.get_by_label("Upload a file").set_input_files(
        FilePayload(name=f"{'a-very-long-name' * 6}.txt", mimeType="text/plain", buffer=b"words")
    )
    await visit.operation("File upload").locator("summary").focus()
    await expect(visit.operation("File upload")).to_contain_text("Completed")
    assert await overflow(page) == 0


async def test_development_server_forwards_requests_to_the_gateway(site: Site, tmp_path: Path) -> None:
    """`make web` and `npm run dev` start the same server."""
    with served(gateway=site.stack.url, log=tmp_path / "vite.log") as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"origin": url}) as http:
            page = await http.get("/src/main.tsx")
            response = await http.post("/graphql", json={"query": "{ viewer { user { id } } }"})
    assert "createRoot" in page.text
    assert response.json()["data"] == {"viewer": None}


async def overflow(page: Page) -> int:
    """Return the number of pixels by which the page is wider than its window."""
    wide: int = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wide
