"""What clients see of the record of operations, with the real service on its database and no worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.operations.deletion import OperationDeletion, OperationOpen
from activities.operations.service import OperationsService
from contracts.errors import OperationNotFound
from contracts.operation_records import OperationRecord
from contracts.operations import OperationKind, operation_id
from infrastructure.temporal.operation_history import to_operation
from tests.databases import create_sqlite_database
from tests.gateway.dashboard.dashboard_client import Gateway, fail_to_connect, new_user, running_gateway
from tests.gateway.fakes import ACME, GLOBEX, FakeServices, make_user, session
from tests.gateway.record import handlers_of
from worker.database import database

LIST = "{ viewer { operations(first: 50) { totalCount nodes { id status } } } }"
OPERATION = '{ operation(id: "%s") { id status } }'
NODE = '{ node(id: "%s") { __typename id } }'
START = """
mutation { switchTenant(input: { tenantId: "%s", waitSeconds: 0, idempotencyKey: "%s" }) { operation { id } } }
"""
FOLLOW = 'subscription { operation(id: "%s") { id status } }'


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[OperationsService]:
    """The operations service on an empty database."""
    async with database(await create_sqlite_database(tmp_path)):
        yield OperationsService()


@pytest.fixture
def services(record: OperationsService) -> FakeServices:
    """Fake services with the real record of operations, for a user that no other test uses."""
    own_user_id = new_user()
    services = FakeServices(handlers=handlers_of(record))
    services.handlers["auth/get_current_session"] = lambda caller, body: session(user_id=own_user_id)
    services.handlers["users/get_users"] = lambda caller, body: [make_user(id) for id in body["ids"]]
    return services


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path, services: FakeServices) -> AsyncIterator[Gateway]:
    """A gateway in this process."""
    async with running_gateway(temporal_address, tmp_path, services, None, None) as gateway:
        yield gateway


async def list_ids(gateway: Gateway) -> list[str]:
    """Return the ids of the viewer's operations, in the order of the list."""
    response = await gateway.execute(LIST)
    assert "errors" not in response, response
    return [node["id"] for node in response["data"]["viewer"]["operations"]["nodes"]]


async def active_ids(gateway: Gateway) -> list[str]:
    """Return the ids of the active operations on the dashboard."""
    content, errors = await gateway.dashboard()
    assert errors == {}
    return [operation["id"] for operation in content["activeOperations"]]


def error_of(response: dict[str, Any]) -> tuple[str, str | None]:
    """Return the code and the service of the only error."""
    (error,) = response["errors"]
    return error["extensions"]["code"], error["extensions"].get("service")


async def subscription_results(gateway: Gateway, operation_id: str) -> list[dict[str, Any]]:
    """Return all results of a subscription to the operation, over an event stream."""
    headers = {"authorization": "Bearer ada-s-token", "accept": "text/event-stream"}
    query = {"query": FOLLOW % operation_id}
    async with asyncio.timeout(20), gateway.http.stream("POST", "/graphql", json=query, headers=headers) as response:
        lines = (await response.aread()).decode().splitlines()
    payloads = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return [json.loads(payload) for payload in payloads if payload]


async def delete_from_temporal(client: Client, operation_id: str) -> None:
    """Delete the workflow execution, as Temporal's retention does."""
    request = DeleteWorkflowExecutionRequest(
        namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=operation_id)
    )
    await client.workflow_service.delete_workflow_execution(request)
    async with asyncio.timeout(120):
        while await _exists_in_temporal(client, operation_id):  # noqa: ASYNC110 - Temporal deletes asynchronously
            await asyncio.sleep(0.1)


async def _exists_in_temporal(client: Client, operation_id: str) -> bool:
    try:
        await client.get_workflow_handle(operation_id).describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def close_operation(client: Client, record: OperationsService, operation_id: str) -> None:
    """Terminate the workflow from outside and write its final state to the record."""
    await client.get_workflow_handle(operation_id).terminate()
    description = await client.get_workflow_handle(operation_id).describe()
    await record.write([OperationRecord(operation=await to_operation(description, client))])


