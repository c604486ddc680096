"""A page of operations calls each service at most once and never calls Temporal."""

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
from tests.gateway.fakes import ACME, FILE, GLOBEX, TOKEN, FakeServices, file, make_user, session, settings
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
def user_id() -> str:
    """Id of a user that no other test uses."""
    return new_id("usr")


@pytest.fixture
def services(user_id: str) -> FakeServices:
    """Fake services that return every requested user, file and workspace."""
    services = FakeServices()
    services.handlers |= {
        "auth/get_current_session": lambda caller, body: session(user_id=user_id),
        "users/get_users": lambda caller, body: [make_user(id) for id in body["ids"]],
        "files/get_files": lambda caller, body: [file(id) for id in body["ids"]],
        "workspaces/get_workspaces": lambda caller, body: [workspace(id) for id in body["ids"]],
    }
    return services


def workspace(id: str) -> Workspace:
    return Workspace(id=id, tenant_id=ACME, user_id=new_id("usr"), name="Home")


def operation_record(user_id: str, kind: OperationKind, *, ended: bool) -> OperationRecord:
    """Return the record of an operation, completed or running, that started before this gateway."""
    status = OperationStatus.COMPLETED if ended else OperationStatus.RUNNING
    state = OperationState.first(kind, utc_now(), started_by=user_id).model_copy(
        update={
            "status": status,
            "result": RESULTS[kind] if ended else None,
            "switch": SwitchedTenants(from_tenant_id=ACME, to_tenant_id=GLOBEX),
        }
    )
    operation = Operation(
        id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
        kind=kind,
        user_id=user_id,
        tenant_ids=(ACME,),
        state=state,
        closed_at=utc_now() if ended else None,
        position=Position(revision=1, closed=ended),
    )
    return OperationRecord(operation=operation)


@pytest.fixture
def fifty_operations(services: FakeServices, user_id: str) -> None:
    """Fifty operations of four kinds in the record: forty completed and ten running."""
    kinds = list(RESULTS)
    for n in range(50):
        services.record.add(operation_record(user_id, kinds[n % len(kinds)], ended=n < 40))


@pytest.fixture
def temporal() -> TemporalCalls:
    """Counts the calls of the gateway to Temporal."""
    return TemporalCalls()


@pytest.fixture
async def client(
    temporal_address: str, services: FakeServices, temporal: TemporalCalls, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway in this process, whose calls to Temporal are counted."""
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


async def page_of_operations(client: httpx.AsyncClient, **variables: object) -> list[dict[str, Any]]:
    """Return the nodes of the first page of the viewer's operations."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    response = (await client.post("/graphql", json={"query": PAGE, "variables": variables}, headers=headers)).json()
    assert "errors" not in response, response
    nodes: list[dict[str, Any]] = response["data"]["viewer"]["operations"]["nodes"]
    return nodes


@pytest.mark.usefixtures("fifty_operations")
async def test_a_page_of_fifty_operations_calls_each_service_once_and_not_temporal(
    client: httpx.AsyncClient, services: FakeServices, temporal: TemporalCalls
) -> None:
    first = await page_of_operations(client)
    assert Counter(node["status"] for node in first) == {"COMPLETED": 40, "RUNNING": 10}
    assert all(node["startedBy"] and node["tenant"] for node in first)
    assert sum(bool(node.get("switched") or node.get("uploaded") or node.get("onboarded")) for node in first) == 30
    assert len(services.requests_to("users/get_users")) == 1

    services.calls.clear()
    assert await page_of_operations(client) == first
    calls = Counter(verb.partition("/")[0] for verb, _, _ in services.calls if not verb.startswith("auth/"))
    assert calls == {"operations": 2, "tenants": 1, "files": 1, "workspaces": 1}, "users are cached"

    assert len(await page_of_operations(client, statuses=["COMPLETED"])) == 40
    assert temporal.counts == {}


@pytest.mark.usefixtures("fifty_operations")
async def test_counts_operations_only_if_the_total_is_selected(
    client: httpx.AsyncClient, services: FakeServices
) -> None:
    query = "{ viewer { operations(first: 5) { nodes { id } } } }"
    headers = {"authorization": f"Bearer {TOKEN}"}
    response = (await client.post("/graphql", json={"query": query}, headers=headers)).json()
    assert len(response["data"]["viewer"]["operations"]["nodes"]) == 5
    assert [request["with_total"] for request in services.requests_to("operations/list_operations")] == [False]
