"""What a page of operations costs: a call of each service at most, and no visibility request once it is known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from contracts.base import new_id, utc_now
from contracts.operations import (
    ATTRIBUTE_USER,
    MEMO_STATE,
    FileUploaded,
    LoggedIn,
    OperationKind,
    OperationResult,
    OperationState,
    OperationStatus,
    SwitchedTenants,
    TenantSwitched,
    UserOnboarded,
    operation_id,
)
from contracts.workspaces import Workspace
from gateway.app import create_app
from infrastructure.operation_history import TENANTS, USER
from tests.gateway.fakes import ACME, FILE, GLOBEX, TOKEN, Services, file, person, session, settings
from tests.gateway.temporal_calls import TemporalCalls

PAGE = """
query ($statuses: [OperationStatus!]) { viewer { operations(first: 50, filter: { statuses: $statuses }) {
  totalCount
  nodes {
    __typename id status startedBy { name } tenant { name }
    ... on TenantSwitch { fromTenant { name } toTenant { name } switched: result { tenant { name } user { name } } }
    ... on FileUpload { uploaded: result { file { name } } }
    ... on UserOnboarding { onboarded: result { user { name } workspace { name } } }
  }
} } }
"""
RESULTS: dict[OperationKind, OperationResult] = {
    OperationKind.FILE_UPLOAD: FileUploaded(file_id=FILE),
    OperationKind.TENANT_SWITCH: TenantSwitched(tenant_id=GLOBEX, user_id=new_id("usr"), permissions=()),
    OperationKind.USER_ONBOARDING: UserOnboarded(
        user_id=new_id("usr"), workspace_id=new_id("wsp"), welcome_email_sent=True
    ),
    OperationKind.LOGIN: LoggedIn(user_id=new_id("usr"), tenant_id=ACME),
}


@pytest.fixture
def me() -> str:
    return new_id("usr")


@pytest.fixture
def services(me: str) -> Services:
    services = Services()
    services.handlers |= {
        "auth/get_current_session": lambda caller, body: session(user_id=me),
        "users/get_users": lambda caller, body: [person(id) for id in body["ids"]],
        "files/get_files": lambda caller, body: [file(id) for id in body["ids"]],
        "workspaces/get_workspaces": lambda caller, body: [workspace(id) for id in body["ids"]],
    }
    return services


def workspace(id: str) -> Workspace:
    return Workspace(id=id, tenant_id=ACME, user_id=new_id("usr"), name="Home")


async def ended_or_running(client: Client, me: str, kind: OperationKind, *, ended: bool) -> None:
    """An operation that ran before this gateway was there."""
    status = OperationStatus.COMPLETED if ended else OperationStatus.RUNNING
    state = OperationState.first(kind, utc_now(), started_by=me).model_copy(
        update={
            "status": status,
            "result": RESULTS[kind] if ended else None,
            "switch": SwitchedTenants(from_tenant_id=ACME, to_tenant_id=GLOBEX),
        }
    )
    handle = await client.start_workflow(
        "Past",
        id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
        task_queue=f"nobody-{uuid4().hex}",
        memo={MEMO_STATE: state.to_memo()},
        search_attributes=TypedSearchAttributes([SearchAttributePair(USER, me), SearchAttributePair(TENANTS, [ACME])]),
    )
    if ended:
        await handle.terminate()  # what its memo says of its end stands


@pytest.fixture
async def fifty(temporal_client: Client, me: str) -> None:
    """Forty that have ended and ten that run, of four kinds, once Temporal's visibility shows them."""
    kinds = list(RESULTS)
    await asyncio.gather(
        *(ended_or_running(temporal_client, me, kinds[n % len(kinds)], ended=n < 40) for n in range(50))
    )
    async with asyncio.timeout(20):
        while (await temporal_client.count_workflows(f"{ATTRIBUTE_USER} = '{me}'")).count < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.3)


@pytest.fixture
def temporal() -> TemporalCalls:
    return TemporalCalls()


@pytest.fixture
async def client(
    temporal_address: str, services: Services, temporal: TemporalCalls, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        settings(temporal_address, data_dir=tmp_path), services=services.transport, interceptors=[temporal]
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway.localhost") as client,
    ):
        yield client


async def page(client: httpx.AsyncClient, **variables: object) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = (await client.post("/graphql", json={"query": PAGE, "variables": variables}, headers=headers)).json()
    assert "errors" not in answer, answer
    nodes: list[dict[str, Any]] = answer["data"]["viewer"]["operations"]["nodes"]
    return nodes


@pytest.mark.usefixtures("fifty")
async def test_a_page_of_fifty_costs_a_call_of_each_service_and_no_visibility_request_once_it_is_known(
    client: httpx.AsyncClient, services: Services, temporal: TemporalCalls
) -> None:
    first = await page(client)
    assert Counter(node["status"] for node in first) == {"COMPLETED": 40, "RUNNING": 10}
    assert all(node["startedBy"] and node["tenant"] for node in first)
    assert sum(bool(node.get("switched") or node.get("uploaded") or node.get("onboarded")) for node in first) == 30
    assert temporal.counts["list"] == 1
    assert temporal.counts["describe"] == 10  # only those that run: a scan tells all of the others
    assert len(services.asked("users/get_users")) == 1

    temporal.counts.clear()
    services.calls.clear()
    assert await page(client) == first
    calls = Counter(verb.partition("/")[0] for verb, _, _ in services.calls)
    # Users are known for a while; a session is not, in a gateway without a Redis that would outdate its copy.
    assert calls == {"auth": 1, "tenants": 1, "files": 1, "workspaces": 1}
    assert temporal.counts["list"] == 0

    temporal.counts.clear()
    ended = await page(client, statuses=["COMPLETED"])
    assert len(ended) == 40
    assert temporal.counts["list"] == 0


@pytest.mark.usefixtures("fifty")
async def test_what_is_watched_is_not_described(client: httpx.AsyncClient, temporal: TemporalCalls) -> None:
    """The dashboard follows what is active, and the list then knows it too."""
    query = "{ viewer { dashboard { activeOperations { id } } } }"
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = (await client.post("/graphql", json={"query": query}, headers=headers)).json()
    assert len(answer["data"]["viewer"]["dashboard"]["activeOperations"]) >= 10
    await asyncio.sleep(0.3)
    await page(client)
    temporal.counts.clear()
    for _ in range(5):
        assert len(await page(client, statuses=["RUNNING"])) == 10
    assert temporal.counts["describe"] <= 10  # watchers look in on their own account, once each in this time
    assert temporal.counts["list"] == 0
