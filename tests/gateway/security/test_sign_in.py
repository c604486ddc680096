"""Signing in and out against the real services, in one process and in several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.sessions.cookies import COOKIE, DEVICE_COOKIE
from tests.gateway.fakes import facts
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
WHO = "{ viewer { user { email } session { tenant { slug } } } }"

Browser = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def browser(stack: Stack) -> AsyncIterator[Browser]:
    """Keeps its cookies, as browsers do."""
    async with httpx.AsyncClient(timeout=40) as client:

        async def ask(query: str, **variables: object) -> httpx.Response:
            return await client.post(stack.graphql, json={"query": query, "variables": variables})

        yield ask


def ada(**others: object) -> dict[str, object]:
    return {"email": "ada@example.com", "password": "adx-demo-password"} | others


async def test_a_browser_signs_in_switches_and_signs_out_by_cookie(browser: Browser) -> None:
    signed_in = await browser(LOGIN, input=ada())
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
    who = (await browser(WHO)).json()["data"]["viewer"]
    assert who == {"user": {"email": "ada@example.com"}, "session": {"tenant": {"slug": there["slug"]}}}

    assert (await browser("mutation { logout { ok } }")).json()["data"] == {"logout": {"ok": True}}
    assert (await browser(WHO)).json()["data"] == {"viewer": None}


async def test_the_old_token_opens_nothing_after_a_switch(browser: Browser, stack: Stack) -> None:
    payload = (await browser(LOGIN, input=ada())).json()["data"]["login"]
    here = payload["viewer"]["session"]["tenant"]["slug"]
    there = next(each for each in payload["viewer"]["tenantOverview"]["availableTenants"] if each["slug"] != here)
    await browser(SWITCH, input={"tenantId": there["id"]})

    async with httpx.AsyncClient() as other:
        headers = {"authorization": f"Bearer {payload['sessionToken']}"}
        answer = await other.post(stack.graphql, json={"query": WHO}, headers=headers)
    assert answer.json()["data"] == {"viewer": None}


async def test_a_switch_to_where_nobody_lets_you_in_fails_and_leaves_you_where_you_are(browser: Browser) -> None:
    before = (await browser(LOGIN, input=ada())).json()["data"]["login"]["viewer"]["session"]["tenant"]
    payload = (await browser(SWITCH, input={"tenantId": "ten_" + "f" * 32})).json()["data"]["switchTenant"]
    assert payload["operation"]["status"] == "FAILED"
    assert payload["operation"]["error"] == {"code": "PERMISSION_DENIED"}
    assert payload["operation"]["toTenant"] is None
    assert payload["viewer"] is None
    assert (await browser(WHO)).json()["data"]["viewer"]["session"]["tenant"] == before


async def test_a_login_to_where_nobody_lets_you_in_fails(browser: Browser) -> None:
    answer = await browser(LOGIN, input=ada(tenantId="ten_" + "f" * 32))
    payload: Any = answer.json()["data"]["login"]
    assert payload["operation"]["status"] == "FAILED"
    assert payload["operation"]["error"]["code"] == "PERMISSION_DENIED"
    assert payload["viewer"] is None
    assert "set-cookie" not in answer.headers


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(browser: Browser) -> None:
    (wrong,) = (await browser(LOGIN, input=ada(password="wrong"))).json()["errors"]
    (unknown,) = (await browser(LOGIN, input=ada(email="nobody@example.com"))).json()["errors"]
    assert wrong["message"] == unknown["message"]
    assert facts(wrong) == facts(unknown)
    assert facts(wrong) == {"code": "INVALID_CREDENTIALS"}


async def test_preferences_that_make_no_sense_are_refused_by_their_path(browser: Browser) -> None:
    await browser(LOGIN, input=ada())
    query = "mutation ($zone: String) { updatePreferences(input: { timezone: $zone }) { preferences { timezone } } }"
    (error,) = (await browser(query, zone="Nowhere/Land")).json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert [field["path"] for field in error["extensions"]["fields"]] == [["input", "timezone"]]
    saved = (await browser(query, zone="Europe/Vienna")).json()["data"]["updatePreferences"]["preferences"]
    assert saved == {"timezone": "Europe/Vienna"}


async def test_a_browser_is_known_as_a_device_once_it_has_signed_in_whoever_guesses_meanwhile(
    browser: Browser, stack: Stack
) -> None:
    await browser(LOGIN, input=ada())
    somebody = {
        "email": f"{uuid4().hex}@example.com",
        "name": "Somebody",
        "password": "adx-demo-password",
        "waitSeconds": 20,
    }
    onboarded = (await browser(ONBOARD, input=somebody)).json()["data"]["onboardUser"]["operation"]
    assert onboarded == {"status": "COMPLETED"}
    async with httpx.AsyncClient(timeout=40) as hers, httpx.AsyncClient(timeout=40) as strangers:

        async def log_in(client: httpx.AsyncClient, password: str) -> Any:
            variables = {"input": {"email": somebody["email"], "password": password}}
            return (await client.post(stack.graphql, json={"query": LOGIN, "variables": variables})).json()

        assert (await log_in(hers, "adx-demo-password"))["data"]["login"]["viewer"] is not None
        assert DEVICE_COOKIE in hers.cookies
        device = hers.cookies[DEVICE_COOKIE]
        told = [(await log_in(strangers, "wrong"))["errors"][0]["extensions"]["code"] for _ in range(11)]
        assert told == ["INVALID_CREDENTIALS"] * 10 + ["RATE_LIMITED"]
        (refused,) = (await log_in(strangers, "adx-demo-password"))["errors"]
        assert refused["extensions"]["retryAfter"] <= 90

        assert (await log_in(hers, "adx-demo-password"))["data"]["login"]["viewer"] is not None
        assert hers.cookies[DEVICE_COOKIE] == device
