"""Onboarding a user: the e-mail that is sent, the first sign-in, invalid input and failing steps."""

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
    return {
        "email": f"{uuid4().hex}@example.com",
        "name": "Emmy Noether",
        "password": PASSWORD,
        "waitSeconds": 30,
    } | others


async def onboard(client: Client, person: Json) -> Json:
    payload: Json = (await client.ask(ONBOARD, input=person))["onboardUser"]
    return payload


def letters_to(stack: Stack, email: str) -> list[EmailMessage]:
    folder = stack.data_dir / "mail"
    letters = [message_from_bytes(path.read_bytes(), policy=default) for path in folder.glob("*.eml")]
    return [letter for letter in letters if email in str(letter["to"])]


async def test_a_newcomer_gets_a_letter_and_a_workspace_and_signs_in(stack: Stack, ada: Client) -> None:
    person = onboarding_input(email=f"Emmy-{uuid4().hex}@Example.com")
    payload = await onboard(ada, person)
    operation, email = payload["operation"], person["email"]
    assert payload["totpUri"] is None
    assert (operation["kind"], operation["status"], operation["error"]) == ("USER_ONBOARDING", "COMPLETED", None)
    assert (operation["startedBy"], operation["tenant"]) == ({"email": "ada@example.com"}, {"slug": "acme"})
    assert [step["status"] for step in operation["progress"]["steps"]] == ["COMPLETED"] * 5
    user, workspace = operation["result"]["user"], operation["result"]["workspace"]
    assert (user["email"], user["name"], user["mfaEnabled"]) == (email, "Emmy Noether", False)
    assert workspace["url"] == f"http://127.0.0.1:5173/acme/workspaces/{workspace['id']}"
    assert operation["result"]["welcomeEmailSent"] is True
    (letter,) = letters_to(stack, email)
    assert PASSWORD not in letter.as_string()

    signed_in = (await Client(stack).ask(LOGIN, email=email, password=PASSWORD))["login"]
    assert signed_in["operation"]["status"] == "COMPLETED"
    assert signed_in["viewer"]["user"] == {"id": user["id"], "email": email}
    assert signed_in["viewer"]["tenantOverview"]["currentTenant"] == {"slug": "acme", "role": "member"}
    emmy = Client(stack, signed_in["sessionToken"])
    node = "query ($id: ID!) { node(id: $id) { __typename id } }"
    for client in (emmy, ada):
        assert (await client.ask(node, id=workspace["id"]))["node"]["__typename"] == "Workspace"


async def test_a_second_factor_is_told_again_for_its_key_only_and_opens_the_account(stack: Stack, ada: Client) -> None:
    person = onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex, role="admin")
    first, again = [await onboard(ada, person) for _ in range(2)]
    assert first == again
    assert (first["operation"]["status"], first["operation"]["result"]["user"]["mfaEnabled"]) == ("COMPLETED", True)
    authenticator = parse_uri(first["totpUri"])
    assert isinstance(authenticator, TOTP)
    assert (authenticator.issuer, authenticator.name) == ("ADX", person["email"])

    other = await onboard(ada, onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex))
    assert parse_uri(other["totpUri"]).secret != authenticator.secret

    payload = (await Client(stack).ask(LOGIN, email=person["email"], password=PASSWORD))["login"]
    login = payload["operation"]
    assert login["status"] == "WAITING"
    opened = (await Client(stack, payload["sessionToken"]).ask(SUBMIT, id=login["id"], code=authenticator.now()))[
        "submitMfaCode"
    ]
    assert opened["viewer"]["user"]["id"] == first["operation"]["result"]["user"]["id"]


@pytest.mark.parametrize(
    "other", [{"password": "another password"}, {"name": "Another"}, {"role": "guest"}, {"mfaEnabled": True}]
)
async def test_the_same_key_with_anything_else_is_a_conflict(ada: Client, other: Json) -> None:
    person = onboarding_input(idempotencyKey=uuid4().hex)
    await onboard(ada, person)
    assert await ada.refused(ONBOARD, input=person | other) == {
        "code": "CONFLICT",
        "reason": "IDEMPOTENCY_KEY_REUSED",
    }


