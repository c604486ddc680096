"""Sign-in, tenant switch and sign-out with the real services, in one process and in separate processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.sessions.cookies import COOKIE, DEVICE_COOKIE
from tests.gateway.fakes import error_extensions
from tests.stack import Stack

LOGIN = """
mutation ($input: LoginInput!) {
  login(input: $input) {
    operation {
      status startedBy { email } tenant { slug } progress { fraction completedSteps }
      error { code message compensated fields { path } }
    }
    sessionToken
    viewer { session { current tenant { slug } } tenantOverview { availableTenants { id slug } } }
  }
}
"""
SWITCH = """
mutation ($input: SwitchTenantInput!) {
  switchTenant(input: $input) {
    operation { id status error { code } toTenant { slug } result { tenant { slug role } user { email } permissions } }
    sessionToken
    viewer { session { tenant { slug } } }
  }
}
"""
ONBOARD = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { status } } }"
VIEWER_QUERY = "{ viewer { user { email } session { tenant { slug } } } }"

ExecuteWithCookies = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The development stack, and one of separate processes."""
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def browser(stack: Stack) -> AsyncIterator[ExecuteWithCookies]:
    """A function that executes documents and keeps cookies as a browser does."""
    async with httpx.AsyncClient(timeout=40) as client:

        async def execute(query: str, **variables: object) -> httpx.Response:
            return await client.post(stack.graphql, json={"query": query, "variables": variables})

        yield execute


def login_input(**others: object) -> dict[str, object]:
    """Return the input of a login of Ada."""
    return {"email": "ada@example.com", "password": "adx-demo-password"} | others


async def test_signs_in_switches_the_tenant_and_signs_out_by_cookie(browser: ExecuteWithCookies) -> None:
    signed_in = await browser(LOGIN, input=login_input())
    payload = signed_in.json()["data"]["login"]
    assert payload["operation"] == {
        "status": "COMPLETED",
        "startedBy": {"email": "ada@example.com"},
        "tenant": {"slug": payload["viewer"]["session"]["tenant"]["slug"]},
        "progress": {"fraction": 1, "completedSteps": 4},
        "error": None,
    }
    assert payload["viewer"]["session"]["current"] is True
    assert signed_in.cookies[COOKIE] == payload["sessionToken"]
    here = payload["viewer"]["session"]["tenant"]["slug"]
    there = next(each for each in payload["viewer"]["tenantOverview"]["availableTenants"] if each["slug"] != here)

    switched = (await browser(SWITCH, input={"tenantId": there["id"]})).json()["data"]["switchTenant"]
    assert switched["operation"]["status"] == "COMPLETED"
    assert switched["operation"]["result"]["tenant"] == {"slug": there["slug"], "role": "admin"}
    assert switched["viewer"] == {"session": {"tenant": {"slug": there["slug"]}}}
    viewer = (await browser(VIEWER_QUERY)).json()["data"]["viewer"]
    assert viewer == {"user": {"email": "ada@example.com"}, "session": {"tenant": {"slug": there["slug"]}}}

    assert (await browser("mutation { logout { ok } }")).json()["data"] == {"logout": {"ok": True}}
    assert (await browser(VIEWER_QUERY)).json()["data"] == {"viewer": None}


async def test_previous_token_grants_no_access_after_a_switch(browser: ExecuteWithCookies, stack: Stack) -> None:
    payload = (await browser(LOGIN, input=login_input())).json()["data"]["login"]
    here = payload["viewer"]["session"]["tenant"]["slug"]
    there = next(each for each in payload["viewer"]["tenantOverview"]["availableTenants"] if each["slug"] != here)
    await browser(SWITCH, input={"tenantId": there["id"]})

    async with httpx.AsyncClient() as other:
        headers = {"authorization": f"Bearer {payload['sessionToken']}"}
        response = await other.post(stack.graphql, json={"query": VIEWER_QUERY}, headers=headers)
    assert response.json()["data"] == {"viewer": None}


