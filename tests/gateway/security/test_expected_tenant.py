"""A client names its expected tenant: mutations have no effect in another tenant and return the current one."""

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
from tests.gateway.fakes import ACME, ADA, FILE, GLOBEX, TOKEN, FakeServices, error_extensions, session, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, open_event_stream
from tests.gateway.live_gateway import FOLLOW, VIEWER_QUERY, Gateway, authorization, running_gateway
from tests.resolvers.scripted import scripts

WRONG_TENANT = {"code": "CONFLICT", "reason": "WRONG_TENANT", "currentTenantId": ACME}
PERSON = '{email: "new@example.com", name: "New", password: "a long password", waitSeconds: 0, idempotencyKey: "a-key"}'
TENANT_MUTATIONS = {
    "onboardUser": f"onboardUser(input: {PERSON}) {{ operation {{ id }} }}",
    "createUpload": 'createUpload(input: {name: "a.txt", contentType: "text/plain", size: 1}) { upload { id } }',
    "completeUpload": 'completeUpload(input: {uploadId: "upl_x", idempotencyKey: "a-key"}) { operation { id } }',
    "processFile": f'processFile(input: {{fileId: "{FILE}", idempotencyKey: "a-key"}}) {{ operation {{ id }} }}',
    "cancelOperation": f'cancelOperation(input: {{id: "file-upload-{"a" * 32}"}}) {{ operation {{ id }} }}',
    "retryOperation": 'retryOperation(input: {id: "file-upload-x"}) { operation { id } }',
}
EXEMPT = {"login", "submitMfaCode", "logout", "revokeSession", "switchTenant", "updatePreferences"}
"""Mutations that the contract exempts: login, second factor, logout, sessions and preferences."""


