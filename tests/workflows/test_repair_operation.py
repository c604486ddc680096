"""A repair takes back, in the same order, what the operation itself would have taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowFailureError, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.operations.activities import recorded_calls_in
from contracts.compensation_repair import EndedOperation, repair_id
from contracts.task_queues import TaskQueue
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan
from tests.workflows.test_switch_tenant import expected_undos, open_scenario, snapshot, undos_in
from workflows.compensations import COMPENSATIONS, undo_of
from workflows.repair_operation import RepairOperation

HISTORIES = Path(__file__).parent.parent / "histories"
UNSUCCESSFUL = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
)
UNDOS = {forward: undo.__name__ for forward, undo in COMPENSATIONS.items()}


def events_of(path: Path) -> Sequence[HistoryEvent]:
    return WorkflowHistory.from_json("recorded", path.read_text()).events


UNDONE = sorted(
    path
    for path in HISTORIES.glob("*/*.json")
    if not path.stem.startswith("repair_operation.") and events_of(path)[-1].event_type in UNSUCCESSFUL
)


async def told(events: Sequence[HistoryEvent]) -> AsyncIterator[HistoryEvent]:
    for event in events:
        yield event


@pytest.mark.parametrize("path", UNDONE, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_repair_runs_the_same_undos_as_the_operation(path: Path) -> None:
    events = events_of(path)
    called = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    forward = [event for event, name in zip(events, called, strict=True) if name not in UNDOS.values()]
    found = await recorded_calls_in(told(forward), pydantic_data_converter)
    undone = [UNDOS[call.activity] for call in reversed(found.calls) if undo_of(call) is not None]
    assert undone == [name for name in called if name in UNDOS.values()]


def test_recorded_histories_contain_undos() -> None:
    assert len(UNDONE) > 10


@pytest.mark.parametrize("failing", [[], ["undo_create_session"], ["undo_replace_session"]])
async def test_repair_runs_all_undos_newest_first_and_fails_if_one_fails(
    time_skipping: WorkflowEnvironment, tmp_path: Path, failing: list[str]
) -> None:
    fault_plan = FaultPlan()
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        switch = await scenario.start()
        await switch.result()
        fault_plan.before = dict.fromkeys(failing, FINAL_ERROR)
        ended = EndedOperation(operation_id=switch.id, run_id=switch.result_run_id or "")
        repair = await time_skipping.client.start_workflow(
            RepairOperation.run,
            ended,
            id=repair_id(ended.operation_id, ended.run_id),
            task_queue=TaskQueue.OPERATIONS,
        )
        if failing:
            with pytest.raises(WorkflowFailureError) as raised:
                await repair.result()
            assert isinstance(raised.value.cause, ApplicationError)
            forward = {undo.__name__: name for name, undo in COMPENSATIONS.items()}
            assert raised.value.cause.message == f"Not undone: {forward[failing[0]]}"
        else:
            await repair.result()
            assert await snapshot() == before
        assert (await snapshot())[0] == before[0], "the user is where they were"

    assert undos_in(fault_plan.attempted) == expected_undos("end_old_session")