async def test_switch_to_an_unknown_tenant_fails_and_keeps_the_session(browser: ExecuteWithCookies) -> None:
    before = (await browser(LOGIN, input=login_input())).json()["data"]["login"]["viewer"]["session"]["tenant"]
    payload = (await browser(SWITCH, input={"tenantId": "ten_" + "f" * 32})).json()["data"]["switchTenant"]
    assert payload["operation"]["status"] == "FAILED"
    assert payload["operation"]["error"] == {"code": "PERMISSION_DENIED"}
    assert payload["operation"]["toTenant"] is None
    assert payload["viewer"] is None
    assert (await browser(VIEWER_QUERY)).json()["data"]["viewer"]["session"]["tenant"] == before


async def test_login_to_an_unknown_tenant_fails(browser: ExecuteWithCookies) -> None:
    response = await browser(LOGIN, input=login_input(tenantId="ten_" + "f" * 32))
    payload: Any = response.json()["data"]["login"]
    assert payload["operation"]["status"] == "FAILED"
    assert payload["operation"]["error"]["code"] == "PERMISSION_DENIED"
    assert payload["viewer"] is None
    assert "set-cookie" not in response.headers


async def test_wrong_password_and_unknown_address_have_the_same_error(browser: ExecuteWithCookies) -> None:
    (wrong,) = (await browser(LOGIN, input=login_input(password="wrong"))).json()["errors"]
    (unknown,) = (await browser(LOGIN, input=login_input(email="nobody@example.com"))).json()["errors"]
    assert wrong["message"] == unknown["message"]
    assert error_extensions(wrong) == error_extensions(unknown)
    assert error_extensions(wrong) == {"code": "INVALID_CREDENTIALS"}


async def test_refuses_invalid_preferences_by_their_path(browser: ExecuteWithCookies) -> None:
    await browser(LOGIN, input=login_input())
    query = "mutation ($zone: String) { updatePreferences(input: { timezone: $zone }) { preferences { timezone } } }"
    (error,) = (await browser(query, zone="Nowhere/Land")).json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert [field["path"] for field in error["extensions"]["fields"]] == [["input", "timezone"]]
    saved = (await browser(query, zone="Europe/Vienna")).json()["data"]["updatePreferences"]["preferences"]
    assert saved == {"timezone": "Europe/Vienna"}


async def test_known_device_can_sign_in_while_others_guess_the_password(
    browser: ExecuteWithCookies, stack: Stack
) -> None:
    await browser(LOGIN, input=login_input())
    new_user = {
        "email": f"{uuid4().hex}@example.com",
        "name": "Somebody",
        "password": "adx-demo-password",
        "waitSeconds": 20,
    }
    onboarded = (await browser(ONBOARD, input=new_user)).json()["data"]["onboardUser"]["operation"]
    assert onboarded == {"status": "COMPLETED"}
    async with httpx.AsyncClient(timeout=40) as own_browser, httpx.AsyncClient(timeout=40) as other_browser:

        async def log_in(client: httpx.AsyncClient, password: str) -> Any:
            variables = {"input": {"email": new_user["email"], "password": password}}
            return (await client.post(stack.graphql, json={"query": LOGIN, "variables": variables})).json()

        assert (await log_in(own_browser, "adx-demo-password"))["data"]["login"]["viewer"] is not None
        assert DEVICE_COOKIE in own_browser.cookies
        device = own_browser.cookies[DEVICE_COOKIE]
        codes = [(await log_in(other_browser, "wrong"))["errors"][0]["extensions"]["code"] for _ in range(11)]
        assert codes == ["INVALID_CREDENTIALS"] * 10 + ["RATE_LIMITED"]
        (refused,) = (await log_in(other_browser, "adx-demo-password"))["errors"]
        assert refused["extensions"]["retryAfter"] <= 90

        assert (await log_in(own_browser, "adx-demo-password"))["data"]["login"]["viewer"] is not None
        assert own_browser.cookies[DEVICE_COOKIE] == device
