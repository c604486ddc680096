"""Failure of a terminated operation: it is compensated after the repair, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.operations.activities import Operations as RepairActivities
from activities.operations.record_repair import RecordRepair
from contracts.compensation_repair import EndedOperation, repair_id
from contracts.operations import Operation, StepStatus
from contracts.task_queues import TaskQueue
from infrastructure.temporal.operation_history import to_operation
from infrastructure.temporal.repair_status import with_repair
from resolvers.following.hub import ProgressHub
from tests.resolvers.operations.record_of_operations import Record, viewer
from tests.resolvers.operations.test_start import with_counted_calls
from tests.resolvers.scripted import Script, scripts
from worker.registry import activities_of
from worker.sandbox import workflow_runner
from workflows.repair_operation import RepairOperation


@pytest.fixture
async def hub(temporal_client: Client) -> AsyncIterator[ProgressHub]:
    async with ProgressHub(temporal_client) as hub:
        yield hub


async def repair(client: Client, script: Script) -> None:
    """Run the repair workflow of the operation, as the repair scheduler does."""
    ended = EndedOperation(operation_id=script.id, run_id=script.handle.first_execution_run_id or "")
    async with Worker(
        client,
        task_queue=TaskQueue.OPERATIONS,
        workflows=[RepairOperation],
        activities=activities_of(RepairActivities(client)),
        workflow_runner=workflow_runner(),
    ):
        await client.execute_workflow(
            RepairOperation.run, ended, id=repair_id(script.id, ended.run_id), task_queue=TaskQueue.OPERATIONS
        )


async def test_failure_is_compensated_only_after_the_repair(
    temporal_client: Client, hub: ProgressHub, record: Record
) -> None:
    async def describe() -> Operation:
        description = await temporal_client.get_workflow_handle(script.id).describe()
        return await with_repair(await to_operation(description, temporal_client), temporal_client)

    async def listed() -> Operation:
        (operation,) = await record.operations(user)
        return operation

    user, record_repair = viewer(), RecordRepair(temporal_client, record.service)
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=user.user_id, with_kind=True)
        async with aclosing(hub.watch(script.id)) as watched:
            await anext(watched)
            await script.handle.terminate()
            await record_repair.correct(script.id)
            before = [await describe(), await listed()]
    assert [operation.needs_repair for operation in before] == [True, True]
    await repair(temporal_client, script)
    await record_repair.reconcile()

    for operation in (await describe(), await listed()):
        failure = operation.state.failure
        assert failure is not None
        assert failure.compensated
        assert failure.message == "The operation was terminated; its completed steps were undone."
        assert StepStatus.RUNNING not in {step.status for step in operation.state.steps}


async def test_makes_no_call_for_an_operation_that_needs_no_repair(temporal_client: Client, hub: ProgressHub) -> None:
    client, calls = with_counted_calls(temporal_client)
    async with scripts(temporal_client) as starter:
        script = await starter.start()
        await script.end()
        async with aclosing(hub.watch(script.id)) as watched:
            async for state in watched:
                assert await with_repair(state, client) is state
    assert calls.counts["describe"] == 0
