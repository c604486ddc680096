"""The example page in a real browser, against the product in processes of its own: what it does, and in bad weather."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, Page, Route, ViewportSize, WebSocketRoute, expect
from pyotp.totp import TOTP

from activities.files.limits import LIMITS
from contracts.tenants import SubscriptionTier
from tests.chaos.proxy import DOWN, FAIR, SILENT, Weather
from tests.clients.npm import installed
from tests.end_to_end.client import Client
from tests.examples.page import WEB, Site, Visit, npm, running_site, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESKTOP = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=375, height=812)
SLOW_UPLOADS = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4_000_000}
ALANS_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SECONDS = 1000  # Playwright counts in milliseconds

WATCH_BARS = """
window.seen = {};
setInterval(() => document.querySelectorAll("progress").forEach((bar) => {
  const values = (window.seen[bar.getAttribute("aria-label")] ??= []);
  if (values.at(-1) !== bar.value) values.push(bar.value);
}), 10);
"""


@pytest.fixture(scope="module")
def site(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Before it is built, its types are made of the schema as it is, and checked."""
    installed(WEB)
    npm("run", "build")
    with running_site(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visit(one_browser: Browser, site: Site) -> AsyncIterator[Visit]:
    site.turn(FAIR)
    site.turn_in_front(FAIR)
    site.mail.rcpt_says.clear()
    async with await one_browser.new_context(viewport=DESKTOP) as context:
        visit = Visit(await context.new_page(), site)
        yield visit
    assert visit.strangers == []
    assert [
        each for each in visit.complaints if "Failed to load resource" not in each and "WebSocket" not in each
    ] == []


async def test_signs_in_shows_the_dashboard_and_signs_out(visit: Visit) -> None:
    await visit.sign_in("grace@example.com", "not it")
    await expect(visit.page.get_by_role("alert")).to_have_text("The e-mail address or the password is wrong.")
    await visit.arrive("grace@example.com", "Grace")
    await expect(visit.page.get_by_text("Member at Acme")).to_be_visible()
    await expect(visit.operation("Sign-in")).to_contain_text("Completed")
    await expect(visit.page.get_by_role("heading", name="Onboard")).to_have_count(0)  # no member may

    await visit.page.reload()
    await expect(visit.page.get_by_role("heading", name="Hello, Grace")).to_be_visible()
    await visit.sign_out()


async def test_asks_for_the_code_of_the_second_factor(visit: Visit) -> None:
    page = visit.page
    await visit.sign_in("alan@example.com")
    await expect(page.get_by_role("listitem").filter(has_text="Check MFA")).to_contain_text("running")
    code = page.get_by_label("Code from your authenticator")
    right = TOTP(ALANS_SECRET).now()
    await code.fill("000000" if right != "000000" else "111111")
    await code.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_text("4 tries left")).to_be_visible()
    await code.fill(TOTP(ALANS_SECRET).now())
    await code.press("Enter")
    await expect(page.get_by_role("heading", name="Hello, Alan")).to_be_visible()


async def test_switches_the_tenant_with_each_step_shown_and_is_live_again_in_the_other(visit: Visit) -> None:
    page = visit.page
    await visit.arrive("ada@example.com", "Ada")
    await page.evaluate(WATCH_BARS)
    for here, there in (("Acme", "Globex"), ("Globex", "Acme")):
        await page.get_by_label(f"Tenant: {here}").click()
        await page.get_by_role("button", name=there).click()
        await expect(page.get_by_role("dialog").get_by_role("listitem")).to_have_count(6)
        await expect(page.get_by_text(f"Admin at {there}")).to_be_visible()
        await expect(visit.state).to_have_text("Live")
        await expect(visit.operation("Tenant switch")).to_contain_text("Completed")
    assert len((await page.evaluate("seen"))["Tenant switch: part done"]) > 4  # of twelve steps


