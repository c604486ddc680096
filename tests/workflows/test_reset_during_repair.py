"""A reset that comes while a repair is under way: nothing is left half undone, and the work of a new run stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from contracts.compensation_repair import EndedOperation, repair_id
from contracts.operations import OperationStatus
from contracts.task_queues import TaskQueue
from tests.servers import reset_workflow
from tests.workflows.saga_harness import FaultPlan, state_of
from tests.workflows.test_switch_tenant import open_scenario, snapshot
from workflows.repair_operation import RepairOperation


async def _closed(client: Client, operation_id: str, *, after: str) -> WorkflowHandle[object, object]:
    async with asyncio.timeout(60):
        while True:
            described = await client.get_workflow_handle(operation_id).describe()
            if described.run_id != after and described.close_time is not None:
                return client.get_workflow_handle(operation_id)
            await asyncio.sleep(0.1)


async def test_reset_before_the_first_undo_keeps_completed_steps(
    temporal_client: Client, temporal_address: str, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(cancel_before="get_recorded_calls")
    async with open_scenario(WorkflowEnvironment.from_client(temporal_client), tmp_path, fault_plan) as scenario:
        switch = await scenario.start()
        await switch.result()
        done = await snapshot()
        repaired = await _repair_with_reset(
            temporal_client, temporal_address, fault_plan, switch, to="LastWorkflowTask"
        )
        operation = await _closed(temporal_client, switch.id, after=repaired.run_id)
        assert (await state_of(operation)).status is OperationStatus.COMPLETED
        assert await snapshot() == done


@pytest.mark.parametrize("undo", ["undo_replace_session", "undo_create_session", "undo_update_user_tenant"])
async def test_reset_between_two_undos_ends_with_all_steps_undone(
    temporal_client: Client, temporal_address: str, tmp_path: Path, undo: str
) -> None:
    fault_plan = FaultPlan(cancel_before=undo)
    async with open_scenario(WorkflowEnvironment.from_client(temporal_client), tmp_path, fault_plan) as scenario:
        before = await snapshot()
        switch = await scenario.start()
        await switch.result()
        repaired = await _repair_with_reset(
            temporal_client, temporal_address, fault_plan, switch, to="FirstWorkflowTask"
        )
        operation = await _closed(temporal_client, switch.id, after=repaired.run_id)
        state = await state_of(operation)
        assert state.status in (OperationStatus.FAILED, OperationStatus.CANCELLED)
        assert state.failure is not None
        assert state.failure.compensated
        assert (await snapshot())[0] == before[0], "the user is where they were"
        assert [row["is_active"] for row in (await snapshot())[1] if row["id"] == before[1][0]["id"]] == [True]


async def _repair_with_reset(
    client: Client, address: str, fault_plan: FaultPlan, switch: WorkflowHandle[object, object], *, to: str
) -> EndedOperation:
    """Repair the switch as if it had been ended from outside, and reset it where the fault_plan says."""
    ended = EndedOperation(operation_id=switch.id, run_id=switch.result_run_id or "")
    has_reset = False

    async def reset() -> None:
        nonlocal has_reset
        if not has_reset:
            has_reset = True
            await reset_workflow(address, switch.id, to=to)

    async def hold(activity: str) -> None:
        """Let the run that the reset begins wait until the repair has undone a part."""
        while activity == "check_access" and has_reset and fault_plan.cancel_before not in fault_plan.ended_attempts:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    fault_plan.cancel, fault_plan.on_attempt = reset, hold
    repair = await client.start_workflow(
        RepairOperation.run,
        ended,
        id=repair_id(ended.operation_id, ended.run_id),
        task_queue=TaskQueue.OPERATIONS,
    )
    async with asyncio.timeout(60):
        await repair.result()
    assert (await repair.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert has_reset
    return ended
