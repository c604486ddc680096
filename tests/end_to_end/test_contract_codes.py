"""Sign-in with a second factor: the challenge, right and wrong codes, retries and cancellation."""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest
from pyotp import parse_uri
from pyotp.totp import TOTP

from tests.end_to_end.client import Client, Json, step_of
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
async def mfa_user(ada: Client) -> tuple[str, TOTP]:
    """E-mail address and authenticator of a new user, so that no other test has used the codes."""
    email = f"{uuid4().hex}@example.com"
    response = (await ada.execute(ONBOARD, email=email))["onboardUser"]
    assert response["operation"] == {"status": "COMPLETED"}
    authenticator = parse_uri(response["totpUri"])
    assert isinstance(authenticator, TOTP)
    return email, authenticator


async def log_in(stack: Stack, email: str) -> Json:
    """Start a login and return its payload."""
    payload: Json = (await Client(stack).execute(LOGIN, email=email))["login"]
    return payload


def wrong_code(authenticator: TOTP) -> str:
    """Return a code that is not valid in the current or in adjacent time steps."""
    now = time.time()
    valid_codes = {authenticator.at(now + 30 * step_of) for step_of in range(-3, 4)}
    return next(
        code
        for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
        if code not in valid_codes
    )


async def test_signs_in_with_the_second_attempt_and_then_sets_the_session_cookie(stack: Stack) -> None:
    payload = await log_in(stack, "alan@example.com")
    login = payload["operation"]
    assert (login["status"], payload["viewer"], login["startedBy"], login["tenant"]) == ("WAITING", None, None, None)
    assert (login["challenge"]["method"], login["challenge"]["attemptsLeft"]) == ("TOTP", 5)
    unverified_client = Client(stack, payload["sessionToken"])
    assert (await unverified_client.execute("{ viewer { user { email } } }"))["viewer"] is None

    alan, authenticator = unverified_client, TOTP(TOTP_SECRET)
    assert await alan.error_of(SUBMIT, id=login["id"], code=wrong_code(authenticator)) == {
        "code": "INVALID_CREDENTIALS",
        "attemptsLeft": 4,
    }
    state = (await alan.execute(STATE, id=login["id"]))["operation"]
    assert (state["status"], state["challenge"]) == ("WAITING", {"attemptsLeft": 4})

    code = authenticator.now()
    async with httpx.AsyncClient(timeout=30, cookies={"adx_login": payload["sessionToken"]}) as browser:
        variables = {"id": login["id"], "code": f" {code[:3]} {code[3:]} "}
        response = await browser.post(stack.graphql, json={"query": SUBMIT, "variables": variables})
        submitted = response.json()["data"]["submitMfaCode"]
        assert browser.cookies["adx_session"] == submitted["sessionToken"] == payload["sessionToken"]
    assert submitted["operation"] == {
        "id": login["id"],
        "status": "COMPLETED",
        "startedBy": {"email": "alan@example.com"},
        "tenant": {"slug": "globex"},
        "challenge": None,
        "progress": {"completedSteps": 4, "fraction": 1},
    }
    assert submitted["viewer"]["session"] == {"current": True, "tenant": {"slug": "globex"}}
    assert (await unverified_client.execute("{ viewer { user { email } } }"))["viewer"] == {
        "user": {"email": "alan@example.com"}
    }

    assert (await alan.error_of(SUBMIT, id=login["id"], code=code))["code"] == "CONFLICT"


async def test_code_is_valid_for_one_login_only(stack: Stack, mfa_user: tuple[str, TOTP]) -> None:
    email, authenticator = mfa_user
    code = authenticator.now()
    first, second = await log_in(stack, email), await log_in(stack, email)
    submitted = await Client(stack, first["sessionToken"]).execute(SUBMIT, id=first["operation"]["id"], code=code)
    assert submitted["submitMfaCode"]["operation"]["status"] == "COMPLETED"
    client = Client(stack, second["sessionToken"])
    refused = await client.error_of(SUBMIT, id=second["operation"]["id"], code=code)
    assert refused == {"code": "INVALID_CREDENTIALS", "attemptsLeft": 4}