async def test_uploads_a_file_with_its_bar_for_the_bytes_and_then_for_the_operation(
    visit: Visit, tmp_path: Path
) -> None:
    page = visit.page
    file = tmp_path / f"{uuid4().hex[:8]}.txt"
    file.write_text("two words\n" * 400_000)
    await visit.arrive("ada@example.com", "Ada")
    await page.evaluate(WATCH_BARS)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Network.emulateNetworkConditions", SLOW_UPLOADS)
    await page.get_by_label("Upload a file").set_input_files(file)
    await expect(page.get_by_text("Sending ·")).to_be_visible()
    await expect(visit.step("File upload", "Set permissions")).to_contain_text("done")
    await devtools.detach()
    seen = await page.evaluate("seen")
    for bar in ("Upload: bytes sent", "Upload: file made"):
        assert seen[bar] == sorted(seen[bar])
        assert len([value for value in seen[bar] if 0 < value < 1]) >= 2, (bar, seen[bar])

    await page.get_by_label(f"Read {file.name}").click()
    await expect(page.get_by_role("listitem").filter(has_text=file.name)).to_contain_text("800,000 words")
    async with page.expect_download() as coming:
        await page.get_by_role("link", name=file.name).click()
    assert (await (await coming.value).path()).read_bytes() == file.read_bytes()


async def upload(visit: Visit, content: bytes | Path) -> str:
    """Choose a file for upload, with these bytes; its name."""
    name = content.name if isinstance(content, Path) else f"{uuid4().hex[:8]}.txt"
    file = content if isinstance(content, Path) else FilePayload(name=name, mimeType="text/plain", buffer=content)
    await visit.page.get_by_label("Upload a file").set_input_files(file)
    return name


async def expect_upload_to_have_failed(visit: Visit, reason: str | re.Pattern[str], *, seconds: float = 15) -> None:
    """It says why, is not busy any more, and the next upload completes."""
    form = visit.page.locator(".upload")
    await expect(form.get_by_role("alert")).to_have_text(reason, timeout=seconds * SECONDS)
    await expect(form).not_to_contain_text("Sending")
    await expect(form.locator("label")).to_have_attribute("data-busy", "false")
    await visit.page.unroute_all()
    name = await upload(visit, b"words")
    await expect(form.get_by_role("status")).to_contain_text(name)
    await expect(form.get_by_role("status")).to_contain_text("100 %")
    await expect(form.get_by_role("alert")).to_have_count(0)
    await expect(form.locator("label")).to_have_attribute("data-busy", "false")


async def test_says_why_the_gateway_refused_the_bytes_of_a_file(visit: Visit) -> None:
    async def send_other_bytes(route: Route) -> None:
        await route.continue_(post_data=b"more bytes than were announced")

    await visit.arrive("ada@example.com", "Ada")
    await visit.page.route("**/uploads/**", send_other_bytes)
    async with visit.page.expect_response("**/uploads/**") as coming:
        await upload(visit, b"few")
    answer = await coming.value
    assert answer.status == 413
    message = (await answer.json())["errors"][0]["message"]
    await expect_upload_to_have_failed(visit, message)


@pytest.mark.parametrize(
    "body",
    ["", "<h1>Bad gateway</h1>", '{"message": "obsolete"}', '{"errors": []}', '{"errors": [{"message": ""}]}', "null"],
)
async def test_says_that_a_file_was_refused_whatever_shape_the_refusal_has(visit: Visit, body: str) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=502, body=body)

    await visit.arrive("ada@example.com", "Ada")
    await visit.page.route("**/uploads/**", refuse)
    await upload(visit, b"words")
    await expect_upload_to_have_failed(visit, "The file was refused (502).")


