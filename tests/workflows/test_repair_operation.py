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

from activities.operations.activities import effects_in
from contracts.compensation_repair import EndedOperation, repair_id
from contracts.task_queues import TaskQueue
from tests.workflows.saga_harness import ANSWER, Script
from tests.workflows.test_switch_tenant import expected_undos, scene, things, undos_in
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
async def test_undoes_what_the_operation_undid_newest_first(path: Path) -> None:
    events = events_of(path)
    called = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    forward = [event for event, name in zip(events, called, strict=True) if name not in UNDOS.values()]
    found = await effects_in(told(forward), pydantic_data_converter)
    undone = [UNDOS[effect.activity] for effect in reversed(found.effects) if undo_of(effect) is not None]
    assert undone == [name for name in called if name in UNDOS.values()]


def test_some_histories_undo_something() -> None:
    assert len(UNDONE) > 10


@pytest.mark.parametrize("failing", [[], ["rollback_session_creation"], ["restore_previous_session"]])
async def test_undoes_all_that_it_can_newest_first_and_fails_where_something_is_left(
    time_skipping: WorkflowEnvironment, tmp_path: Path, failing: list[str]
) -> None:
    script = Script()
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        switch = await playing.start()
        await switch.result()
        script.before = dict.fromkeys(failing, ANSWER)
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
            assert await things() == before
        assert (await things())[0] == before[0], "the user is where they were"

    assert undos_in(script.ran) == expected_undos("end_old_session")