async def test_fifth_wrong_code_fails_the_login(stack: Stack, mfa_user: tuple[str, TOTP]) -> None:
    email, authenticator = mfa_user
    payload = await log_in(stack, email)
    login, client = payload["operation"]["id"], Client(stack, payload["sessionToken"])
    refusals = [await client.error_of(SUBMIT, id=login, code=wrong_code(authenticator)) for _ in range(5)]
    assert refusals == [{"code": "INVALID_CREDENTIALS", "attemptsLeft": left} for left in (4, 3, 2, 1, 0)]
    last = await Client(stack).wait_for_final_state(login)
    assert (last["status"], last["error"]["code"]) == ("FAILED", "INVALID_CREDENTIALS")
    assert step_of(last, "check_mfa")["status"] == "FAILED"
    assert (await client.error_of(SUBMIT, id=login, code=authenticator.now()))["code"] == "CONFLICT"


@pytest.mark.parametrize("code", ["12345", "1234567", "12345a", "", "12345\u00b2", "\u216b" * 6, "1" * 500])
async def test_malformed_code_does_not_count_as_an_attempt(stack: Stack, mfa_user: tuple[str, TOTP], code: str) -> None:
    payload = await log_in(stack, mfa_user[0])
    login = payload["operation"]["id"]
    refused = await Client(stack, payload["sessionToken"]).error_of(SUBMIT, id=login, code=code)
    assert refused["code"] == "BAD_USER_INPUT"
    assert [field["path"] for field in refused["fields"]] == [["input", "code"]]
    assert (await Client(stack).execute(STATE, id=login))["operation"]["challenge"] == {"attemptsLeft": 5}


async def test_code_for_another_operation_is_not_found_and_for_an_ended_login_a_conflict(
    stack: Stack, ada: Client
) -> None:
    switch, _ = await ada.start_switch("ten_" + "f" * 32)
    for id in ("x", "login-" + "f" * 32, switch, "tenant-switch-" + "f" * 32):
        assert await ada.error_of(SUBMIT, id=id, code="123456") == {"code": "NOT_FOUND"}
    completed = await log_in(stack, "grace@example.com")
    assert completed["operation"]["status"] == "COMPLETED"
    grace = Client(stack, completed["sessionToken"])
    assert await grace.error_of(SUBMIT, id=completed["operation"]["id"], code="123456") == CONFLICT


async def test_same_key_returns_the_waiting_login(stack: Stack, mfa_user: tuple[str, TOTP]) -> None:
    key = uuid4().hex
    first, again = [(await Client(stack).execute(LOGIN, email=mfa_user[0], key=key))["login"] for _ in range(2)]
    assert first == again


async def test_client_that_started_a_login_can_cancel_it_while_it_waits(
    stack: Stack, mfa_user: tuple[str, TOTP]
) -> None:
    payload = await log_in(stack, mfa_user[0])
    login, client = payload["operation"]["id"], Client(stack, payload["sessionToken"])
    await client.execute("mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }", id=login)
    assert (await Client(stack).wait_for_final_state(login))["status"] == "CANCELLED"
    assert await client.error_of(SUBMIT, id=login, code=mfa_user[1].now()) == CONFLICT
    assert (await client.execute("{ viewer { user { id } } }"))["viewer"] is None


async def test_login_cannot_be_retried_because_its_password_is_not_stored(stack: Stack, ada: Client) -> None:
    email = f"{uuid4().hex}@example.com"
    assert (await ada.execute(ONBOARD, email=email))["onboardUser"]["operation"]["status"] == "COMPLETED"
    payload = await log_in(stack, email)
    login = payload["operation"]["id"]
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    await Client(stack, payload["sessionToken"]).execute(cancel, id=login)
    assert (await ada.wait_for_final_state(login))["status"] == "CANCELLED"
    retry = "mutation ($id: ID!) { retryOperation(input: {id: $id}) { operation { id } } }"
    assert await ada.error_of(retry, id=login) == {"code": "CONFLICT", "reason": "NOT_RETRYABLE"}
