"""The example page in a real browser: uploads, their progress, and their failures."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from playwright.async_api import FilePayload, Route, expect

from activities.files.quotas import LIMITS
from contracts.tenants import SubscriptionTier
from tests.examples.page import RECORD_PROGRESS_BARS, SECONDS, Visit
from tools.chaos.proxy import DOWN, NORMAL, STALLED, NetworkConditions

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW_UPLOADS = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4_000_000}


async def test_shows_the_progress_of_the_upload_and_then_of_the_operation(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    file = tmp_path / f"{uuid4().hex[:8]}.txt"
    file.write_text("two words\n" * 400_000)
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await page.evaluate(RECORD_PROGRESS_BARS)
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
    async with page.expect_download() as pending:
        await page.get_by_role("link", name=file.name).click()
    assert (await (await pending.value).path()).read_bytes() == file.read_bytes()


async def upload(visit: Visit, content: bytes | Path) -> str:
    """Choose a file with this content for upload; return its name."""
    name = content.name if isinstance(content, Path) else f"{uuid4().hex[:8]}.txt"
    file = content if isinstance(content, Path) else FilePayload(name=name, mimeType="text/plain", buffer=content)
    await visit.page.get_by_label("Upload a file").set_input_files(file)
    return name


async def expect_upload_to_have_failed(visit: Visit, reason: str | re.Pattern[str], *, seconds: float = 15) -> None:
    """Expect the reason at the form, which is not busy any more, and the next upload to complete."""
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


async def test_shows_why_the_gateway_refused_a_file(visit: Visit) -> None:
    async def send_other_bytes(route: Route) -> None:
        await route.continue_(post_data=b"more bytes than were announced")

    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await visit.page.route("**/uploads/**", send_other_bytes)
    async with visit.page.expect_response("**/uploads/**") as pending:
        await upload(visit, b"few")
    response = await pending.value
    assert response.status == 413
    message = (await response.json())["errors"][0]["message"]
    await expect_upload_to_have_failed(visit, message)


@pytest.mark.parametrize(
    "body",
    ["", "<h1>Bad gateway</h1>", '{"message": "obsolete"}', '{"errors": []}', '{"errors": [{"message": ""}]}', "null"],
)
async def test_shows_that_a_file_was_refused_for_any_response_body(visit: Visit, body: str) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=502, body=body)

    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await visit.page.route("**/uploads/**", refuse)
    await upload(visit, b"words")
    await expect_upload_to_have_failed(visit, "The file was refused (502).")


async def test_shows_that_the_connection_was_lost_during_an_upload(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / f"{uuid4().hex[:8]}.txt"
    file.write_text("two words\n" * 800_000)
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    devtools = await visit.page.context.new_cdp_session(visit.page)
    await devtools.send("Network.emulateNetworkConditions", SLOW_UPLOADS | {"uploadThroughput": 400_000})
    await upload(visit, file)
    await expect(visit.page.get_by_text(re.compile("Sending · [1-9]"))).to_be_visible()
    visit.site.set_network_in_front(DOWN)
    await expect(visit.page.locator(".upload").get_by_role("alert")).to_contain_text("The connection was lost")
    visit.site.set_network_in_front(NORMAL)
    await devtools.detach()
    await expect(visit.state).to_have_text("Live", timeout=20 * SECONDS)
    await expect_upload_to_have_failed(visit, re.compile("The connection was lost"))


@pytest.mark.parametrize("conditions", [STALLED, DOWN], ids=["silent", "down"])
async def test_upload_times_out_when_the_network_behind_the_proxy_fails(
    visit: Visit, conditions: NetworkConditions
) -> None:
    await visit.page.clock.install()
    await visit.sign_in_and_wait("ada@example.com", "Ada")

    async def change_network(route: Route) -> None:
        visit.site.set_network(conditions)
        await route.continue_()

    await visit.page.route("**/uploads/**", change_network)
    async with visit.page.expect_request("**/uploads/**"):
        await upload(visit, b"words")
    ended = re.compile(r"has not answered for a minute|The file was refused \(50\d\)|The connection was lost")
    alert = visit.page.locator(".upload").get_by_role("alert")
    async with asyncio.timeout(60):
        while not await alert.count():  # each late sign of progress restarts the minute
            await visit.page.clock.fast_forward(10_000)
            await asyncio.sleep(0.1)
    await expect(alert).to_have_text(ended)
    visit.site.set_network(NORMAL)
    await visit.page.clock.fast_forward(30_000)
    await visit.page.clock.resume()
    await expect_upload_to_have_failed(visit, ended)


async def test_shows_that_a_file_exceeds_the_remaining_quota(visit: Visit) -> None:
    await visit.sign_in_and_wait("ada@example.com", "Ada")
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
    assert "storage quota" in reason
    await expect_upload_to_have_failed(visit, reason)