async def test_lists_an_operation_immediately_after_its_start(gateway: Gateway) -> None:
    started: list[str] = []
    for _ in range(5):
        started.insert(0, await gateway.start())
        assert await list_ids(gateway) == started
        assert await active_ids(gateway) == started
    response = await gateway.execute(LIST)
    assert response["data"]["viewer"]["operations"]["totalCount"] == len(started)


async def test_concurrent_starts_each_list_their_own_operation(gateway: Gateway) -> None:
    async def start() -> None:
        assert await gateway.start() in await list_ids(gateway)

    await asyncio.gather(*(start() for _ in range(20)))


async def test_another_gateway_lists_the_operation_within_two_seconds(
    gateway: Gateway, temporal_address: str, tmp_path: Path, services: FakeServices
) -> None:
    async with running_gateway(temporal_address, tmp_path, services, None, None) as other:
        assert await active_ids(other) == []
        started, began = await gateway.start(), time.monotonic()
        while await active_ids(other) != [started] and time.monotonic() - began < 4:
            pass
        assert time.monotonic() - began < 2


async def test_failed_starts_leave_no_record(gateway: Gateway) -> None:
    assert "errors" not in await gateway.execute(START % (GLOBEX, "key"))
    before = await list_ids(gateway)
    assert len(before) == 1

    response = await gateway.execute(START % (ACME, "key"))
    assert error_of(response)[0] == "CONFLICT"
    gateway.temporal.is_unavailable = True
    response = await gateway.execute(START % (GLOBEX, "another key"))
    assert error_of(response) == ("UPSTREAM_UNAVAILABLE", "temporal")
    gateway.temporal.is_unavailable = False

    await asyncio.sleep(0.3)
    assert await list_ids(gateway) == before
    assert await active_ids(gateway) == before


