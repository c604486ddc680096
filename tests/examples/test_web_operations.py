"""The example page in a real browser: operations are followed, cancelled, and resumed after network outages."""

from __future__ import annotations

import json
from uuid import uuid4

import asyncpg
import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from pyotp.totp import TOTP

from tests.examples.page import SECONDS, Visit
from tools.chaos.proxy import DOWN, NORMAL, STALLED

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refuse_subscriptions(page: Page, message: str, code: str, *, limit: int | None = None) -> list[str]:
    """Respond to subscriptions to one operation with this error: the first ``limit`` ones, or all.

    Returns:
        The ids of the operations with refused subscriptions; the list grows with each refusal.
    """
    refused: list[str] = []
    error = {"message": message, "extensions": {"code": code}}

    def intercept(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def forward_or_refuse(frame: str | bytes) -> None:
            if "FollowOperation" not in str(frame) or len(refused) == limit:
                server.send(frame)
                return
            subscription = json.loads(frame)
            refused.append(subscription["payload"]["variables"]["id"])
            socket.send(json.dumps({"id": subscription["id"], "type": "error", "payload": [error]}))

        socket.on_message(forward_or_refuse)

    await page.route_web_socket("**/graphql", intercept)
    return refused


async def test_shows_that_an_operation_can_no_longer_be_followed(visit: Visit) -> None:
    await refuse_subscriptions(visit.page, "It is gone.", "NOT_FOUND")
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    visit.site.mail.rcpt_responses[:] = ["450 Later"] * 3
    await visit.onboard("Ruth Teitelbaum", f"{uuid4().hex[:12]}@example.com")
    expected_message = "This operation cannot be followed any more: It is gone."
    await expect(visit.operation("User onboarding").get_by_role("alert")).to_have_text(expected_message)
    await expect(visit.page.locator("section.onboard").get_by_role("alert")).to_have_text(expected_message)


async def test_shows_unknown_kinds_and_statuses(visit: Visit) -> None:
    async def answer_as_a_newer_gateway(route: Route) -> None:
        response = await route.fetch()
        result = await response.json()
        viewer = (result.get("data") or {}).get("viewer")
        for operation in viewer["operations"]["nodes"] if viewer else ():
            operation |= {"kind": "TENANT_ARCHIVING", "status": "HAS_PAUSED"}
            for step in operation["progress"]["steps"]:
                step["status"] = "PUT_OFF"
        await route.fulfill(response=response, json=result)

    await visit.page.route("**/graphql", answer_as_a_newer_gateway)
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    shown = visit.page.locator("details.operation").first
    await expect(shown).to_contain_text("Tenant archiving")
    await expect(shown).to_contain_text("Has paused")
    await expect(shown.get_by_role("listitem").first).to_contain_text("put off")
    await visit.page.unroute_all(behavior="ignoreErrors")


async def test_shows_an_onboarding_error_at_the_invalid_field(visit: Visit) -> None:
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await visit.onboard("Grace again", "grace@example.com")
    email = visit.page.locator("section.onboard .field").filter(has_text="E-mail")
    await expect(email.get_by_role("alert")).to_have_text("This e-mail address is in use.")
    await expect(visit.step("User onboarding", "Create user")).to_contain_text("failed")


async def test_onboards_a_user_through_a_short_network_outage(visit: Visit) -> None:
    site, email = visit.site, f"{uuid4().hex[:12]}@example.com"
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    site.mail.rcpt_responses[:] = ["450 Later"] * 2
    await visit.page.get_by_label("With a second factor").check()
    await visit.onboard("Kay McNulty", email)
    email_step = visit.step("User onboarding", "Send welcome email")
    await expect(email_step).to_contain_text("trying again · try 2", timeout=15 * SECONDS)
    await expect(email_step).to_contain_text("The mail server does not take e-mail now.")

    site.set_network(DOWN)
    await expect(visit.state).to_have_text("Reconnecting")
    await expect(visit.page.get_by_text("The connection was lost.")).to_be_visible()
    await expect(email_step).to_contain_text("trying again")
    before = len(visit.sent)
    site.set_network(NORMAL)
    await expect(visit.state).to_have_text("Live", timeout=20 * SECONDS)
    await expect(email_step).to_contain_text("done", timeout=20 * SECONDS)
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


async def test_shows_the_undone_steps_of_a_cancelled_operation(visit: Visit) -> None:
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    database = await asyncpg.connect(visit.site.stack.environment["DATABASE_URL"])
    try:
        async with database.transaction():  # the lock blocks the creation of the workspace
            await database.execute("LOCK TABLE workspaces_workspace IN EXCLUSIVE MODE")
            await visit.onboard("Jean Jennings", f"{uuid4().hex[:12]}@example.com")
            await expect(visit.step("User onboarding", "Create workspace")).to_contain_text("running")
            async with visit.page.expect_response(
                lambda response: "CancelOperation" in (response.request.post_data or "")
            ):
                await visit.operation("User onboarding").get_by_role("button", name="Cancel").click()
    finally:
        await database.close()
    await expect(visit.operation("User onboarding")).to_contain_text("Cancelled", timeout=20 * SECONDS)
    for undone in ("Create user", "Set up authentication", "Assign to tenant"):
        await expect(visit.step("User onboarding", undone)).to_contain_text("undone")
    await expect(visit.operation("User onboarding")).to_contain_text("Everything was undone.")


async def test_shows_that_an_administrator_cannot_onboard_an_owner(visit: Visit) -> None:
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await visit.page.get_by_label("Role").select_option("owner")
    await visit.onboard("Jean Jennings", f"{uuid4().hex[:12]}@example.com")
    await expect(visit.page.locator("section.onboard").get_by_role("alert")).to_be_visible()
    await expect(visit.page.get_by_role("button", name="Onboard")).to_be_enabled()


async def test_shows_and_cancels_an_operation_of_another_tab(visit: Visit) -> None:
    other = Visit(await visit.page.context.new_page(), visit.site)
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await other.page.goto(visit.site.url)
    await expect(other.state).to_have_text("Live")
    visit.site.mail.rcpt_responses[:] = ["450 Later"] * 9
    await visit.onboard("Betty Holberton", f"{uuid4().hex[:12]}@example.com")
    await expect(other.step("User onboarding", "Send welcome email")).to_contain_text("trying again")
    await other.operation("User onboarding").get_by_role("button", name="Cancel").click()
    for tab in (visit, other):
        await expect(tab.step("User onboarding", "Send welcome email")).to_contain_text("failed")
        await expect(tab.operation("User onboarding")).to_contain_text(
            "Completed"
        )  # a failed e-mail does not undo other steps


async def test_resubscribes_after_a_service_was_unavailable(visit: Visit) -> None:
    refused = await refuse_subscriptions(visit.page, "Try again.", "UPSTREAM_UNAVAILABLE", limit=1)
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    visit.site.mail.rcpt_responses[:] = ["450 Later"] * 2
    await visit.onboard("Marlyn Meltzer", f"{uuid4().hex[:12]}@example.com")
    await expect(visit.step("User onboarding", "Send welcome email")).to_contain_text("try 3", timeout=15 * SECONDS)
    assert len(refused) == 1


async def test_reconnects_after_a_missing_pong_and_after_being_offline(visit: Visit) -> None:
    page = visit.page
    await page.clock.install()
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    visit.site.set_network(STALLED)
    await page.clock.fast_forward(10_000)  # a ping is sent and no pong arrives
    await page.clock.fast_forward(5_000)
    await expect(visit.state).to_have_text("Reconnecting")
    visit.site.set_network(NORMAL)
    await page.clock.fast_forward(15_000)
    await expect(visit.state).to_have_text("Live")

    await page.context.set_offline(True)
    await expect(visit.state).to_have_text("Reconnecting")
    await page.context.set_offline(False)
    await expect(visit.state).to_have_text("Live")
