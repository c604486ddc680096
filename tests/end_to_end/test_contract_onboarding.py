"""Onboarding of a user: the e-mail, the first sign-in, invalid input, cancellation and retry."""

from __future__ import annotations

import signal
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from uuid import uuid4

import pytest
from pyotp import parse_uri
from pyotp.totp import TOTP
from temporalio.client import Client as Temporal

from tests.end_to_end.client import Client, Json
from tests.stack import Stack

ONBOARD = """
mutation ($input: OnboardUserInput!) {
  onboardUser(input: $input) {
    totpUri
    operation {
      id kind status startedBy { email } tenant { slug }
      error { code step retryable userRecoverable compensated fields { path message } }
      progress { steps { name status } }
      result { user { id email name mfaEnabled createdAt } workspace { id name url } welcomeEmailSent }
    }
  }
}
"""
LOGIN = """
mutation ($email: String!, $password: String!) {
  login(input: {email: $email, password: $password, waitSeconds: 20}) {
    operation { id status }
    sessionToken
    viewer { user { id email } tenantOverview { currentTenant { slug role } permissions } }
  }
}
"""
SUBMIT = """
mutation ($id: ID!, $code: String!) {
  submitMfaCode(input: {operationId: $id, code: $code, waitSeconds: 20}) { operation { status } viewer { user { id } } }
}
"""
RETRY = """
mutation ($id: ID!) {
  retryOperation(input: {id: $id, waitSeconds: 30}) {
    operation { id status error { code } ... on UserOnboarding { result { user { id email mfaEnabled } } } }
  }
}
"""
PASSWORD = "correct horse battery staple"


def onboarding_input(**others: object) -> Json:
    """Return the input of an onboarding with a new e-mail address."""
    return {
        "email": f"{uuid4().hex}@example.com",
        "name": "Emmy Noether",
        "password": PASSWORD,
        "waitSeconds": 30,
    } | others


async def onboard(client: Client, new_user: Json) -> Json:
    """Execute the onboarding and return its payload."""
    payload: Json = (await client.execute(ONBOARD, input=new_user))["onboardUser"]
    return payload


def emails_to(stack: Stack, email: str) -> list[EmailMessage]:
    """Return the e-mails that were sent to this address."""
    folder = stack.data_dir / "mail"
    emails = [message_from_bytes(path.read_bytes(), policy=default) for path in folder.glob("*.eml")]
    return [message for message in emails if email in str(message["to"])]


async def test_new_user_gets_an_email_and_a_workspace_and_signs_in(stack: Stack, ada: Client) -> None:
    new_user = onboarding_input(email=f"Emmy-{uuid4().hex}@Example.com")
    payload = await onboard(ada, new_user)
    operation, email = payload["operation"], new_user["email"]
    assert payload["totpUri"] is None
    assert (operation["kind"], operation["status"], operation["error"]) == ("USER_ONBOARDING", "COMPLETED", None)
    assert (operation["startedBy"], operation["tenant"]) == ({"email": "ada@example.com"}, {"slug": "acme"})
    assert [step["status"] for step in operation["progress"]["steps"]] == ["COMPLETED"] * 5
    user, workspace = operation["result"]["user"], operation["result"]["workspace"]
    assert (user["email"], user["name"], user["mfaEnabled"]) == (email, "Emmy Noether", False)
    assert workspace["url"] == f"http://127.0.0.1:5173/acme/workspaces/{workspace['id']}"
    assert operation["result"]["welcomeEmailSent"] is True
    (message,) = emails_to(stack, email)
    assert PASSWORD not in message.as_string()

    signed_in = (await Client(stack).execute(LOGIN, email=email, password=PASSWORD))["login"]
    assert signed_in["operation"]["status"] == "COMPLETED"
    assert signed_in["viewer"]["user"] == {"id": user["id"], "email": email}
    assert signed_in["viewer"]["tenantOverview"]["currentTenant"] == {"slug": "acme", "role": "member"}
    onboarded_client = Client(stack, signed_in["sessionToken"])
    node = "query ($id: ID!) { node(id: $id) { __typename id } }"
    for client in (onboarded_client, ada):
        assert (await client.execute(node, id=workspace["id"]))["node"]["__typename"] == "Workspace"


async def test_repeated_key_returns_the_same_second_factor_which_allows_the_sign_in(stack: Stack, ada: Client) -> None:
    new_user = onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex, role="admin")
    first, retried = [await onboard(ada, new_user) for _ in range(2)]
    assert first == retried
    assert (first["operation"]["status"], first["operation"]["result"]["user"]["mfaEnabled"]) == ("COMPLETED", True)
    authenticator = parse_uri(first["totpUri"])
    assert isinstance(authenticator, TOTP)
    assert (authenticator.issuer, authenticator.name) == ("ADX", new_user["email"])

    other = await onboard(ada, onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex))
    assert parse_uri(other["totpUri"]).secret != authenticator.secret

    payload = (await Client(stack).execute(LOGIN, email=new_user["email"], password=PASSWORD))["login"]
    login = payload["operation"]
    assert login["status"] == "WAITING"
    submitted = (
        await Client(stack, payload["sessionToken"]).execute(SUBMIT, id=login["id"], code=authenticator.now())
    )["submitMfaCode"]
    assert submitted["viewer"]["user"]["id"] == first["operation"]["result"]["user"]["id"]


