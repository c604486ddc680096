"""What a client sees of an operation while it goes on: each state is written before the step that it announces."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from contracts.operations import STEPS, OperationState, OperationStatus, StepStatus
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan, state_of
from tests.workflows.test_switch_tenant import ACTIVITY_OF, KIND, UNDO_OF, open_scenario
from workflows.switch_tenant import SwitchTenant

PENDING, RUNNING, COMPLETED = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.COMPLETED
FAILED, COMPENSATED, NOT_UNDONE = StepStatus.FAILED, StepStatus.COMPENSATED, StepStatus.COMPENSATION_FAILED


async def seen(
    environment: WorkflowEnvironment, folder: Path, fault_plan: FaultPlan
) -> tuple[dict[str, OperationState], OperationState]:
    """The state that a client reads while each activity runs its first try, and the last one."""
    states: dict[str, OperationState] = {}
    async with open_scenario(environment, folder, fault_plan) as (harness, command):
        handle = await harness.start(SwitchTenant.run, command, KIND)

        async def look(name: str) -> None:
            states.setdefault(name, await state_of(handle))

        fault_plan.on_attempt = look
        return states, await harness.end_of(handle)


def statuses(state: OperationState) -> list[StepStatus]:
    return [step.status for step in state.steps]


def assert_revisions_rise(states: list[OperationState]) -> None:
    assert all(before.revision < after.revision for before, after in pairwise(states))


async def test_step_is_running_in_the_memo_while_its_activity_runs(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    states, last = await seen(time_skipping, tmp_path, FaultPlan())

    assert list(states) == list(ACTIVITY_OF.values())
    for index, (name, activity) in enumerate(ACTIVITY_OF.items()):
        state = states[activity]
        assert state.status is OperationStatus.RUNNING
        assert statuses(state) == [COMPLETED] * index + [RUNNING] + [PENDING] * (5 - index), name
        assert (state.steps[index].attempt, state.steps[index].completed_at) == (1, None)
        assert state.steps[index].started_at is not None
    assert_revisions_rise([*states.values(), last])


async def test_memo_shows_the_failure_before_the_undos_and_each_completed_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    states, last = await seen(time_skipping, tmp_path, FaultPlan(before={"replace_session": FINAL_ERROR}))

    undoing = {undo: states[undo] for undo in reversed(UNDO_OF.values())}
    assert list(states) == [*ACTIVITY_OF.values(), *undoing]
    assert {undo: statuses(state) for undo, state in undoing.items()} == {
        "undo_replace_session": [COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPLETED, FAILED],
        "undo_create_session": [COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPENSATED, FAILED],
        "undo_update_user_tenant": [COMPLETED, COMPLETED, COMPLETED, COMPENSATED, COMPENSATED, FAILED],
    }
    for state in undoing.values():
        assert state.status is OperationStatus.COMPENSATING
        assert (state.failure, state.result) == (None, None)
        assert state.steps[5].last_error == FINAL_ERROR.message
        assert state.steps[5].completed_at is not None
    assert last.status is OperationStatus.FAILED
    assert statuses(last) == [COMPENSATED] * 5 + [FAILED]
    assert_revisions_rise([*states.values(), last])


async def test_memo_shows_failed_undo_before_the_next_undo(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={"replace_session": FINAL_ERROR, "undo_create_session": FINAL_ERROR})
    states, _ = await seen(time_skipping, tmp_path, fault_plan)

    assert statuses(states["undo_update_user_tenant"]) == [
        COMPLETED,
        COMPLETED,
        COMPLETED,
        NOT_UNDONE,
        COMPENSATED,
        FAILED,
    ]


async def test_memo_shows_cancelled_step_as_failed_before_the_undos(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(cancel_before=ACTIVITY_OF[STEPS[KIND][3]])
    states, last = await seen(time_skipping, tmp_path, fault_plan)

    undoing = states["undo_create_session"]
    assert undoing.status is OperationStatus.COMPENSATING
    assert last.status is OperationStatus.CANCELLED
    assert_revisions_rise([*states.values(), last])
