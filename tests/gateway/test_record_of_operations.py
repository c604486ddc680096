"""What the record of operations promises to clients, with the real service on its database; no worker runs."""

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
from tests.gateway.dashboard.dashboard_client import Gateway, new_user, refuse, running_gateway
from tests.gateway.fakes import ACME, GLOBEX, Services, person, session
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
    async with database(await create_sqlite_database(tmp_path)):
        yield OperationsService()


@pytest.fixture
def services(record: OperationsService) -> Services:
    """Of a user of this test's own."""
    me = new_user()
    services = Services(handlers=handlers_of(record))
    services.handlers["auth/get_current_session"] = lambda caller, body: session(user_id=me)
    services.handlers["users/get_users"] = lambda caller, body: [person(id) for id in body["ids"]]
    return services


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path, services: Services) -> AsyncIterator[Gateway]:
    async with running_gateway(temporal_address, tmp_path, services, None, None) as gateway:
        yield gateway


async def listed(gateway: Gateway) -> list[str]:
    answer = await gateway.ask(LIST)
    assert "errors" not in answer, answer
    return [node["id"] for node in answer["data"]["viewer"]["operations"]["nodes"]]


async def active(gateway: Gateway) -> list[str]:
    shown, errors = await gateway.dashboard()
    assert errors == {}
    return [operation["id"] for operation in shown["activeOperations"]]


def error_of(answer: dict[str, Any]) -> tuple[str, str | None]:
    (error,) = answer["errors"]
    return error["extensions"]["code"], error["extensions"].get("service")


async def followed(gateway: Gateway, operation_id: str) -> list[dict[str, Any]]:
    """The results of a subscription to its end, over an event stream."""
    headers = {"authorization": "Bearer ada-s-token", "accept": "text/event-stream"}
    query = {"query": FOLLOW % operation_id}
    async with asyncio.timeout(20), gateway.http.stream("POST", "/graphql", json=query, headers=headers) as response:
        lines = (await response.aread()).decode().splitlines()
    payloads = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return [json.loads(payload) for payload in payloads if payload]


async def removed_from_temporal(client: Client, operation_id: str) -> None:
    """As Temporal's retention does."""
    request = DeleteWorkflowExecutionRequest(
        namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=operation_id)
    )
    await client.workflow_service.delete_workflow_execution(request)
    async with asyncio.timeout(120):
        while await _is_known(client, operation_id):  # noqa: ASYNC110 - it takes its time
            await asyncio.sleep(0.1)


async def _is_known(client: Client, operation_id: str) -> bool:
    try:
        await client.get_workflow_handle(operation_id).describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def closed(client: Client, record: OperationsService, operation_id: str) -> None:
    """End it from outside, and have the record corrected."""
    await client.get_workflow_handle(operation_id).terminate()
    description = await client.get_workflow_handle(operation_id).describe()
    await record.write([OperationRecord(operation=await to_operation(description, client))])


async def test_an_operation_is_listed_immediately_after_its_start(gateway: Gateway) -> None:
    started: list[str] = []
    for _ in range(5):
        started.insert(0, await gateway.start())
        assert await listed(gateway) == started
        assert await active(gateway) == started
    answer = await gateway.ask(LIST)
    assert answer["data"]["viewer"]["operations"]["totalCount"] == len(started)


async def test_many_that_start_at_once_find_their_own(gateway: Gateway) -> None:
    async def start() -> None:
        assert await gateway.start() in await listed(gateway)

    await asyncio.gather(*(start() for _ in range(20)))


async def test_another_gateway_lists_it_within_two_seconds(
    gateway: Gateway, temporal_address: str, tmp_path: Path, services: Services
) -> None:
    async with running_gateway(temporal_address, tmp_path, services, None, None) as other:
        assert await active(other) == []
        started, began = await gateway.start(), time.monotonic()
        while await active(other) != [started] and time.monotonic() - began < 4:
            pass
        assert time.monotonic() - began < 2


async def test_starts_that_fail_leave_nothing(gateway: Gateway) -> None:
    assert "errors" not in await gateway.ask(START % (GLOBEX, "key"))
    before = await listed(gateway)
    assert len(before) == 1

    answer = await gateway.ask(START % (ACME, "key"))
    assert error_of(answer)[0] == "CONFLICT"
    gateway.temporal.away = True
    answer = await gateway.ask(START % (GLOBEX, "another key"))
    assert error_of(answer) == ("UPSTREAM_UNAVAILABLE", "temporal")
    gateway.temporal.away = False

    await asyncio.sleep(0.3)
    assert await listed(gateway) == before
    assert await active(gateway) == before


