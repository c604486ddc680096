"""Signing in with a second factor: the challenge, right and wrong codes, and how it ends."""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest
from pyotp import parse_uri
from pyotp.totp import TOTP

from tests.end_to_end.client import Client, Json, step
from tests.stack import Stack
from worker.demo import TOTP_SECRET

LOGIN = """
mutation ($email: String!, $key: String) {
  login(input: {email: $email, password: "adx-demo-password", idempotencyKey: $key, waitSeconds: 20}) {
    operation { id status startedBy { email } tenant { slug } challenge { method attemptsLeft expiresAt } }
    sessionToken
    viewer { user { email } }
  }
}
"""
SUBMIT = """
mutation ($id: ID!, $code: String!) {
  submitMfaCode(input: {operationId: $id, code: $code, waitSeconds: 20}) {
    operation {
      id status startedBy { email } tenant { slug } challenge { attemptsLeft } progress { completedSteps fraction }
    }
    sessionToken
    viewer { user { email } session { current tenant { slug } } }
  }
}
"""
STATE = """
query ($id: ID!) {
  operation(id: $id) {
    status
    error { code retryable }
    progress { steps { name status } }
    ... on Login { challenge { attemptsLeft } }
  }
}
"""
CONFLICT = {"code": "CONFLICT", "reason": "NOT_WAITING"}
ONBOARD = """
mutation ($email: String!) {
  onboardUser(input: {email: $email, name: "Kurt", password: "adx-demo-password", mfaEnabled: true, waitSeconds: 30}) {
    operation { status } totpUri
  }
}
"""


@pytest.fixture
async def kurt(ada: Client) -> tuple[str, TOTP]:
    """The address and the authenticator of somebody new, so that no other test has used their codes."""
    email = f"{uuid4().hex}@example.com"
    answer = (await ada.ask(ONBOARD, email=email))["onboardUser"]
    assert answer["operation"] == {"status": "COMPLETED"}
    authenticator = parse_uri(answer["totpUri"])
    assert isinstance(authenticator, TOTP)
    return email, authenticator


async def log_in(stack: Stack, email: str) -> Json:
    payload: Json = (await Client(stack).ask(LOGIN, email=email))["login"]
    return payload


def wrong(authenticator: TOTP) -> str:
    """A code of none of the steps that are looked at."""
    now = time.time()
    right = {authenticator.at(now + 30 * step) for step in range(-3, 4)}
    return next(
        code
        for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
        if code not in right
    )


async def test_alan_signs_in_with_the_second_try_and_a_browser_gets_its_cookie_then(stack: Stack) -> None:
    payload = await log_in(stack, "alan@example.com")
    login = payload["operation"]
    assert (login["status"], payload["viewer"], login["startedBy"], login["tenant"]) == ("WAITING", None, None, None)
    assert (login["challenge"]["method"], login["challenge"]["attemptsLeft"]) == ("TOTP", 5)
    early = Client(stack, payload["sessionToken"])
    assert (await early.ask("{ viewer { user { email } } }"))["viewer"] is None

    alan, authenticator = early, TOTP(TOTP_SECRET)
    assert await alan.refused(SUBMIT, id=login["id"], code=wrong(authenticator)) == {
        "code": "INVALID_CREDENTIALS",
        "attemptsLeft": 4,
    }
    state = (await alan.ask(STATE, id=login["id"]))["operation"]
    assert (state["status"], state["challenge"]) == ("WAITING", {"attemptsLeft": 4})

    code = authenticator.now()
    async with httpx.AsyncClient(timeout=30, cookies={"adx_login": payload["sessionToken"]}) as browser:
        variables = {"id": login["id"], "code": f" {code[:3]} {code[3:]} "}
        answer = await browser.post(stack.graphql, json={"query": SUBMIT, "variables": variables})
        opened = answer.json()["data"]["submitMfaCode"]
        assert browser.cookies["adx_session"] == opened["sessionToken"] == payload["sessionToken"]
    assert opened["operation"] == {
        "id": login["id"],
        "status": "COMPLETED",
        "startedBy": {"email": "alan@example.com"},
        "tenant": {"slug": "globex"},
        "challenge": None,
        "progress": {"completedSteps": 4, "fraction": 1},
    }
    assert opened["viewer"]["session"] == {"current": True, "tenant": {"slug": "globex"}}
    assert (await early.ask("{ viewer { user { email } } }"))["viewer"] == {"user": {"email": "alan@example.com"}}

    assert (await alan.refused(SUBMIT, id=login["id"], code=code))["code"] == "CONFLICT"