async def test_says_that_the_connection_was_lost_while_a_file_was_sent(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / f"{uuid4().hex[:8]}.txt"
    file.write_text("two words\n" * 800_000)
    await visit.arrive("ada@example.com", "Ada")
    devtools = await visit.page.context.new_cdp_session(visit.page)
    await devtools.send("Network.emulateNetworkConditions", SLOW_UPLOADS | {"uploadThroughput": 400_000})
    await upload(visit, file)
    await expect(visit.page.get_by_text(re.compile("Sending · [1-9]"))).to_be_visible()
    visit.site.turn_in_front(DOWN)
    await expect(visit.page.locator(".upload").get_by_role("alert")).to_contain_text("The connection was lost")
    visit.site.turn_in_front(FAIR)
    await devtools.detach()
    await expect(visit.state).to_have_text("Live", timeout=20 * SECONDS)
    await expect_upload_to_have_failed(visit, re.compile("The connection was lost"))


@pytest.mark.parametrize("weather", [SILENT, DOWN], ids=["silent", "down"])
async def test_gives_up_on_bytes_that_the_network_behind_the_proxy_does_not_take(
    visit: Visit, weather: Weather
) -> None:
    await visit.page.clock.install()
    await visit.arrive("ada@example.com", "Ada")

    async def fall_silent(route: Route) -> None:
        visit.site.turn(weather)
        await route.continue_()

    await visit.page.route("**/uploads/**", fall_silent)
    async with visit.page.expect_request("**/uploads/**"):
        await upload(visit, b"words")
    ended = re.compile(r"has not answered for a minute|The file was refused \(50\d\)|The connection was lost")
    alert = visit.page.locator(".upload").get_by_role("alert")
    async with asyncio.timeout(60):
        while not await alert.count():  # each sign of progress, however late it comes, begins the minute anew
            await visit.page.clock.fast_forward(10_000)
            await asyncio.sleep(0.1)
    await expect(alert).to_have_text(ended)
    visit.site.turn(FAIR)
    await visit.page.clock.fast_forward(30_000)
    await visit.page.clock.resume()
    await expect_upload_to_have_failed(visit, ended)


async def test_says_that_a_file_is_larger_than_what_is_left_of_the_quota(visit: Visit) -> None:
    await visit.arrive("ada@example.com", "Ada")
    await upload(visit, b"words")
    await expect(visit.operation("File upload")).to_contain_text("Completed")
    database = await asyncpg.connect(visit.site.stack.environment["DATABASE_URL"])
    try:
        used = LIMITS[SubscriptionTier.PROFESSIONAL].tenant - 1000
        await database.execute("UPDATE files_usage SET bytes = bytes + $1", used)
        await upload(visit, b"w" * 2000)
        form = visit.page.locator(".upload")
        await expect(form.get_by_role("alert")).to_be_visible()
        reason = await form.get_by_role("alert").text_content() or ""
        await expect(form).not_to_contain_text("Sending")
        await database.execute("UPDATE files_usage SET bytes = bytes - $1", used)
    finally:
        await database.close()
    assert "no room" in reason
    await expect_upload_to_have_failed(visit, reason)


async def test_says_that_an_operation_cannot_be_followed_any_more(visit: Visit) -> None:
    def refuse(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if "FollowOperation" not in str(message):
                server.send(message)
                return
            trouble = {"message": "It is gone.", "extensions": {"code": "NOT_FOUND"}}
            socket.send(json.dumps({"id": json.loads(message)["id"], "type": "error", "payload": [trouble]}))

        socket.on_message(pass_on)

    await visit.page.route_web_socket("**/graphql", refuse)
    await visit.arrive("ada@example.com", "Ada")
    visit.site.mail.rcpt_says[:] = ["450 Later"] * 3
    await visit.onboard("Ruth Teitelbaum", f"{uuid4().hex[:12]}@example.com")
    lost = "This operation cannot be followed any more: It is gone."
    await expect(visit.operation("User onboarding").get_by_role("alert")).to_have_text(lost)
    await expect(visit.page.locator("section.onboard").get_by_role("alert")).to_have_text(lost)


async def test_ends_a_sign_in_that_is_never_answered(visit: Visit) -> None:
    async def never_answer(route: Route) -> None:
        """The request stays open."""

    await visit.page.clock.install()
    await visit.page.goto(visit.site.url)
    await visit.page.get_by_label("E-mail").fill("ada@example.com")
    await visit.page.get_by_label("Password").fill("adx-demo-password")
    await visit.page.route("**/graphql", never_answer)
    await visit.page.get_by_role("button", name="Sign in").click()
    await expect(visit.page.get_by_role("button", name="Signing in")).to_be_disabled()
    await visit.page.clock.fast_forward(46_000)
    await expect(visit.page.get_by_role("alert")).to_contain_text("The gateway does not answer.")
    await expect(visit.page.get_by_role("button", name="Sign in")).to_be_enabled()


async def test_shows_kinds_and_statuses_that_it_does_not_know(visit: Visit) -> None:
    async def tell_of_the_future(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        viewer = (told.get("data") or {}).get("viewer")
        for operation in viewer["operations"]["nodes"] if viewer else ():
            operation |= {"kind": "TENANT_ARCHIVING", "status": "HAS_PAUSED"}
            for step in operation["progress"]["steps"]:
                step["status"] = "PUT_OFF"
        await route.fulfill(response=answer, json=told)

    await visit.page.route("**/graphql", tell_of_the_future)
    await visit.arrive("ada@example.com", "Ada")
    shown = visit.page.locator("details.operation").first
    await expect(shown).to_contain_text("Tenant archiving")
    await expect(shown).to_contain_text("Has paused")
    await expect(shown.get_by_role("listitem").first).to_contain_text("put off")
    await visit.page.unroute_all(behavior="ignoreErrors")


async def test_says_at_the_field_what_is_wrong_with_somebody_to_onboard(visit: Visit) -> None:
    await visit.arrive("ada@example.com", "Ada")
    await visit.onboard("Grace again", "grace@example.com")
    email = visit.page.locator("section.onboard .field").filter(has_text="E-mail")
    await expect(email.get_by_role("alert")).to_have_text("This e-mail address is in use.")
    await expect(visit.step("User onboarding", "Create user")).to_contain_text("failed")


async def test_onboards_somebody_over_a_network_that_is_cut_in_the_middle(visit: Visit) -> None:
    site, email = visit.site, f"{uuid4().hex[:12]}@example.com"
    await visit.arrive("ada@example.com", "Ada")
    site.mail.rcpt_says[:] = ["450 Later"] * 2
    await visit.page.get_by_label("With a second factor").check()
    await visit.onboard("Kay McNulty", email)
    letter = visit.step("User onboarding", "Send welcome email")
    await expect(letter).to_contain_text("trying again · try 2", timeout=15 * SECONDS)
    await expect(letter).to_contain_text("The mail server does not take e-mail now.")

    site.turn(DOWN)
    await expect(visit.state).to_have_text("Reconnecting")
    await expect(visit.page.get_by_text("The connection was lost.")).to_be_visible()
    await expect(letter).to_contain_text("trying again")
    before = len(visit.sent)
    site.turn(FAIR)
    await expect(visit.state).to_have_text("Live", timeout=20 * SECONDS)
    await expect(letter).to_contain_text("done", timeout=20 * SECONDS)
    await expect(visit.operation("User onboarding")).to_contain_text("Completed")
    payloads = [json.loads(frame).get("payload") for frame in visit.sent[before:]]
    resumed = [
        payload["variables"] for payload in payloads if payload and "FollowOperation" in payload.get("query", "")
    ]
    assert resumed
    assert all(variables["after"] for variables in resumed)
    assert email in site.mail.recipients

    secret = await visit.page.locator(".outcome code").text_content()
    await visit.sign_out()
    await visit.sign_in(email, "correct horse battery")
    await visit.page.get_by_label("Code from your authenticator").fill(TOTP(secret or "").now())
    await visit.page.get_by_role("button", name="Continue").click()
    await expect(visit.page.get_by_role("heading", name="Hello, Kay")).to_be_visible()


async def test_shows_what_was_undone_where_an_operation_was_cancelled(visit: Visit) -> None:
    await visit.arrive("ada@example.com", "Ada")
    database = await asyncpg.connect(visit.site.stack.environment["DATABASE_URL"])
    try:
        async with database.transaction():  # while it is open, the workspace cannot be made
            await database.execute("LOCK TABLE workspaces_workspace IN EXCLUSIVE MODE")
            await visit.onboard("Jean Jennings", f"{uuid4().hex[:12]}@example.com")
            await expect(visit.step("User onboarding", "Create workspace")).to_contain_text("running")
            async with visit.page.expect_response(lambda answer: "CancelOperation" in (answer.request.post_data or "")):
                await visit.operation("User onboarding").get_by_role("button", name="Cancel").click()
    finally:
        await database.close()
    await expect(visit.operation("User onboarding")).to_contain_text("Cancelled", timeout=20 * SECONDS)
    for undone in ("Create user", "Set up authentication", "Assign to tenant"):
        await expect(visit.step("User onboarding", undone)).to_contain_text("undone")
    await expect(visit.operation("User onboarding")).to_contain_text("Everything was undone.")


async def test_says_that_an_administrator_cannot_make_an_owner(visit: Visit) -> None:
    await visit.arrive("ada@example.com", "Ada")
    await visit.page.get_by_label("Role").select_option("owner")
    await visit.onboard("Jean Jennings", f"{uuid4().hex[:12]}@example.com")
    await expect(visit.page.locator("section.onboard").get_by_role("alert")).to_be_visible()
    await expect(visit.page.get_by_role("button", name="Onboard")).to_be_enabled()


async def test_shows_in_one_tab_what_was_started_in_another_and_cancels_it_there(visit: Visit) -> None:
    other = Visit(await visit.page.context.new_page(), visit.site)
    await visit.arrive("ada@example.com", "Ada")
    await other.page.goto(visit.site.url)
    await expect(other.state).to_have_text("Live")
    visit.site.mail.rcpt_says[:] = ["450 Later"] * 9
    await visit.onboard("Betty Holberton", f"{uuid4().hex[:12]}@example.com")
    await expect(other.step("User onboarding", "Send welcome email")).to_contain_text("trying again")
    await other.operation("User onboarding").get_by_role("button", name="Cancel").click()
    for tab in (visit, other):
        await expect(tab.step("User onboarding", "Send welcome email")).to_contain_text("failed")
        await expect(tab.operation("User onboarding")).to_contain_text("Completed")  # a letter is worth no undo


async def test_subscribes_again_where_a_part_of_the_product_is_away_for_a_while(visit: Visit) -> None:
    refused: list[str] = []

    def refuse_once(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            asked = json.loads(message)
            if "FollowOperation" not in str(message) or refused:
                server.send(message)
                return
            refused.append(asked["payload"]["variables"]["id"])
            trouble = {"message": "Try again.", "extensions": {"code": "UPSTREAM_UNAVAILABLE"}}
            socket.send(json.dumps({"id": asked["id"], "type": "error", "payload": [trouble]}))

        socket.on_message(pass_on)

    await visit.page.route_web_socket("**/graphql", refuse_once)
    await visit.arrive("ada@example.com", "Ada")
    visit.site.mail.rcpt_says[:] = ["450 Later"] * 2
    await visit.onboard("Marlyn Meltzer", f"{uuid4().hex[:12]}@example.com")
    await expect(visit.step("User onboarding", "Send welcome email")).to_contain_text("try 3", timeout=15 * SECONDS)
    assert len(refused) == 1


async def test_notices_a_network_that_swallows_everything_and_one_that_the_device_misses(visit: Visit) -> None:
    page = visit.page
    await page.clock.install()
    await visit.arrive("ada@example.com", "Ada")
    visit.site.turn(SILENT)
    await page.clock.fast_forward(10_000)  # a ping, and nothing comes back
    await page.clock.fast_forward(5_000)
    await expect(visit.state).to_have_text("Reconnecting")
    visit.site.turn(FAIR)
    await page.clock.fast_forward(15_000)
    await expect(visit.state).to_have_text("Live")

    await page.context.set_offline(True)
    await expect(visit.state).to_have_text("Reconnecting")
    await page.context.set_offline(False)
    await expect(visit.state).to_have_text("Live")


async def test_tells_of_a_switch_in_another_tab_and_changes_nothing_in_the_new_tenant(visit: Visit) -> None:
    await visit.arrive("ada@example.com", "Ada")
    (cookie,) = [each for each in await visit.page.context.cookies() if each["name"] == "adx_session"]
    there = Client(visit.site.stack, cookie["value"])
    _, token = await there.switched(await there.tenant("Globex"))
    await visit.page.context.add_cookies([{"name": "adx_session", "value": token, "url": visit.site.url}])
    await expect(visit.page.get_by_text("You have switched to Globex in another tab.")).to_be_visible()
    await expect(visit.page.get_by_text("Your session has ended.")).not_to_be_visible()
    await visit.page.get_by_role("button", name="Show Globex").click()
    await expect(visit.page.get_by_label("Tenant: Globex")).to_be_visible()
    await expect(visit.state).to_have_text("Live")
    there.token = token
    await there.switched(await there.tenant("Acme"))  # where others expect her


async def test_says_that_the_session_has_ended(visit: Visit) -> None:
    await visit.arrive("grace@example.com", "Grace")
    (cookie,) = [each for each in await visit.page.context.cookies() if each["name"] == "adx_session"]
    await Client(visit.site.stack, cookie["value"]).ask("mutation { logout { ok } }")
    await expect(visit.page.get_by_text("Your session has ended.")).to_be_visible()
    await visit.page.wait_for_timeout(1 * SECONDS)  # in which nothing has it look as if all were well
    await expect(visit.state).to_have_text("Signed out")
    await visit.page.get_by_role("button", name="Sign in again").click()
    await expect(visit.page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_fits_a_phone_and_is_used_by_the_keyboard_alone(visit: Visit) -> None:
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


async def test_is_served_in_development_with_the_gateway_behind_it(site: Site, tmp_path: Path) -> None:
    """By the command that `npm run dev` ends in; `make web` is that."""
    with served(gateway=site.stack.url, log=tmp_path / "vite.log") as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"origin": url}) as http:
            page = await http.get("/src/main.tsx")
            answer = await http.post("/graphql", json={"query": "{ viewer { user { id } } }"})
    assert "createRoot" in page.text
    assert answer.json()["data"] == {"viewer": None}


async def overflow(page: Page) -> int:
    """Pixels that the page is wider than its window."""
    wide: int = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wide