async def test_starting_and_reading_go_on_while_the_record_is_away_and_lists_say_so(
    gateway: Gateway, services: Services, record: OperationsService, temporal_client: Client
) -> None:
    usual = handlers_of(record)
    services.handlers |= dict.fromkeys(usual, refuse)
    began = time.monotonic()
    started = await gateway.start()
    assert (await gateway.ask(OPERATION % started))["data"]["operation"] == {"id": started, "status": "RUNNING"}
    assert (await gateway.ask(NODE % started))["data"]["node"]["id"] == started
    assert time.monotonic() - began < 3
    assert error_of(await gateway.ask(LIST)) == ("UPSTREAM_UNAVAILABLE", "operations")
    shown, errors = await gateway.dashboard()
    assert shown["activeOperations"] is None
    assert errors["activeOperations"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert errors["activeOperations"]["service"] == "operations"

    following = asyncio.create_task(followed(gateway, started))
    await asyncio.sleep(0.5)
    await temporal_client.get_workflow_handle(started).terminate()
    assert [result["data"]["operation"]["status"] for result in await following] == ["RUNNING", "FAILED"]

    services.handlers |= usual
    async with asyncio.timeout(15):
        while "errors" in (await gateway.ask(LIST)):  # noqa: ASYNC110 - until the breaker lets a call through
            await asyncio.sleep(0.2)
        while await listed(gateway) != [started]:  # noqa: ASYNC110 - the write is repeated after a pause
            await asyncio.sleep(0.2)


async def test_a_record_that_hangs_delays_no_start_and_a_read_only_a_little(
    gateway: Gateway, services: Services
) -> None:
    async def hang(_caller: object, _body: object) -> None:
        await asyncio.sleep(30)

    services.handlers |= {"operations/write": hang, "operations/look_up": hang}
    began = time.monotonic()
    started = await gateway.start()
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert (await gateway.ask(OPERATION % started))["data"]["operation"]["id"] == started
    assert time.monotonic() - began < 2


async def test_what_temporal_does_not_retain_is_read_from_the_record_by_whom_it_concerns(
    gateway: Gateway, record: OperationsService, services: Services, temporal_client: Client
) -> None:
    started = await gateway.start()
    assert await listed(gateway) == [started]
    await closed(temporal_client, record, started)
    before = await gateway.ask(OPERATION % started)
    await removed_from_temporal(temporal_client, started)

    assert (await gateway.ask(OPERATION % started)) == before
    assert before["data"]["operation"]["status"] == "FAILED"
    assert (await gateway.ask(NODE % started))["data"]["node"] == {"__typename": "TenantSwitch", "id": started}
    assert await listed(gateway) == [started]
    results = await followed(gateway, started)
    assert [result["data"]["operation"] for result in results] == [{"id": started, "status": "FAILED"}]
    retry = 'mutation { retryOperation(input: { id: "%s", waitSeconds: 0 }) { operation { id } } }'
    assert error_of(await gateway.ask(retry % started))[0] == "CONFLICT"

    other = session(user_id=new_user()).model_copy(update={"permissions": ()})
    services.handlers["auth/get_current_session"] = lambda caller, body: other
    assert error_of(await gateway.ask(OPERATION % started)) == ("NOT_FOUND", None)
    (result,) = await followed(gateway, started)
    assert error_of(result) == ("NOT_FOUND", None)
    assert await listed(gateway) == []


async def test_an_operation_that_only_the_record_could_know_is_not_said_to_be_unknown_while_that_is_away(
    gateway: Gateway, services: Services
) -> None:
    unknown = operation_id(b"", OperationKind.TENANT_SWITCH, tenant_id="", user_id="", key=None)
    assert error_of(await gateway.ask(OPERATION % unknown)) == ("NOT_FOUND", None)
    services.handlers["operations/look_up"] = refuse
    assert error_of(await gateway.ask(OPERATION % unknown)) == ("UPSTREAM_UNAVAILABLE", "operations")


async def test_a_deleted_operation_is_gone_everywhere(
    gateway: Gateway, record: OperationsService, temporal_client: Client
) -> None:
    started, other = await gateway.start(), await gateway.start()
    assert await listed(gateway) == [other, started]
    deletion = OperationDeletion(temporal_client, record)
    with pytest.raises(OperationOpen):
        await deletion.delete(started)
    assert await listed(gateway) == [other, started]

    await closed(temporal_client, record, started)
    await record.delete(started)  # the command has come no further yet
    await assert_gone(gateway, started)
    assert await listed(gateway) == [other]

    assert await deletion.delete(started) == 1
    await assert_gone(gateway, started)
    assert await listed(gateway) == [other]


async def assert_gone(gateway: Gateway, operation_id: str) -> None:
    (result,) = await followed(gateway, operation_id)
    for answer in (await gateway.ask(OPERATION % operation_id), await gateway.ask(NODE % operation_id), result):
        assert error_of(answer) == ("NOT_FOUND", None)


async def test_deletes_what_the_record_does_not_have_and_refuses_unknown_ids(
    gateway: Gateway, services: Services, record: OperationsService, temporal_client: Client
) -> None:
    services.handlers["operations/write"] = refuse
    started = await gateway.start()
    await temporal_client.get_workflow_handle(started).terminate()
    deletion = OperationDeletion(temporal_client, record)
    assert await deletion.delete(started) == 1
    assert (await record.look_up([started])).deleted == (started,)
    assert error_of(await gateway.ask(OPERATION % started)) == ("NOT_FOUND", None)
    unknown = operation_id(b"", OperationKind.TENANT_SWITCH, tenant_id="", user_id="", key=None)
    with pytest.raises(OperationNotFound):
        await deletion.delete(unknown)
