"""Audit events of running processes: one log line per event, with ids and no other personal data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contracts.base import is_id, new_id
from tests.end_to_end.client import PASSWORD, Client
from tests.stack import Stack

Line = dict[str, Any]


async def wait_for_line(stack: Stack, matches: Callable[[Line], bool], seconds: float = 10) -> Line:
    """Wait for the single line, in the logs of all processes, that matches."""
    found: list[Line] = []
    async with asyncio.timeout(seconds):
        while True:
            lines = [line for name in stack.processes for line in lines_of(stack, name)]
            found = [line for line in lines if matches(line)]
            if found:
                assert len(found) == 1, found
                return found[0]
            await asyncio.sleep(0.1)


def lines_of(stack: Stack, name: str) -> list[Line]:
    texts = (stack.data_dir / f"{name}.log").read_text().splitlines()
    return [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]


@pytest.fixture
async def ada(deployed_stack: Stack) -> Client:
    client = Client(deployed_stack)
    await client.log_in("ada@example.com")
    return client


async def extensions_of(client: Client, document: str, **variables: object) -> Line:
    """Execute a document that must fail with exactly one error; return its extensions with the request id."""
    (error,) = (await client.execute_unchecked(document, **variables))["errors"]
    extensions: Line = error["extensions"]
    return extensions


async def session_of(client: Client) -> Line:
    answer = await client.execute("{ viewer { user { id } session { id } tenantOverview { currentTenant { id } } } }")
    viewer: Line = answer["viewer"]
    return viewer


async def test_sign_in_is_audited_with_user_tenant_and_request_id(ada: Client, deployed_stack: Stack) -> None:
    viewer = await session_of(ada)
    session = viewer["session"]["id"]
    line = await wait_for_line(
        deployed_stack, lambda line: line["event"] == "audit.sign_in" and line.get("session") == session
    )
    assert line["user"] == viewer["user"]["id"]
    assert line["tenant"] == viewer["tenantOverview"]["currentTenant"]["id"]
    assert line["kind"] == "LOGIN"
    assert line["workflow_id"].startswith("login-")
    assert (line["activity"], line["attempt"]) == ("record_sign_in", 1)
    assert line["request_id"]
    assert "@" not in json.dumps(line)


async def test_wrong_password_is_audited_without_address_and_password(deployed_stack: Stack) -> None:
    request_id = new_id("req")
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(
            deployed_stack.graphql,
            json={
                "query": "mutation ($input: LoginInput!) { login(input: $input) { sessionToken } }",
                "variables": {"input": {"email": "ada@example.com", "password": "not-hers"}},
            },
            headers={"x-request-id": request_id},
        )
    line = await wait_for_line(
        deployed_stack, lambda line: line["event"] == "audit.refused" and line.get("request_id") == request_id
    )
    assert (line["code"], line["field"]) == ("INVALID_CREDENTIALS", "login")
    assert line["refusal"] == "wrong_password"
    assert line["client"]
    assert line["account"]
    assert "not-hers" not in json.dumps(line)
    assert "@" not in json.dumps(line)


async def test_tenant_switch_is_audited_with_its_new_and_ended_session(ada: Client, deployed_stack: Stack) -> None:
    before = await session_of(ada)
    there = await ada.tenant_id("Globex" if await ada.current_tenant() == "Acme" else "Acme")
    operation_id, ada.token = await ada.switch_tenant(there)
    after = await session_of(ada)
    line = await wait_for_line(
        deployed_stack,
        lambda line: line["event"] == "audit.tenant_switched" and line.get("workflow_id") == operation_id,
    )
    assert (line["ended"], line["session"]) == (before["session"]["id"], after["session"]["id"])
    assert line["user"] == before["user"]["id"]
    closed = await wait_for_line(
        deployed_stack, lambda line: line["event"] == "operation_closed" and line.get("workflow_id") == operation_id
    )
    assert (closed["outcome"], closed["kind"], closed["user"]) == ("completed", "TENANT_SWITCH", line["user"])
    assert closed["request_id"] == line["request_id"]
    assert closed["duration_ms"] > 0


async def test_revoked_session_and_sign_out_are_different_audit_events(ada: Client, deployed_stack: Stack) -> None:
    other = Client(deployed_stack)
    await other.log_in("ada@example.com")
    revoked, own = (await session_of(other))["session"]["id"], (await session_of(ada))["session"]["id"]
    await ada.execute("mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { ok } }", id=revoked)
    await ada.execute("mutation { logout { ok } }")
    line = await wait_for_line(
        deployed_stack, lambda line: line["event"] == "audit.session_revoked" and line["session"] == revoked
    )
    assert is_id(line["user"], "usr")
    assert line["request_id"]
    await wait_for_line(deployed_stack, lambda line: line["event"] == "audit.sign_out" and line["session"] == own)


async def test_each_undo_of_an_operation_is_audited(ada: Client, deployed_stack: Stack) -> None:
    """The onboarding fails in its second step, because another account has the e-mail address."""
    person = {"email": "grace@example.com", "name": "Grace", "password": PASSWORD, "waitSeconds": 30}
    answer = await ada.execute(
        "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { id status } } }", input=person
    )
    operation = answer["onboardUser"]["operation"]
    assert operation["status"] == "FAILED"
    line = await wait_for_line(
        deployed_stack,
        lambda line: line["event"] == "audit.compensated" and line.get("workflow_id") == operation["id"],
    )
    assert (line["outcome"], line["kind"]) == ("completed", "USER_ONBOARDING")
    assert is_id(line["user"], "usr")


async def test_forbidden_step_is_audited(ada: Client, deployed_stack: Stack) -> None:
    operation_id, _ = await ada.start_switch(new_id("ten"))
    assert (await ada.wait_for_final_state(operation_id))["status"] == "FAILED"
    line = await wait_for_line(
        deployed_stack, lambda line: line["event"] == "audit.refused" and line.get("workflow_id") == operation_id
    )
    assert (line["code"], line["activity"]) == ("FORBIDDEN", "check_access")
    assert line["refusal"] == "forbidden"
    error = await extensions_of(ada, f'{{ node(id: "{new_id("usr")}") {{ id }} }}')
    assert error["code"] == "NOT_FOUND"
    gateway_line = await wait_for_line(
        deployed_stack, lambda line: line.get("refusal") == "not_found" and line["request_id"] == error["requestId"]
    )
    assert (line["user"], line["client"], line["account"]) == (
        gateway_line["user"],
        gateway_line["client"],
        gateway_line["account"],
    )


async def test_wrong_code_is_audited_by_gateway_and_worker(deployed_stack: Stack) -> None:
    alan = Client(deployed_stack)
    answer = await alan.execute(
        "mutation ($email: String!, $password: String!) {"
        " login(input: {email: $email, password: $password, waitSeconds: 20}) { operation { id } sessionToken } }",
        email="alan@example.com",
        password=PASSWORD,
    )
    login, alan.token = answer["login"]["operation"]["id"], answer["login"]["sessionToken"]
    refused = await extensions_of(
        alan,
        'mutation ($id: ID!) { submitMfaCode(input: {operationId: $id, code: "000000"}) { sessionToken } }',
        id=login,
    )
    assert refused["code"] == "INVALID_CREDENTIALS"

    def is_this(line: Line) -> bool:
        return line["event"] == "audit.refused" and line.get("refusal") == "wrong_code"

    gateway_line = await wait_for_line(
        deployed_stack,
        lambda line: is_this(line) and "field" in line and line["request_id"] == refused["requestId"],
    )
    worker_line = await wait_for_line(
        deployed_stack,
        lambda line: (
            is_this(line)
            and (line.get("workflow_id"), line.get("activity"), line.get("attempt")) == (login, "check_totp", 1)
        ),
    )
    assert gateway_line["client"] == worker_line["client"]
    assert worker_line["account"]
    assert "000000" not in json.dumps([gateway_line, worker_line])


def test_log_lines_of_steps_contain_duration_user_and_request(deployed_stack: Stack) -> None:
    ended = [line for line in lines_of(deployed_stack, "auth") if line["event"] == "activity_ended"]
    assert ended
    for line in ended:
        assert line["duration_ms"] > 0
        assert {"workflow_id", "activity", "attempt", "outcome", "request_id", "user"} <= line.keys(), line