async def test_a_code_opens_one_login_only(stack: Stack, kurt: tuple[str, TOTP]) -> None:
    email, authenticator = kurt
    code = authenticator.now()
    first, second = await log_in(stack, email), await log_in(stack, email)
    opened = await Client(stack, first["sessionToken"]).ask(SUBMIT, id=first["operation"]["id"], code=code)
    assert opened["submitMfaCode"]["operation"]["status"] == "COMPLETED"
    client = Client(stack, second["sessionToken"])
    refused = await client.refused(SUBMIT, id=second["operation"]["id"], code=code)
    assert refused == {"code": "INVALID_CREDENTIALS", "attemptsLeft": 4}


async def test_the_last_of_five_wrong_codes_fails_the_login(stack: Stack, kurt: tuple[str, TOTP]) -> None:
    email, authenticator = kurt
    payload = await log_in(stack, email)
    login, client = payload["operation"]["id"], Client(stack, payload["sessionToken"])
    refusals = [await client.refused(SUBMIT, id=login, code=wrong(authenticator)) for _ in range(5)]
    assert refusals == [{"code": "INVALID_CREDENTIALS", "attemptsLeft": left} for left in (4, 3, 2, 1, 0)]
    last = await Client(stack).to_its_end(login)
    assert (last["status"], last["error"]["code"]) == ("FAILED", "INVALID_CREDENTIALS")
    assert step(last, "check_mfa")["status"] == "FAILED"
    assert (await client.refused(SUBMIT, id=login, code=authenticator.now()))["code"] == "CONFLICT"


@pytest.mark.parametrize("code", ["12345", "1234567", "12345a", "", "12345\u00b2", "\u216b" * 6, "1" * 500])
async def test_what_is_no_code_costs_no_try(stack: Stack, kurt: tuple[str, TOTP], code: str) -> None:
    payload = await log_in(stack, kurt[0])
    login = payload["operation"]["id"]
    refused = await Client(stack, payload["sessionToken"]).refused(SUBMIT, id=login, code=code)
    assert refused["code"] == "BAD_USER_INPUT"
    assert [field["path"] for field in refused["fields"]] == [["input", "code"]]
    assert (await Client(stack).ask(STATE, id=login))["operation"]["challenge"] == {"attemptsLeft": 5}


async def test_what_is_no_login_is_not_found_and_one_that_waits_for_nothing_a_conflict(
    stack: Stack, ada: Client
) -> None:
    switch, _ = await ada.start_switch("ten_" + "f" * 32)
    for id in ("x", "login-" + "f" * 32, switch, "tenant-switch-" + "f" * 32):
        assert await ada.refused(SUBMIT, id=id, code="123456") == {"code": "NOT_FOUND"}
    completed = await log_in(stack, "grace@example.com")
    assert completed["operation"]["status"] == "COMPLETED"
    grace = Client(stack, completed["sessionToken"])
    assert await grace.refused(SUBMIT, id=completed["operation"]["id"], code="123456") == CONFLICT


async def test_a_login_that_waits_is_the_same_again_for_its_key(stack: Stack, kurt: tuple[str, TOTP]) -> None:
    key = uuid4().hex
    first, again = [(await Client(stack).ask(LOGIN, email=kurt[0], key=key))["login"] for _ in range(2)]
    assert first == again


async def test_the_client_that_started_a_login_cancels_it_while_it_waits(stack: Stack, kurt: tuple[str, TOTP]) -> None:
    payload = await log_in(stack, kurt[0])
    login, client = payload["operation"]["id"], Client(stack, payload["sessionToken"])
    await client.ask("mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }", id=login)
    assert (await Client(stack).to_its_end(login))["status"] == "CANCELLED"
    assert await client.refused(SUBMIT, id=login, code=kurt[1].now()) == CONFLICT
    assert (await client.ask("{ viewer { user { id } } }"))["viewer"] is None


async def test_a_login_is_not_started_again_for_nobody_keeps_its_password(stack: Stack, ada: Client) -> None:
    email = f"{uuid4().hex}@example.com"
    assert (await ada.ask(ONBOARD, email=email))["onboardUser"]["operation"]["status"] == "COMPLETED"
    payload = await log_in(stack, email)
    login = payload["operation"]["id"]
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    await Client(stack, payload["sessionToken"]).ask(cancel, id=login)
    assert (await ada.to_its_end(login))["status"] == "CANCELLED"
    retry = "mutation ($id: ID!) { retryOperation(input: {id: $id}) { operation { id } } }"
    assert await ada.refused(retry, id=login) == {"code": "CONFLICT", "reason": "NOT_RETRYABLE"}
