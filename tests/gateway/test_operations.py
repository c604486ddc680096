"""Operations through the gateway without a worker: start, idempotency and visibility."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client, WorkflowFailureError

from contracts.errors import ServiceUnavailable
from gateway.sessions.cookies import COOKIE, LOGIN_COOKIE
from resolvers.tokens import token_hash
from tests.gateway.conftest import Execute
from tests.gateway.fakes import ACME, ADA, GLOBEX, GRACE, FakeServices, error_extensions, session
from tests.resolvers.scripted import scripts

LOGIN = """
mutation ($input: LoginInput!) {
  login(input: $input) {
    operation {
      __typename id kind status cursor startedBy { id } tenant { id } error { code }
      progress { currentStep completedSteps totalSteps fraction steps { name status attempt } }
    }
    sessionToken
    viewer { user { id } }
  }
}
"""
SWITCH = """
mutation ($input: SwitchTenantInput!) {
  switchTenant(input: $input) {
    operation { id status startedBy { id } tenant { id } fromTenant { id } toTenant { id } result { permissions } }
    sessionToken
  }
}
"""


def login_input(**others: object) -> dict[str, object]:
    """Return the input of a login with Ada's correct credentials."""
    return {"email": "ada@example.com", "password": "right", "waitSeconds": 0} | others


async def test_login_starts_and_returns_its_session_token(execute: Execute, services: FakeServices) -> None:
    payload = (await execute(LOGIN, token=None, input=login_input()))["data"]["login"]
    operation = payload["operation"]
    assert (operation["__typename"], operation["kind"], operation["status"]) == ("Login", "LOGIN", "RUNNING")
    assert operation["startedBy"] is None
    assert operation["tenant"] is None
    assert [step["status"] for step in operation["progress"]["steps"]] == ["PENDING"] * 4
    assert operation["progress"]["fraction"] == 0
    assert operation["progress"]["totalSteps"] == 4
    assert len(payload["sessionToken"]) == 43
    assert payload["viewer"] is None


async def test_sets_no_session_cookie_before_the_login_has_completed(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json={"query": LOGIN, "variables": {"input": login_input()}})
    assert COOKIE not in response.cookies
    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie.startswith(f"{LOGIN_COOKIE}={response.json()['data']['login']['sessionToken']};")


async def test_wrong_credentials_start_no_login(execute: Execute) -> None:
    (error,) = (await execute(LOGIN, token=None, input=login_input(password="wrong")))["errors"]
    assert error_extensions(error) == {"code": "INVALID_CREDENTIALS"}


async def test_same_idempotency_key_returns_the_same_login_and_token(execute: Execute) -> None:
    key = uuid4().hex
    first = (await execute(LOGIN, token=None, input=login_input(idempotencyKey=key)))["data"]["login"]
    again = (await execute(LOGIN, token=None, input=login_input(idempotencyKey=key)))["data"]["login"]
    assert again["operation"]["id"] == first["operation"]["id"]
    assert again["sessionToken"] == first["sessionToken"]
    (error,) = (await execute(LOGIN, token=None, input=login_input(idempotencyKey=key, tenantId=GLOBEX)))["errors"]
    assert error_extensions(error) == {"code": "CONFLICT", "reason": "IDEMPOTENCY_KEY_REUSED"}


async def test_kind_and_status_of_a_login_can_be_read_by_its_id_without_a_session(execute: Execute) -> None:
    started = (await execute(LOGIN, token=None, input=login_input()))["data"]["login"]["operation"]["id"]
    query = "query ($id: ID!) { operation(id: $id) { id status } node(id: $id) { __typename id } }"
    response = await execute(query, token=None, id=started)
    assert response["data"] == {
        "operation": {"id": started, "status": "RUNNING"},
        "node": {"__typename": "Login", "id": started},
    }


async def test_switch_shows_its_user_and_tenants(execute: Execute) -> None:
    payload = (await execute(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0}))["data"]["switchTenant"]
    assert payload["operation"] | {"id": ""} == {
        "id": "",
        "status": "RUNNING",
        "startedBy": {"id": ADA},
        "tenant": {"id": ACME},
        "fromTenant": {"id": ACME},
        "toTenant": {"id": GLOBEX},
        "result": None,
    }


async def test_loads_users_and_tenants_in_one_call_each(execute: Execute, services: FakeServices) -> None:
    await execute(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    assert services.requests_to("users/get_users") == [{"ids": [ADA]}]
    calls = [sorted(body["ids"]) for body in services.requests_to("tenants/get_tenants")]
    assert calls == [[GLOBEX], [ACME, GLOBEX]]  # the first call loads the subject of the switch for the record


async def test_operation_of_another_user_is_not_found(execute: Execute, services: FakeServices) -> None:
    started = (await execute(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0}))["data"]["switchTenant"]
    hashed = token_hash("grace-s-token")
    grace = session("ses_" + "b" * 32, user_id=GRACE).model_copy(update={"permissions": ()})
    default_handler = services.handlers["auth/get_current_session"]
    services.handlers["auth/get_current_session"] = lambda caller, body: (
        grace if body["token_hash"] == hashed else default_handler(caller, body)
    )
    query = "query ($id: ID!) { operation(id: $id) { id } }"
    for mutation in (query, "mutation ($id: ID!) { cancelOperation(input: { id: $id }) { operation { id } } }"):
        (error,) = (await execute(mutation, token="grace-s-token", id=started["operation"]["id"]))["errors"]
        assert error_extensions(error) == {"code": "NOT_FOUND"}
    (error,) = (await execute(query, token=None, id=started["operation"]["id"]))["errors"]
    assert error_extensions(error) == {"code": "UNAUTHENTICATED"}


