"""What a client sees of an operation while it goes on: each state is written before the step that it announces."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from contracts.operations import STEPS, OperationState, OperationStatus, StepStatus
from tests.workflows.saga_harness import ANSWER, Script, state_of
from tests.workflows.test_switch_tenant import ACTIVITY_OF, KIND, UNDO_OF, scene
from workflows.switch_tenant import SwitchTenant

PENDING, RUNNING, COMPLETED = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.COMPLETED
FAILED, COMPENSATED, NOT_UNDONE = StepStatus.FAILED, StepStatus.COMPENSATED, StepStatus.COMPENSATION_FAILED


async def seen(
    environment: WorkflowEnvironment, folder: Path, script: Script
) -> tuple[dict[str, OperationState], OperationState]:
    """The state that a client reads while each activity runs its first try, and the last one."""
    states: dict[str, OperationState] = {}
    async with scene(environment, folder, script) as (stage, command):
        handle = await stage.start(SwitchTenant.run, command, KIND)

        async def look(name: str) -> None:
            states.setdefault(name, await state_of(handle))

        script.watch = look
        return states, await stage.end_of(handle)


def statuses(state: OperationState) -> list[StepStatus]:
    return [step.status for step in state.steps]


def assert_revisions_rise(states: list[OperationState]) -> None:
    assert all(before.revision < after.revision for before, after in pairwise(states))


async def test_each_step_is_shown_running_while_it_runs(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    states, last = await seen(time_skipping, tmp_path, Script())

    assert list(states) == list(ACTIVITY_OF.values())
    for index, (name, activity) in enumerate(ACTIVITY_OF.items()):
        state = states[activity]
        assert state.status is OperationStatus.RUNNING
        assert statuses(state) == [COMPLETED] * index + [RUNNING] + [PENDING] * (5 - index), name
        assert (state.steps[index].attempt, state.steps[index].completed_at) == (1, None)
        assert state.steps[index].started_at is not None
    assert_revisions_rise([*states.values(), last])


async def test_a_failure_is_shown_before_it_is_undone_and_each_undo_as_it_is_done(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    states, last = await seen(time_skipping, tmp_path, Script(before={"hand_over_session": ANSWER}))

    undoing = {undo: states[undo] for undo in reversed(UNDO_OF.values())}
    assert list(states) == [*ACTIVITY_OF.values(), *undoing]
    assert {undo: statuses(state) for undo, state in undoing.items()} == {
        "restore_previous_session": [COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPLETED, FAILED],
        "rollback_session_creation": [COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPENSATED, FAILED],
        "restore_user_tenant": [COMPLETED, COMPLETED, COMPLETED, COMPENSATED, COMPENSATED, FAILED],
    }
    for state in undoing.values():
        assert state.status is OperationStatus.COMPENSATING
        assert (state.failure, state.result) == (None, None)
        assert state.steps[5].last_error == ANSWER.message
        assert state.steps[5].completed_at is not None
    assert last.status is OperationStatus.FAILED
    assert statuses(last) == [COMPENSATED] * 5 + [FAILED]
    assert_revisions_rise([*states.values(), last])


async def test_an_undo_that_fails_is_shown_before_the_next_one(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={"hand_over_session": ANSWER, "rollback_session_creation": ANSWER})
    states, _ = await seen(time_skipping, tmp_path, script)

    assert statuses(states["restore_user_tenant"]) == [COMPLETED, COMPLETED, COMPLETED, NOT_UNDONE, COMPENSATED, FAILED]


async def test_the_step_that_a_cancellation_met_is_shown_failed_before_it_is_undone(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(cancel_before=ACTIVITY_OF[STEPS[KIND][3]])
    states, last = await seen(time_skipping, tmp_path, script)

    undoing = states["rollback_session_creation"]
    assert undoing.status is OperationStatus.COMPENSATING
    assert last.status is OperationStatus.CANCELLED
    assert_revisions_rise([*states.values(), last])