@pytest.fixture
async def gateway(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A running gateway."""
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services, cache=cache) as gateway:
        yield gateway


def set_tenant_of_session(services: FakeServices, tenant_id: str) -> None:
    """Let the session of the token belong to this tenant from now on."""
    permissions = tuple(sorted(PERMISSIONS[Role.ADMIN]))
    found = session().model_copy(update={"tenant_id": tenant_id, "permissions": permissions})
    services.handlers["auth/get_current_session"] = lambda caller, body: found


async def post(client: httpx.AsyncClient, query: str, tenant: str | None, url: str = "/graphql") -> Any:
    """Post the document with this expected tenant and return the JSON response."""
    headers = {"authorization": f"Bearer {TOKEN}"} | ({} if tenant is None else {"x-tenant-id": tenant})
    return (await client.post(url, json={"query": query}, headers=headers)).json()


def test_every_mutation_is_tested_or_exempt() -> None:
    mutation = read_schema(build_schema().as_str()).mutation_type
    assert mutation is not None
    assert set(mutation.fields) == {*TENANT_MUTATIONS, *EXEMPT}


@pytest.mark.parametrize("tenant", [GLOBEX, "", "nonsense", f"{ACME}, {GLOBEX}"])
@pytest.mark.parametrize("name", [name for name in TENANT_MUTATIONS if name != "retryOperation"])
async def test_mutation_for_another_tenant_is_refused_without_effect(
    client: httpx.AsyncClient, services: FakeServices, name: str, tenant: str
) -> None:
    set_tenant_of_session(services, ACME)
    services.calls.clear()
    query = f"mutation {{ {TENANT_MUTATIONS[name].replace('a-key', uuid4().hex)} }}"
    response = await post(client, query, tenant)
    (error,) = response["errors"]
    assert error_extensions(error) == WRONG_TENANT or name == "cancelOperation"
    assert response["extensions"]["currentTenantId"] == ACME
    assert {verb for verb, _, _ in services.calls} <= {"auth/get_current_session"}
    in_own_tenant = await post(client, query, ACME)
    assert "WRONG_TENANT" not in [error["extensions"].get("reason") for error in in_own_tenant.get("errors", [])]


async def test_operation_is_neither_cancelled_nor_retried_from_another_tenant(
    client: httpx.AsyncClient, services: FakeServices, temporal_client: Client
) -> None:
    set_tenant_of_session(services, ACME)
    onboarding = f"mutation {{ {TENANT_MUTATIONS['onboardUser'].replace('a-key', uuid4().hex)} }}"
    started = (await post(client, onboarding, ACME))["data"]["onboardUser"]["operation"]["id"]
    cancelling = f'mutation {{ cancelOperation(input: {{id: "{started}"}}) {{ operation {{ status }} }} }}'
    (error,) = (await post(client, cancelling, GLOBEX))["errors"]
    assert error_extensions(error) == WRONG_TENANT
    await temporal_client.get_workflow_handle(started).terminate()
    retry = f'mutation {{ retryOperation(input: {{id: "{started}", waitSeconds: 0}}) {{ operation {{ id }} }} }}'
    (error,) = (await post(client, retry, GLOBEX))["errors"]
    assert error_extensions(error) == WRONG_TENANT
    assert (await post(client, retry, ACME))["data"]["retryOperation"]["operation"]["id"] != started


async def test_repeated_key_returns_the_operation_after_the_session_changed_its_tenant(
    client: httpx.AsyncClient, services: FakeServices
) -> None:
    set_tenant_of_session(services, ACME)
    query = f"mutation {{ {TENANT_MUTATIONS['onboardUser'].replace('a-key', uuid4().hex)} }}"
    first = (await post(client, query, ACME))["data"]["onboardUser"]["operation"]
    set_tenant_of_session(services, GLOBEX)
    response = await post(client, query, ACME)
    assert response["data"]["onboardUser"]["operation"] == first
    other = query.replace("New", "Another")
    (error,) = (await post(client, other, ACME))["errors"]
    assert error_extensions(error)["reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_exempt_mutations_and_queries_return_the_current_tenant(
    client: httpx.AsyncClient, services: FakeServices
) -> None:
    set_tenant_of_session(services, ACME)
    for query in (VIEWER_QUERY, "mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }"):
        response = await post(client, query, GLOBEX)
        assert "errors" not in response
        assert response["extensions"] == {"currentTenantId": ACME}
        for tenant in (ACME, None):
            assert "extensions" not in await post(client, query, tenant)
    anonymous = await client.post("/graphql", json={"query": VIEWER_QUERY}, headers={"x-tenant-id": GLOBEX})
    assert anonymous.json() == {"data": {"viewer": None}}


async def test_websocket_returns_the_current_tenant_and_refuses_mutations(
    gateway: Gateway, services: FakeServices, temporal_client: Client
) -> None:
    set_tenant_of_session(services, ACME)
    async with scripts(temporal_client) as starter, gateway.open({**authorization(), "tenantId": GLOBEX}) as sock:
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["extensions"] == {"currentTenantId": ACME}
        refused = (await sock.execute(f"mutation {{ {TENANT_MUTATIONS['createUpload']} }}"))[0]["payload"]
        assert error_extensions(refused["errors"][0]) == WRONG_TENANT
        script = await starter.start(user_id=ADA)
        async with gateway.open({**authorization(), "tenantId": ACME}) as other:
            for each, shown in ((sock, ACME), (other, None)):
                await each.subscribe(FOLLOW, id=script.id)
                assert (await each.receive())["payload"]["extensions"].get("currentTenantId") == shown
            await script.end()
            for each, shown in ((sock, ACME), (other, None)):
                last = await each.receive()
                assert last["payload"]["data"]["operation"]["status"] == "COMPLETED"
                assert last["payload"].get("extensions", {}).get("currentTenantId") == shown


@pytest.mark.parametrize("accept", [SSE, MULTIPART], ids=["event stream", "multipart"])
async def test_event_stream_returns_the_current_tenant_with_each_result(
    gateway: Gateway, services: FakeServices, temporal_client: Client, accept: str
) -> None:
    set_tenant_of_session(services, ACME)
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as http:
        script = await starter.start(user_id=ADA)
        headers = {"x-tenant-id": GLOBEX}
        async with open_event_stream(http, gateway, FOLLOW, accept=accept, headers=headers, id=script.id) as events:
            await script.end()
            results = [event.data for event in results_of([event async for event in events])]
    assert results
    assert [each["extensions"]["currentTenantId"] for each in results] == [ACME] * len(results)


def results_of(events: list[Any]) -> list[Any]:
    """Return the events that contain results."""
    return [event for event in events if event.kind == "next"]


async def test_pages_of_allowed_origins_may_send_the_tenant_header(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, allowed_origins=["https://app.example.com"])
    preflight_headers = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    async with running_gateway(configured, services) as gateway, httpx.AsyncClient() as http:
        response = await http.options(
            f"{gateway.http}/graphql", headers={**preflight_headers, "access-control-request-headers": "x-tenant-id"}
        )
    assert response.status_code == 200
    assert "x-tenant-id" in response.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("tenant", [1, [], "x" * 1000])
async def test_refuses_an_invalid_tenant_in_connection_init(gateway: Gateway, tenant: object) -> None:
    with pytest.raises(Exception, match="4403"):
        async with gateway.open({**authorization(), "tenantId": tenant}):
            pass