async def test_administrator_of_the_target_tenant_neither_sees_nor_cancels_a_switch(
    execute: Execute, services: FakeServices, temporal_client: Client
) -> None:
    admin = session("ses_" + "b" * 32, user_id=GRACE)
    tokens = {"of-globex": admin.model_copy(update={"tenant_id": GLOBEX}), "of-acme": admin}
    default_handler = services.handlers["auth/get_current_session"]
    services.handlers["auth/get_current_session"] = lambda caller, body: (
        next((found for token, found in tokens.items() if token_hash(token) == body["token_hash"]), None)
        or default_handler(caller, body)
    )
    read_document = "query ($id: ID!) { operation(id: $id) { status } node(id: $id) { id } }"
    cancel_document = "mutation ($id: ID!) { cancelOperation(input: { id: $id }) { operation { id } } }"
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA, tenant_id=ACME, further_tenant_ids=[GLOBEX])
        for text in (read_document, cancel_document):
            errors = (await execute(text, token="of-globex", id=script.id))["errors"]
            assert {error["extensions"]["code"] for error in errors} == {"NOT_FOUND"}
        assert (await execute(read_document, token="of-acme", id=script.id))["data"]["operation"] == {
            "status": "RUNNING"
        }
        assert (await execute(cancel_document, token="of-acme", id=script.id))["data"]["cancelOperation"]["operation"]
        with pytest.raises(WorkflowFailureError):
            await script.handle.result()


async def test_unknown_ids_are_not_found(execute: Execute) -> None:
    for unknown in ("x", "usr_x", "usr_" + "f" * 32, "ten_" + "f" * 32, "login-" + "f" * 32, "file-upload-" + "f" * 32):
        response = await execute("query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", id=unknown)
        assert response["data"] == {"node": None, "nodes": [None]}
        assert {error["extensions"]["code"] for error in response["errors"]} == {"NOT_FOUND"}


async def test_returns_existing_nodes_together_with_errors_for_missing_ones(execute: Execute) -> None:
    response = await execute("query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=[GRACE, "x", ACME])
    assert response["data"]["nodes"] == [
        {"__typename": "User", "id": GRACE},
        None,
        {"__typename": "Tenant", "id": ACME},
    ]
    assert [error["path"] for error in response["errors"]] == [["nodes", 1]]


async def test_unavailable_service_makes_its_field_null_and_is_named_in_the_error(
    execute: Execute, services: FakeServices
) -> None:
    def refuse(caller: object, body: object) -> None:
        raise httpx.ConnectError("refused")

    services.handlers["users/get_users"] = refuse
    payload = await execute(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    assert payload["data"]["switchTenant"]["operation"]["startedBy"] is None
    assert payload["data"]["switchTenant"]["operation"]["toTenant"] == {"id": GLOBEX}
    (error,) = payload["errors"]
    assert error_extensions(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "users"}


async def test_unavailable_auth_service_starts_no_login(execute: Execute, services: FakeServices) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services.handlers["auth/verify_credentials"] = down
    (error,) = (await execute(LOGIN, token=None, input=login_input()))["errors"]
    assert error_extensions(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "auth"}


async def test_update_preferences_passes_only_the_given_fields_to_the_service(
    execute: Execute, services: FakeServices
) -> None:
    response = await execute(
        'mutation { updatePreferences(input: { theme: DARK, language: "de" }) { preferences { theme } } }'
    )
    assert response == {"data": {"updatePreferences": {"preferences": {"theme": "DARK"}}}}
    (patch,) = services.requests_to("users/update_preferences")
    assert patch == {"language": "de", "timezone": None, "theme": "DARK", "email_notifications": None}


async def test_sessions_mark_the_current_one(execute: Execute, services: FakeServices) -> None:
    other = session("ses_" + "c" * 32)
    services.handlers["auth/list_sessions"] = lambda caller, body: [other, session()]
    response = await execute("{ viewer { session { current } sessions { id current tenant { name } } } }")
    assert response["data"]["viewer"] == {
        "session": {"current": True},
        "sessions": [
            {"id": other.id, "current": False, "tenant": {"name": "Acme"}},
            {"id": session().id, "current": True, "tenant": {"name": "Acme"}},
        ],
    }
    assert COOKIE == "adx_session"