async def test_starts_and_reads_work_while_the_record_is_unavailable_and_lists_fail(
    gateway: Gateway, services: FakeServices, record: OperationsService, temporal_client: Client
) -> None:
    default_handler = handlers_of(record)
    services.handlers |= dict.fromkeys(default_handler, fail_to_connect)
    began = time.monotonic()
    started = await gateway.start()
    assert (await gateway.execute(OPERATION % started))["data"]["operation"] == {"id": started, "status": "RUNNING"}
    assert (await gateway.execute(NODE % started))["data"]["node"]["id"] == started
    assert time.monotonic() - began < 3
    assert error_of(await gateway.execute(LIST)) == ("UPSTREAM_UNAVAILABLE", "operations")
    content, errors = await gateway.dashboard()
    assert content["activeOperations"] is None
    assert errors["activeOperations"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert errors["activeOperations"]["service"] == "operations"

    results_task = asyncio.create_task(subscription_results(gateway, started))
    await asyncio.sleep(0.5)
    await temporal_client.get_workflow_handle(started).terminate()
    assert [result["data"]["operation"]["status"] for result in await results_task] == ["RUNNING", "FAILED"]

    services.handlers |= default_handler
    async with asyncio.timeout(15):
        while "errors" in (await gateway.execute(LIST)):  # noqa: ASYNC110 - until the circuit breaker closes
            await asyncio.sleep(0.2)
        while await list_ids(gateway) != [started]:  # noqa: ASYNC110 - until the write is retried
            await asyncio.sleep(0.2)


async def test_hanging_record_delays_no_start_and_reads_only_briefly(gateway: Gateway, services: FakeServices) -> None:
    async def hang(_caller: object, _body: object) -> None:
        await asyncio.sleep(30)

    services.handlers |= {"operations/write": hang, "operations/look_up": hang}
    began = time.monotonic()
    started = await gateway.start()
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert (await gateway.execute(OPERATION % started))["data"]["operation"]["id"] == started
    assert time.monotonic() - began < 2


async def test_reads_operations_beyond_temporals_retention_from_the_record_if_authorized(
    gateway: Gateway, record: OperationsService, services: FakeServices, temporal_client: Client
) -> None:
    started = await gateway.start()
    assert await list_ids(gateway) == [started]
    await close_operation(temporal_client, record, started)
    before = await gateway.execute(OPERATION % started)
    await delete_from_temporal(temporal_client, started)

    assert (await gateway.execute(OPERATION % started)) == before
    assert before["data"]["operation"]["status"] == "FAILED"
    assert (await gateway.execute(NODE % started))["data"]["node"] == {"__typename": "TenantSwitch", "id": started}
    assert await list_ids(gateway) == [started]
    results = await subscription_results(gateway, started)
    assert [result["data"]["operation"] for result in results] == [{"id": started, "status": "FAILED"}]
    retry = 'mutation { retryOperation(input: { id: "%s", waitSeconds: 0 }) { operation { id } } }'
    assert error_of(await gateway.execute(retry % started))[0] == "CONFLICT"

    other = session(user_id=new_user()).model_copy(update={"permissions": ()})
    services.handlers["auth/get_current_session"] = lambda caller, body: other
    assert error_of(await gateway.execute(OPERATION % started)) == ("NOT_FOUND", None)
    (result,) = await subscription_results(gateway, started)
    assert error_of(result) == ("NOT_FOUND", None)
    assert await list_ids(gateway) == []


async def test_unavailable_record_is_an_error_and_not_a_missing_operation(
    gateway: Gateway, services: FakeServices
) -> None:
    unknown = operation_id(b"", OperationKind.TENANT_SWITCH, tenant_id="", user_id="", key=None)
    assert error_of(await gateway.execute(OPERATION % unknown)) == ("NOT_FOUND", None)
    services.handlers["operations/look_up"] = fail_to_connect
    assert error_of(await gateway.execute(OPERATION % unknown)) == ("UPSTREAM_UNAVAILABLE", "operations")


async def test_deleted_operation_is_not_found_anywhere(
    gateway: Gateway, record: OperationsService, temporal_client: Client
) -> None:
    started, other = await gateway.start(), await gateway.start()
    assert await list_ids(gateway) == [other, started]
    deletion = OperationDeletion(temporal_client, record)
    with pytest.raises(OperationOpen):
        await deletion.delete(started)
    assert await list_ids(gateway) == [other, started]

    await close_operation(temporal_client, record, started)
    await record.delete(started)  # the state of a deletion that was interrupted after its first step
    await assert_not_found(gateway, started)
    assert await list_ids(gateway) == [other]

    assert await deletion.delete(started) == 1
    await assert_not_found(gateway, started)
    assert await list_ids(gateway) == [other]


async def assert_not_found(gateway: Gateway, operation_id: str) -> None:
    """Check that no way of reading the operation finds it."""
    (result,) = await subscription_results(gateway, operation_id)
    for response in (
        await gateway.execute(OPERATION % operation_id),
        await gateway.execute(NODE % operation_id),
        result,
    ):
        assert error_of(response) == ("NOT_FOUND", None)


async def test_deletes_an_unrecorded_operation_and_refuses_unknown_ids(
    gateway: Gateway, services: FakeServices, record: OperationsService, temporal_client: Client
) -> None:
    services.handlers["operations/write"] = fail_to_connect
    started = await gateway.start()
    await temporal_client.get_workflow_handle(started).terminate()
    deletion = OperationDeletion(temporal_client, record)
    assert await deletion.delete(started) == 1
    assert (await record.look_up([started])).deleted == (started,)
    assert error_of(await gateway.execute(OPERATION % started)) == ("NOT_FOUND", None)
    unknown = operation_id(b"", OperationKind.TENANT_SWITCH, tenant_id="", user_id="", key=None)
    with pytest.raises(OperationNotFound):
        await deletion.delete(unknown)
