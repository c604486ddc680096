"""A client that names the tenant which it displays changes nothing in another one, and receives its current one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from graphql import build_schema as read_schema
from temporalio.client import Client

from contracts.auth import PERMISSIONS, Role
from infrastructure.caching.cache import Cache
from schema.schema import build_schema
from tests.gateway.fakes import ACME, ADA, FILE, GLOBEX, TOKEN, Services, facts, session, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, following
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, introduction, running_gateway
from tests.resolvers.scripted import scripts

WRONG = {"code": "CONFLICT", "reason": "WRONG_TENANT", "currentTenantId": ACME}
PERSON = '{email: "new@example.com", name: "New", password: "a long password", waitSeconds: 0, idempotencyKey: "a-key"}'
ACTING = {
    "onboardUser": f"onboardUser(input: {PERSON}) {{ operation {{ id }} }}",
    "createUpload": 'createUpload(input: {name: "a.txt", contentType: "text/plain", size: 1}) { upload { id } }',
    "completeUpload": 'completeUpload(input: {uploadId: "upl_x", idempotencyKey: "a-key"}) { operation { id } }',
    "processFile": f'processFile(input: {{fileId: "{FILE}", idempotencyKey: "a-key"}}) {{ operation {{ id }} }}',
    "cancelOperation": f'cancelOperation(input: {{id: "file-upload-{"a" * 32}"}}) {{ operation {{ id }} }}',
    "retryOperation": 'retryOperation(input: {id: "file-upload-x"}) { operation { id } }',
}
EXEMPT = {"login", "submitMfaCode", "logout", "revokeSession", "switchTenant", "updatePreferences"}
"""By the contract: login, second factor, logout, session and preference mutations."""


@pytest.fixture
async def gateway(temporal_address: str, services: Services, cache: Cache, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services, cache=cache) as gateway:
        yield gateway


def in_tenant(services: Services, tenant_id: str) -> None:
    """The session of the token is there from now on."""
    permissions = tuple(sorted(PERMISSIONS[Role.ADMIN]))
    found = session().model_copy(update={"tenant_id": tenant_id, "permissions": permissions})
    services.handlers["auth/get_current_session"] = lambda caller, body: found


async def post(client: httpx.AsyncClient, query: str, tenant: str | None, url: str = "/graphql") -> Any:
    headers = {"authorization": f"Bearer {TOKEN}"} | ({} if tenant is None else {"x-tenant-id": tenant})
    return (await client.post(url, json={"query": query}, headers=headers)).json()


def test_every_mutation_is_known_to_act_in_a_tenant_or_to_be_exempt() -> None:
    mutation = read_schema(build_schema().as_str()).mutation_type
    assert mutation is not None
    assert set(mutation.fields) == {*ACTING, *EXEMPT}


@pytest.mark.parametrize("tenant", [GLOBEX, "", "nonsense", f"{ACME}, {GLOBEX}"])
@pytest.mark.parametrize("name", [name for name in ACTING if name != "retryOperation"])
async def test_a_mutation_in_another_tenant_is_refused_and_has_no_effect(
    client: httpx.AsyncClient, services: Services, name: str, tenant: str
) -> None:
    in_tenant(services, ACME)
    services.calls.clear()
    query = f"mutation {{ {ACTING[name].replace('a-key', uuid4().hex)} }}"
    answer = await post(client, query, tenant)
    (error,) = answer["errors"]
    assert facts(error) == WRONG or name == "cancelOperation"
    assert answer["extensions"]["currentTenantId"] == ACME
    assert {verb for verb, _, _ in services.calls} <= {"auth/get_current_session"}
    here = await post(client, query, ACME)
    assert "WRONG_TENANT" not in [error["extensions"].get("reason") for error in here.get("errors", [])]


async def test_an_operation_is_neither_cancelled_nor_started_again_from_another_tenant(
    client: httpx.AsyncClient, services: Services, temporal_client: Client
) -> None:
    in_tenant(services, ACME)
    onboarding = f"mutation {{ {ACTING['onboardUser'].replace('a-key', uuid4().hex)} }}"
    started = (await post(client, onboarding, ACME))["data"]["onboardUser"]["operation"]["id"]
    cancelling = f'mutation {{ cancelOperation(input: {{id: "{started}"}}) {{ operation {{ status }} }} }}'
    (error,) = (await post(client, cancelling, GLOBEX))["errors"]
    assert facts(error) == WRONG
    await temporal_client.get_workflow_handle(started).terminate()
    again = f'mutation {{ retryOperation(input: {{id: "{started}", waitSeconds: 0}}) {{ operation {{ id }} }} }}'
    (error,) = (await post(client, again, GLOBEX))["errors"]
    assert facts(error) == WRONG
    assert (await post(client, again, ACME))["data"]["retryOperation"]["operation"]["id"] != started


async def test_a_repeated_key_gives_the_operation_that_it_started_before_the_session_moved(
    client: httpx.AsyncClient, services: Services
) -> None:
    in_tenant(services, ACME)
    query = f"mutation {{ {ACTING['onboardUser'].replace('a-key', uuid4().hex)} }}"
    first = (await post(client, query, ACME))["data"]["onboardUser"]["operation"]
    in_tenant(services, GLOBEX)
    answer = await post(client, query, ACME)
    assert answer["data"]["onboardUser"]["operation"] == first
    other = query.replace("New", "Another")
    (error,) = (await post(client, other, ACME))["errors"]
    assert facts(error)["reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_exempt_mutations_and_queries_are_executed_and_carry_the_current_tenant(
    client: httpx.AsyncClient, services: Services
) -> None:
    in_tenant(services, ACME)
    for query in (WHO, "mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }"):
        answer = await post(client, query, GLOBEX)
        assert "errors" not in answer
        assert answer["extensions"] == {"currentTenantId": ACME}
        for tenant in (ACME, None):
            assert "extensions" not in await post(client, query, tenant)
    anonymous = await client.post("/graphql", json={"query": WHO}, headers={"x-tenant-id": GLOBEX})
    assert anonymous.json() == {"data": {"viewer": None}}


async def test_a_websocket_carries_it_with_each_result_and_refuses_mutations(
    gateway: Gateway, services: Services, temporal_client: Client
) -> None:
    in_tenant(services, ACME)
    async with scripts(temporal_client) as starter, gateway.open({**introduction(), "tenantId": GLOBEX}) as sock:
        assert (await sock.ask(WHO))[0]["payload"]["extensions"] == {"currentTenantId": ACME}
        refused = (await sock.ask(f"mutation {{ {ACTING['createUpload']} }}"))[0]["payload"]
        assert facts(refused["errors"][0]) == WRONG
        script = await starter.start(user_id=ADA)
        async with gateway.open({**introduction(), "tenantId": ACME}) as other:
            for each, shown in ((sock, ACME), (other, None)):
                await each.subscribe(FOLLOW, id=script.id)
                assert (await each.next())["payload"]["extensions"].get("currentTenantId") == shown
            await script.end()
            for each, shown in ((sock, ACME), (other, None)):
                last = await each.next()
                assert last["payload"]["data"]["operation"]["status"] == "COMPLETED"
                assert last["payload"].get("extensions", {}).get("currentTenantId") == shown


@pytest.mark.parametrize("accept", [SSE, MULTIPART], ids=["event stream", "multipart"])
async def test_a_stream_over_http_carries_it_with_each_result(
    gateway: Gateway, services: Services, temporal_client: Client, accept: str
) -> None:
    in_tenant(services, ACME)
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as http:
        script = await starter.start(user_id=ADA)
        headers = {"x-tenant-id": GLOBEX}
        async with following(http, gateway, FOLLOW, accept=accept, headers=headers, id=script.id) as events:
            await script.end()
            results = [event.data for event in events_of([event async for event in events])]
    assert results
    assert [each["extensions"]["currentTenantId"] for each in results] == [ACME] * len(results)


def events_of(events: list[Any]) -> list[Any]:
    return [event for event in events if event.kind == "next"]


async def test_pages_of_allowed_origins_may_send_the_header(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, allowed_origins=["https://app.example.com"])
    asked = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    async with running_gateway(known, services) as gateway, httpx.AsyncClient() as http:
        answer = await http.options(
            f"{gateway.http}/graphql", headers={**asked, "access-control-request-headers": "x-tenant-id"}
        )
    assert answer.status_code == 200
    assert "x-tenant-id" in answer.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("tenant", [1, [], "x" * 1000])
async def test_a_tenant_that_cannot_be_one_is_refused_in_the_introduction(gateway: Gateway, tenant: object) -> None:
    with pytest.raises(Exception, match="4403"):
        async with gateway.open({**introduction(), "tenantId": tenant}):
            pass
