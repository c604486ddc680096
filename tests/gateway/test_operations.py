"""Operations over the edge, as far as they go without a worker: started, idempotent, visible to whom they concern."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client, WorkflowFailureError

from contracts.errors import ServiceUnavailable
from gateway.sessions.cookies import COOKIE, LOGIN_COOKIE
from resolvers.tokens import token_hash
from tests.gateway.conftest import Ask
from tests.gateway.fakes import ACME, ADA, GLOBEX, GRACE, Services, facts, session
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


def right(**others: object) -> dict[str, object]:
    return {"email": "ada@example.com", "password": "right", "waitSeconds": 0} | others


async def test_a_login_starts_and_hands_out_its_token(ask: Ask, services: Services) -> None:
    payload = (await ask(LOGIN, token=None, input=right()))["data"]["login"]
    operation = payload["operation"]
    assert (operation["__typename"], operation["kind"], operation["status"]) == ("Login", "LOGIN", "RUNNING")
    assert operation["startedBy"] is None
    assert operation["tenant"] is None
    assert [step["status"] for step in operation["progress"]["steps"]] == ["PENDING"] * 4
    assert operation["progress"]["fraction"] == 0
    assert operation["progress"]["totalSteps"] == 4
    assert len(payload["sessionToken"]) == 43
    assert payload["viewer"] is None


async def test_no_session_cookie_is_set_before_the_login_has_completed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/graphql", json={"query": LOGIN, "variables": {"input": right()}})
    assert COOKIE not in answer.cookies
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith(f"{LOGIN_COOKIE}={answer.json()['data']['login']['sessionToken']};")


async def test_wrong_credentials_start_nothing(ask: Ask) -> None:
    (error,) = (await ask(LOGIN, token=None, input=right(password="wrong")))["errors"]
    assert facts(error) == {"code": "INVALID_CREDENTIALS"}


async def test_the_same_key_gives_the_same_login_and_token_again(ask: Ask) -> None:
    key = uuid4().hex
    first = (await ask(LOGIN, token=None, input=right(idempotencyKey=key)))["data"]["login"]
    again = (await ask(LOGIN, token=None, input=right(idempotencyKey=key)))["data"]["login"]
    assert again["operation"]["id"] == first["operation"]["id"]
    assert again["sessionToken"] == first["sessionToken"]
    (error,) = (await ask(LOGIN, token=None, input=right(idempotencyKey=key, tenantId=GLOBEX)))["errors"]
    assert facts(error) == {"code": "CONFLICT", "reason": "IDEMPOTENCY_KEY_REUSED"}


async def test_kind_and_status_of_a_login_can_be_read_by_its_id(ask: Ask) -> None:
    started = (await ask(LOGIN, token=None, input=right()))["data"]["login"]["operation"]["id"]
    query = "query ($id: ID!) { operation(id: $id) { id status } node(id: $id) { __typename id } }"
    answer = await ask(query, token=None, id=started)
    assert answer["data"] == {
        "operation": {"id": started, "status": "RUNNING"},
        "node": {"__typename": "Login", "id": started},
    }


async def test_a_switch_shows_who_and_where(ask: Ask) -> None:
    payload = (await ask(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0}))["data"]["switchTenant"]
    assert payload["operation"] | {"id": ""} == {
        "id": "",
        "status": "RUNNING",
        "startedBy": {"id": ADA},
        "tenant": {"id": ACME},
        "fromTenant": {"id": ACME},
        "toTenant": {"id": GLOBEX},
        "result": None,
    }


async def test_users_and_tenants_are_loaded_in_one_call_each(ask: Ask, services: Services) -> None:
    await ask(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    assert services.asked("users/get_users") == [{"ids": [ADA]}]
    calls = [sorted(body["ids"]) for body in services.asked("tenants/get_tenants")]
    assert calls == [[GLOBEX], [ACME, GLOBEX]]  # first for the subject of the switch, which the record shows


async def test_an_operation_of_somebody_else_is_not_found(ask: Ask, services: Services) -> None:
    started = (await ask(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0}))["data"]["switchTenant"]
    hashed = token_hash("grace-s-token")
    grace = session("ses_" + "b" * 32, user_id=GRACE).model_copy(update={"permissions": ()})
    usual = services.handlers["auth/get_current_session"]
    services.handlers["auth/get_current_session"] = lambda caller, body: (
        grace if body["token_hash"] == hashed else usual(caller, body)
    )
    query = "query ($id: ID!) { operation(id: $id) { id } }"
    for mutation in (query, "mutation ($id: ID!) { cancelOperation(input: { id: $id }) { operation { id } } }"):
        (error,) = (await ask(mutation, token="grace-s-token", id=started["operation"]["id"]))["errors"]
        assert facts(error) == {"code": "NOT_FOUND"}
    (error,) = (await ask(query, token=None, id=started["operation"]["id"]))["errors"]
    assert facts(error) == {"code": "UNAUTHENTICATED"}


async def test_an_administrator_of_the_tenant_that_a_switch_leads_to_neither_sees_nor_cancels_it(
    ask: Ask, services: Services, temporal_client: Client
) -> None:
    admin = session("ses_" + "b" * 32, user_id=GRACE)
    tokens = {"of-globex": admin.model_copy(update={"tenant_id": GLOBEX}), "of-acme": admin}
    usual = services.handlers["auth/get_current_session"]
    services.handlers["auth/get_current_session"] = lambda caller, body: (
        next((found for token, found in tokens.items() if token_hash(token) == body["token_hash"]), None)
        or usual(caller, body)
    )
    see = "query ($id: ID!) { operation(id: $id) { status } node(id: $id) { id } }"
    cancel = "mutation ($id: ID!) { cancelOperation(input: { id: $id }) { operation { id } } }"
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA, tenant_id=ACME, leads_to=[GLOBEX])
        for text in (see, cancel):
            errors = (await ask(text, token="of-globex", id=script.id))["errors"]
            assert {error["extensions"]["code"] for error in errors} == {"NOT_FOUND"}
        assert (await ask(see, token="of-acme", id=script.id))["data"]["operation"] == {"status": "RUNNING"}
        assert (await ask(cancel, token="of-acme", id=script.id))["data"]["cancelOperation"]["operation"]
        with pytest.raises(WorkflowFailureError):
            await script.handle.result()


async def test_unknown_ids_are_not_found(ask: Ask) -> None:
    for unknown in ("x", "usr_x", "usr_" + "f" * 32, "ten_" + "f" * 32, "login-" + "f" * 32, "file-upload-" + "f" * 32):
        answer = await ask("query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", id=unknown)
        assert answer["data"] == {"node": None, "nodes": [None]}
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"NOT_FOUND"}


async def test_nodes_that_are_to_be_had_are_given_beside_those_that_are_not(ask: Ask) -> None:
    answer = await ask("query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=[GRACE, "x", ACME])
    assert answer["data"]["nodes"] == [{"__typename": "User", "id": GRACE}, None, {"__typename": "Tenant", "id": ACME}]
    assert [error["path"] for error in answer["errors"]] == [["nodes", 1]]


async def test_a_service_that_is_down_leaves_its_own_field_null_and_is_named(ask: Ask, services: Services) -> None:
    def refuse(caller: object, body: object) -> None:
        raise httpx.ConnectError("refused")

    services.handlers["users/get_users"] = refuse
    payload = await ask(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    assert payload["data"]["switchTenant"]["operation"]["startedBy"] is None
    assert payload["data"]["switchTenant"]["operation"]["toTenant"] == {"id": GLOBEX}
    (error,) = payload["errors"]
    assert facts(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "users"}


async def test_a_service_that_is_down_at_sign_in_starts_nothing(ask: Ask, services: Services) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services.handlers["auth/verify_credentials"] = down
    (error,) = (await ask(LOGIN, token=None, input=right()))["errors"]
    assert facts(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "auth"}


async def test_a_field_that_a_service_refuses_is_named_by_its_path_in_the_input(ask: Ask, services: Services) -> None:
    answer = await ask(
        'mutation { updatePreferences(input: { theme: DARK, language: "de" }) { preferences { theme } } }'
    )
    assert answer == {"data": {"updatePreferences": {"preferences": {"theme": "DARK"}}}}
    (patch,) = services.asked("users/update_preferences")
    assert patch == {"language": "de", "timezone": None, "theme": "DARK", "email_notifications": None}


async def test_sessions_show_which_is_the_current_one(ask: Ask, services: Services) -> None:
    other = session("ses_" + "c" * 32)
    services.handlers["auth/list_sessions"] = lambda caller, body: [other, session()]
    answer = await ask("{ viewer { session { current } sessions { id current tenant { name } } } }")
    assert answer["data"]["viewer"] == {
        "session": {"current": True},
        "sessions": [
            {"id": other.id, "current": False, "tenant": {"name": "Acme"}},
            {"id": session().id, "current": True, "tenant": {"name": "Acme"}},
        ],
    }
    assert COOKIE == "adx_session"