@pytest.mark.parametrize(
    ("wrong", "path"),
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
async def test_what_makes_no_sense_is_refused_by_its_path(ada: Client, wrong: Json, path: list[str]) -> None:
    refused = await ada.refused(ONBOARD, input=onboarding_input() | wrong)
    assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [path])
    assert all("2little" not in field["message"] for field in refused["fields"])


async def test_an_address_that_is_taken_fails_the_operation_and_names_the_field(ada: Client) -> None:
    operation = (await onboard(ada, onboarding_input(email="grace@example.com")))["operation"]
    assert (operation["status"], operation["result"]) == ("FAILED", None)
    error = operation["error"]
    assert (error["code"], error["userRecoverable"], error["compensated"]) == ("VALIDATION_FAILED", True, True)
    assert [field["path"] for field in error["fields"]] == [["input", "email"]]
    again = (await ada.ask(RETRY, id=operation["id"]))["retryOperation"]["operation"]
    assert (again["status"], again["error"], again["id"] != operation["id"]) == (
        "FAILED",
        {"code": "VALIDATION_FAILED"},
        True,
    )


async def test_a_member_onboards_nobody(stack: Stack, grace: Client) -> None:
    person = onboarding_input()
    assert await grace.refused(ONBOARD, input=person) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    assert await Client(stack).refused(LOGIN, email=person["email"], password=PASSWORD) == {
        "code": "INVALID_CREDENTIALS"
    }
    assert letters_to(stack, person["email"]) == []


async def test_an_admin_makes_no_owner(ada: Client) -> None:
    assert await ada.refused(ONBOARD, input=onboarding_input(role="owner")) == {
        "code": "FORBIDDEN",
        "reason": "ROLE_TOO_HIGH",
    }


async def test_a_cancelled_one_is_started_again_with_the_same_password_and_second_factor(
    separate_stack: Stack,
) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    worker = separate_stack.processes["worker"]
    bare = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri operation { id } } }"
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    person = onboarding_input(mfaEnabled=True, waitSeconds=0)
    for _ in range(10):
        await ada.ask("{ viewer { user { id } } }")
        worker.send_signal(signal.SIGSTOP)  # so that the cancellation comes before the first step
        try:
            answer = await ada.hear(bare, input=person)
            if (
                "errors" in answer
            ):  # more than 0.8 s after the session was read: it is read again, from a service that does not answer
                continue
            payload = answer["data"]["onboardUser"]
            await ada.ask(cancel, id=payload["operation"]["id"])
            break
        finally:
            worker.send_signal(signal.SIGCONT)
    else:
        pytest.fail("The session was never known while the worker stood still.")
    assert (await ada.to_its_end(payload["operation"]["id"]))["status"] == "CANCELLED"

    again = (await ada.ask(RETRY, id=payload["operation"]["id"]))["retryOperation"]["operation"]
    assert (again["status"], again["result"]["user"]["mfaEnabled"]) == ("COMPLETED", True)
    client = Client(separate_stack)
    login = (await client.ask(LOGIN, email=person["email"], password=PASSWORD))["login"]
    authenticator = parse_uri(payload["totpUri"])
    assert isinstance(authenticator, TOTP)
    client.token = login["sessionToken"]
    opened = (await client.ask(SUBMIT, id=login["operation"]["id"], code=authenticator.now()))["submitMfaCode"]
    assert opened["operation"]["status"] == "COMPLETED"


async def test_secrets_stand_in_no_log_and_in_no_history_in_the_clear(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    person = onboarding_input(password=uuid4().hex, mfaEnabled=True)
    payload = await onboard(ada, person)
    secrets = (person["password"], parse_uri(payload["totpUri"]).secret)
    temporal = await Temporal.connect(separate_stack.temporal_address)  # without the keys
    history = await temporal.get_workflow_handle(payload["operation"]["id"]).fetch_history()
    recorded = b"".join(event.SerializeToString() for event in history.events)
    logged = "".join(log.read_text(errors="replace") for log in separate_stack.data_dir.glob("*.log"))
    for secret in (*secrets, person["email"]):
        assert secret.encode() not in recorded
    for secret in secrets:
        assert secret not in logged
