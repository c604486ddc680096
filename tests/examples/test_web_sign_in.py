"""The example page in a real browser: sign-in with one and two factors, tenant switches, and the end of a session."""

from __future__ import annotations

import pytest
from playwright.async_api import Route, expect
from pyotp.totp import TOTP

from tests.end_to_end.client import Client
from tests.examples.page import RECORD_PROGRESS_BARS, SECONDS, Visit

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALANS_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


async def test_signs_in_shows_the_dashboard_and_signs_out(visit: Visit) -> None:
    await visit.sign_in("grace@example.com", "not it")
    await expect(visit.page.get_by_role("alert")).to_have_text("The e-mail address or the password is wrong.")
    await visit.sign_in_and_wait("grace@example.com", "Grace")
    await expect(visit.page.get_by_text("Member at Acme")).to_be_visible()
    await expect(visit.operation("Sign-in")).to_contain_text("Completed")
    await expect(visit.page.get_by_role("heading", name="Onboard")).to_have_count(0)  # members may not onboard users

    await visit.page.reload()
    await expect(visit.page.get_by_role("heading", name="Hello, Grace")).to_be_visible()
    await visit.sign_out()


async def test_signs_in_with_the_code_of_the_second_factor(visit: Visit) -> None:
    page = visit.page
    await visit.sign_in("alan@example.com")
    await expect(page.get_by_role("listitem").filter(has_text="Check MFA")).to_contain_text("running")
    code = page.get_by_label("Code from your authenticator")
    valid_code = TOTP(ALANS_SECRET).now()
    await code.fill("000000" if valid_code != "000000" else "111111")
    await code.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_text("4 tries left")).to_be_visible()
    await code.fill(TOTP(ALANS_SECRET).now())
    await code.press("Enter")
    await expect(page.get_by_role("heading", name="Hello, Alan")).to_be_visible()


async def test_sign_in_without_a_response_times_out(visit: Visit) -> None:
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


async def test_switches_the_tenant_shows_each_step_and_reconnects(visit: Visit) -> None:
    page = visit.page
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    await page.evaluate(RECORD_PROGRESS_BARS)
    for current_tenant, other_tenant in (("Acme", "Globex"), ("Globex", "Acme")):
        await page.get_by_label(f"Tenant: {current_tenant}").click()
        await page.get_by_role("button", name=other_tenant).click()
        await expect(page.get_by_role("dialog").get_by_role("listitem")).to_have_count(6)
        await expect(page.get_by_text(f"Admin at {other_tenant}")).to_be_visible()
        await expect(visit.state).to_have_text("Live")
        await expect(visit.operation("Tenant switch")).to_contain_text("Completed")
    assert len((await page.evaluate("seen"))["Tenant switch: part done"]) > 4  # of twelve steps


async def test_reports_a_switch_in_another_tab_before_it_shows_the_new_tenant(visit: Visit) -> None:
    await visit.sign_in_and_wait("ada@example.com", "Ada")
    (cookie,) = [each for each in await visit.page.context.cookies() if each["name"] == "adx_session"]
    other_client = Client(visit.site.stack, cookie["value"])
    _, token = await other_client.switch_tenant(await other_client.tenant_id("Globex"))
    await visit.page.context.add_cookies([{"name": "adx_session", "value": token, "url": visit.site.url}])
    await expect(visit.page.get_by_text("You have switched to Globex in another tab.")).to_be_visible()
    await expect(visit.page.get_by_text("Your session has ended.")).not_to_be_visible()
    await visit.page.get_by_role("button", name="Show Globex").click()
    await expect(visit.page.get_by_label("Tenant: Globex")).to_be_visible()
    await expect(visit.state).to_have_text("Live")
    other_client.token = token
    await other_client.switch_tenant(await other_client.tenant_id("Acme"))  # other tests expect this tenant


async def test_shows_that_the_session_has_ended(visit: Visit) -> None:
    await visit.sign_in_and_wait("grace@example.com", "Grace")
    (cookie,) = [each for each in await visit.page.context.cookies() if each["name"] == "adx_session"]
    await Client(visit.site.stack, cookie["value"]).execute("mutation { logout { ok } }")
    await expect(visit.page.get_by_text("Your session has ended.")).to_be_visible()
    await visit.page.wait_for_timeout(1 * SECONDS)  # the state must not become Live again in this time
    await expect(visit.state).to_have_text("Signed out")
    await visit.page.get_by_role("button", name="Sign in again").click()
    await expect(visit.page.get_by_role("heading", name="Sign in")).to_be_visible()