@pytest.mark.parametrize(
    "other", [{"password": "another password"}, {"name": "Another"}, {"role": "guest"}, {"mfaEnabled": True}]
)
async def test_same_key_with_other_input_is_a_conflict(ada: Client, other: Json) -> None:
    new_user = onboarding_input(idempotencyKey=uuid4().hex)
    await onboard(ada, new_user)
    assert await ada.error_of(ONBOARD, input=new_user | other) == {
        "code": "CONFLICT",
        "reason": "IDEMPOTENCY_KEY_REUSED",
    }


@pytest.mark.parametrize(
    ("invalid_field", "path"),
    [
        ({"email": "nobody"}, ["input", "email"]),
        ({"name": " "}, ["input", "name"]),
        ({"name": "a\nb"}, ["input", "name"]),
        ({"password": "2little"}, ["input", "password"]),
        ({"password": "x" * 257}, ["input", "password"]),
        ({"role": "king"}, ["input", "role"]),
        ({"waitSeconds": 31}, ["input", "waitSeconds"]),
    ],
)
async def test_refuses_invalid_input_by_its_path(ada: Client, invalid_field: Json, path: list[str]) -> None:
    refused = await ada.error_of(ONBOARD, input=onboarding_input() | invalid_field)
    assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [path])
    assert all("2little" not in field["message"] for field in refused["fields"])


async def test_address_in_use_fails_the_operation_and_names_the_field(ada: Client) -> None:
    operation = (await onboard(ada, onboarding_input(email="grace@example.com")))["operation"]
    assert (operation["status"], operation["result"]) == ("FAILED", None)
    error = operation["error"]
    assert (error["code"], error["userRecoverable"], error["compensated"]) == ("VALIDATION_FAILED", True, True)
    assert [field["path"] for field in error["fields"]] == [["input", "email"]]
    retried = (await ada.execute(RETRY, id=operation["id"]))["retryOperation"]["operation"]
    assert (retried["status"], retried["error"], retried["id"] != operation["id"]) == (
        "FAILED",
        {"code": "VALIDATION_FAILED"},
        True,
    )


async def test_members_may_not_onboard_users(stack: Stack, grace: Client) -> None:
    new_user = onboarding_input()
    assert await grace.error_of(ONBOARD, input=new_user) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    assert await Client(stack).error_of(LOGIN, email=new_user["email"], password=PASSWORD) == {
        "code": "INVALID_CREDENTIALS"
    }
    assert emails_to(stack, new_user["email"]) == []


async def test_administrators_may_not_onboard_owners(ada: Client) -> None:
    assert await ada.error_of(ONBOARD, input=onboarding_input(role="owner")) == {
        "code": "FORBIDDEN",
        "reason": "ROLE_TOO_HIGH",
    }


async def test_retry_of_a_cancelled_onboarding_keeps_password_and_second_factor(
    separate_stack: Stack,
) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    worker = separate_stack.processes["worker"]
    minimal_onboard = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri operation { id } } }"
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    new_user = onboarding_input(mfaEnabled=True, waitSeconds=0)
    for _ in range(10):
        await ada.execute("{ viewer { user { id } } }")
        worker.send_signal(signal.SIGSTOP)  # so that the cancellation precedes the first step
        try:
            response = await ada.execute_unchecked(minimal_onboard, input=new_user)
            if "errors" in response:  # the cached session was outdated and the paused service cannot return it
                continue
            payload = response["data"]["onboardUser"]
            await ada.execute(cancel, id=payload["operation"]["id"])
            break
        finally:
            worker.send_signal(signal.SIGCONT)
    else:
        pytest.fail("The session was never cached while the worker was paused.")
    assert (await ada.wait_for_final_state(payload["operation"]["id"]))["status"] == "CANCELLED"

    retried = (await ada.execute(RETRY, id=payload["operation"]["id"]))["retryOperation"]["operation"]
    assert (retried["status"], retried["result"]["user"]["mfaEnabled"]) == ("COMPLETED", True)
    client = Client(separate_stack)
    login = (await client.execute(LOGIN, email=new_user["email"], password=PASSWORD))["login"]
    authenticator = parse_uri(payload["totpUri"])
    assert isinstance(authenticator, TOTP)
    client.token = login["sessionToken"]
    submitted = (await client.execute(SUBMIT, id=login["operation"]["id"], code=authenticator.now()))["submitMfaCode"]
    assert submitted["operation"]["status"] == "COMPLETED"


async def test_logs_and_histories_contain_no_secrets_in_plain_text(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    new_user = onboarding_input(password=uuid4().hex, mfaEnabled=True)
    payload = await onboard(ada, new_user)
    secrets = (new_user["password"], parse_uri(payload["totpUri"]).secret)
    temporal = await Temporal.connect(separate_stack.temporal_address)  # a client without the keys
    history = await temporal.get_workflow_handle(payload["operation"]["id"]).fetch_history()
    recorded = b"".join(event.SerializeToString() for event in history.events)
    logged = "".join(log.read_text(errors="replace") for log in separate_stack.data_dir.glob("*.log"))
    for secret in (*secrets, new_user["email"]):
        assert secret.encode() not in recorded
    for secret in secrets:
        assert secret not in logged
