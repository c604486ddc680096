"""The example page in front of a gateway whose network and mail server a test can make fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Locator, Page, Request, WebSocket, expect

from tests.end_to_end.client import PASSWORD
from tests.mail_server import MailServer, running_mail_server
from tests.servers import HOST, wait_until
from tests.stack import ROOT, Stack, plain_environment, start_separate_stack
from tools.chaos.proxy import NetworkConditions, ProxyNetwork
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process

WEB = ROOT / "examples" / "web"
_NODE = shutil.which("node") or "node"
_VITE = WEB / "node_modules" / "vite" / "bin" / "vite.js"
SECONDS = 1000
"""Milliseconds per second, for timeouts of Playwright."""

RECORD_PROGRESS_BARS = """
window.seen = {};
setInterval(() => document.querySelectorAll("progress").forEach((bar) => {
  const values = (window.seen[bar.getAttribute("aria-label")] ??= []);
  if (values.at(-1) !== bar.value) values.push(bar.value);
}), 10);
"""


@dataclass(frozen=True)
class Site:
    """The running page, with one network between the browser and the page's server and another behind that server."""

    url: str
    stack: Stack
    mail: MailServer
    network: ProxyNetwork

    def set_network(self, conditions: NetworkConditions) -> None:
        """Set the network conditions between the page's server and the gateway."""
        self.network.set_conditions("gateway", conditions)

    def set_network_in_front(self, conditions: NetworkConditions) -> None:
        """Set the network conditions between the browser and the page's server."""
        self.network.set_conditions("page", conditions)


@contextmanager
def running_site(folder: Path, *, built: Path = WEB / "dist", **environment: str) -> Iterator[Site]:
    """Serve the built page in front of separate gateway and worker processes with ``environment``."""
    with ProxyNetwork() as network:
        mail = network.run_server(running_mail_server())
        with start_separate_stack(folder, SMTP_URL=mail.url, **environment) as stack:
            gateway = f"http://{HOST}:{network.add_proxy('gateway', urlsplit(stack.url).port or 0)}"
            with served("preview", "--outDir", str(built), gateway=gateway, log=folder / "vite.log") as url:
                front = network.add_proxy("page", urlsplit(url).port or 0)
                yield Site(f"http://{HOST}:{front}", stack, mail, network)


@contextmanager
def served(*command: str, gateway: str, log: Path) -> Iterator[str]:
    """Serve the page by Vite in front of the gateway; yield its URL."""
    port = free_port(HOST)
    environment = plain_environment() | {"ADX_URL": gateway}
    vite = [_NODE, str(_VITE), *command, str(WEB), "--port", str(port), "--strictPort"]
    with child_process(vite, log=log, environment=environment) as process:
        url = f"http://{HOST}:{port}"
        wait_until(lambda: _responds(url), process, log)
        yield url


def npm(*command: str, **environment: str) -> None:
    """Run npm; if it fails, raise AssertionError with its output."""
    completed = subprocess.run(
        [shutil.which("npm") or "npm", *command],
        cwd=WEB,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def _responds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class Visit:
    """A user at the page. Records console errors, requests to other origins, and the frames sent over websockets."""

    page: Page
    site: Site
    console_messages: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.console_messages.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("websocket", self._on_websocket)

    @property
    def state(self) -> Locator:
        """The element that shows the state of the connection."""
        return self.page.locator(".pill")

    def step(self, operation: str, name: str) -> Locator:
        """Return the step of the newest operation with this name."""
        return self.operation(operation).get_by_role("listitem").filter(has_text=name)

    def operation(self, name: str) -> Locator:
        """Return the newest operation with this name."""
        return self.page.locator("details.operation").filter(has_text=name).first

    async def sign_in(self, email: str, password: str = PASSWORD) -> None:
        """Open the page and submit the sign-in form."""
        await self.page.goto(self.site.url)
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()

    async def sign_in_and_wait(self, email: str, name: str) -> None:
        """Sign in and wait for the greeting and a live connection."""
        await self.sign_in(email)
        await expect(self.page.get_by_role("heading", name=f"Hello, {name}")).to_be_visible()
        await expect(self.state).to_have_text("Live")

    async def sign_out(self) -> None:
        """Sign out and wait for the sign-in form."""
        await self.page.get_by_label("Account of").click()
        await self.page.get_by_role("button", name="Sign out").click()
        await expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()

    async def onboard(self, name: str, email: str) -> None:
        """Submit the onboarding form."""
        form = self.page.locator("section.onboard")
        await form.get_by_label("Name").fill(name)
        await form.get_by_label("E-mail").fill(email)
        await form.get_by_label("Password").fill("correct horse battery")
        await form.get_by_role("button", name="Onboard").click()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console_messages.append(message.text)

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.site.url).netloc:
            self.foreign_requests.append(request.url)

    def _on_websocket(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda data: self.sent.append(str(data)))
