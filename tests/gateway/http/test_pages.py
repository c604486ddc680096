"""What a page of operations costs: a call of each service at most, and nothing of Temporal."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.base import new_id, utc_now
from contracts.operation_records import OperationRecord
from contracts.operations import (
    FileUploaded,
    LoggedIn,
    Operation,
    OperationKind,
    OperationResult,
    OperationState,
    OperationStatus,
    Position,
    SwitchedTenants,
    TenantSwitched,
    UserOnboarded,
    operation_id,
)
from contracts.workspaces import Workspace
from gateway.app import create_app
from gateway.dependencies import Dependencies
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


def ended_or_running(me: str, kind: OperationKind, *, ended: bool) -> OperationRecord:
    """The record of an operation that ran before this gateway was there."""
    status = OperationStatus.COMPLETED if ended else OperationStatus.RUNNING
    state = OperationState.first(kind, utc_now(), started_by=me).model_copy(
        update={
            "status": status,
            "result": RESULTS[kind] if ended else None,
            "switch": SwitchedTenants(from_tenant_id=ACME, to_tenant_id=GLOBEX),
        }
    )
    operation = Operation(
        id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
        kind=kind,
        user_id=me,
        tenant_ids=(ACME,),
        state=state,
        closed_at=utc_now() if ended else None,
        position=Position(revision=1, closed=ended),
    )
    return OperationRecord(operation=operation)


@pytest.fixture
def fifty(services: Services, me: str) -> None:
    """Forty that have ended and ten that run, of four kinds."""
    kinds = list(RESULTS)
    for n in range(50):
        services.record.add(ended_or_running(me, kinds[n % len(kinds)], ended=n < 40))


@pytest.fixture
def temporal() -> TemporalCalls:
    return TemporalCalls()


@pytest.fixture
async def client(
    temporal_address: str, services: Services, temporal: TemporalCalls, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        settings(temporal_address, data_dir=tmp_path),
        Dependencies(services=services.transport, interceptors=[temporal]),
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
async def test_a_page_of_fifty_costs_a_call_of_each_service_and_nothing_of_temporal(
    client: httpx.AsyncClient, services: Services, temporal: TemporalCalls
) -> None:
    first = await page(client)
    assert Counter(node["status"] for node in first) == {"COMPLETED": 40, "RUNNING": 10}
    assert all(node["startedBy"] and node["tenant"] for node in first)
    assert sum(bool(node.get("switched") or node.get("uploaded") or node.get("onboarded")) for node in first) == 30
    assert len(services.asked("users/get_users")) == 1

    services.calls.clear()
    assert await page(client) == first
    calls = Counter(verb.partition("/")[0] for verb, _, _ in services.calls if not verb.startswith("auth/"))
    assert calls == {"operations": 2, "tenants": 1, "files": 1, "workspaces": 1}, "users are known for a while"

    assert len(await page(client, statuses=["COMPLETED"])) == 40
    assert temporal.counts == {}


@pytest.mark.usefixtures("fifty")
async def test_operations_are_counted_only_for_who_asks_how_many_there_are(
    client: httpx.AsyncClient, services: Services
) -> None:
    query = "{ viewer { operations(first: 5) { nodes { id } } } }"
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = (await client.post("/graphql", json={"query": query}, headers=headers)).json()
    assert len(answer["data"]["viewer"]["operations"]["nodes"]) == 5
    assert [asked["with_total"] for asked in services.asked("operations/list_operations")] == [False]
