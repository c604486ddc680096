"""For each class of error: the number of attempts, the delays between them, and the timeout of an attempt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiosmtplib import SMTPServerDisconnected
from obstore.exceptions import GenericError
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from contracts.operations import OperationState, OperationStatus, StepStatus
from tests.workflows import onboarding, test_process_file, test_switch_tenant
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan, state_of
from workflows.process_file import ProcessFile
from workflows.switch_tenant import SwitchTenant

CLASSES = [
    pytest.param(ConnectionError(), [1, 2], id="network"),
    pytest.param(ValueError(), [1, 2], id="unknown"),
    pytest.param(TimeoutError(), [5], id="timeout"),
    pytest.param(GenericError(), [2, 4, 8, 16], id="external"),
    pytest.param(SMTPServerDisconnected(""), [2, 4, 8, 16], id="mail"),
    pytest.param(FINAL_ERROR, [], id="answer"),
]
"""An error of each class, and the seconds between its tries."""


async def calls_and_timers(handle: WorkflowHandle[Any, Any]) -> list[str | float]:
    """Names of the activities that the workflow scheduled and seconds of its timers that fired, in order."""
    found: list[str | float] = []
    seconds: dict[str, float] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            found.append(event.activity_task_scheduled_event_attributes.activity_type.name)
        elif event.HasField("timer_started_event_attributes"):
            timer = event.timer_started_event_attributes
            seconds[timer.timer_id] = timer.start_to_fire_timeout.ToTimedelta().total_seconds()
        elif event.HasField("timer_fired_event_attributes"):
            found.append(seconds[event.timer_fired_event_attributes.timer_id])
    return found


def tries_of(activity: str, delays: Iterable[float]) -> list[str | float]:
    return [activity, *(each for delay in delays for each in (delay, activity))]


def waited(fault_plan: FaultPlan, activity: str) -> list[timedelta]:
    """Between the tries of the activity."""
    started = [moment for name, moment in fault_plan.attempt_times if name == activity]
    return [after - before for before, after in pairwise(started)]


def assert_waited(fault_plan: FaultPlan, activity: str, delays: list[float]) -> None:
    """A try itself takes a while, too, but less than the delay."""
    gaps = waited(fault_plan, activity)
    assert len(gaps) == len(delays)
    for gap, delay in zip(gaps, delays, strict=True):
        assert timedelta(seconds=delay) <= gap < timedelta(seconds=2 * delay), gaps


@pytest.mark.parametrize(("error", "delays"), CLASSES)
async def test_error_class_determines_the_number_of_attempts(
    time_skipping: WorkflowEnvironment, tmp_path: Path, error: Exception, delays: list[float]
) -> None:
    fault_plan = FaultPlan(before={"load_tenant_data": error})
    async with test_switch_tenant.open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        handle = await scenario.start()
        state = await scenario.harness.end_of(handle)
        called = await calls_and_timers(handle)

    begun = called.index("load_tenant_data")
    tried = tries_of("load_tenant_data", delays)
    assert called[begun : begun + len(tried)] == tried
    assert called[begun + len(tried) :] == ["undo_create_session", "undo_update_user_tenant"]
    assert fault_plan.attempted.count("load_tenant_data") == len(delays) + 1
    assert state.status in (OperationStatus.FAILED, OperationStatus.TIMED_OUT)
    assert state.steps[4].attempt == len(delays) + 1


async def test_undo_is_attempted_ten_times_with_delays_up_to_ten_seconds(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={"load_tenant_data": FINAL_ERROR, "undo_update_user_tenant": ConnectionError()})
    async with test_switch_tenant.open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()

    assert fault_plan.attempted.count("undo_update_user_tenant") == 10
    assert_waited(fault_plan, "undo_update_user_tenant", [1, 2, 4, 8, 10, 10, 10, 10, 10])
    assert state.failure is not None
    assert not state.failure.compensated


async def test_undo_that_succeeds_at_the_last_attempt_counts_as_undone(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(
        before={"load_tenant_data": FINAL_ERROR, "undo_update_user_tenant": ConnectionError()},
        max_faults={"undo_update_user_tenant": 9},
    )
    async with test_switch_tenant.open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await test_switch_tenant.snapshot()
        state = await scenario.run()
        assert await test_switch_tenant.snapshot() == before

    assert state.failure is not None
    assert state.failure.compensated


@pytest.mark.parametrize(("error", "delays"), CLASSES)
async def test_memo_shows_each_attempt_and_its_error_before_the_next_one(
    time_skipping: WorkflowEnvironment, tmp_path: Path, error: Exception, delays: list[float]
) -> None:
    seen: list[OperationState] = []
    fault_plan = FaultPlan(before={"load_tenant_data": error})
    async with test_switch_tenant.open_scenario(time_skipping, tmp_path, fault_plan) as (harness, command):
        handle = await harness.start(SwitchTenant.run, command, test_switch_tenant.KIND)

        async def look(name: str) -> None:
            if name == "load_tenant_data":
                seen.append(await state_of(handle))

        fault_plan.on_attempt = look
        await harness.end_of(handle)

    tried: list[datetime] = [moment for name, moment in fault_plan.attempt_times if name == "load_tenant_data"]
    first, *others = [state.steps[4] for state in seen]
    assert (first.status, first.attempt, first.last_error) == (StepStatus.RUNNING, 1, None)
    assert [step.attempt for step in others] == list(range(2, len(delays) + 2))
    for step, delay, before, after in zip(others, delays, tried, tried[1:], strict=False):
        assert step.status is StepStatus.RETRYING
        assert step.last_error
        assert step.next_attempt_at is not None
        assert before + timedelta(seconds=delay) <= step.next_attempt_at <= after
    assert {state.status for state in seen} == {OperationStatus.RUNNING}


async def test_cancellation_during_a_failing_attempt_ends_the_retries(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={"load_tenant_data": ConnectionError()}, cancel_before="load_tenant_data")
    async with test_switch_tenant.open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()

    assert fault_plan.attempted.count("load_tenant_data") == 1
    assert state.status is OperationStatus.CANCELLED


async def deadlines(handle: WorkflowHandle[Any, Any]) -> dict[str, tuple[float, float, int]]:
    """By activity: seconds for one try, seconds that a try may be silent (0: any), tries by Temporal."""
    found = {}
    async for event in handle.fetch_history_events():
        call = event.activity_task_scheduled_event_attributes
        if call.activity_type.name:
            found[call.activity_type.name] = (
                call.start_to_close_timeout.ToTimedelta().total_seconds(),
                call.heartbeat_timeout.ToTimedelta().total_seconds(),
                call.retry_policy.maximum_attempts,
            )
    return found


async def test_every_activity_call_has_its_timeouts(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    (switching := tmp_path / "switch").mkdir()
    fault_plan = FaultPlan(before={"replace_session": FINAL_ERROR})
    async with test_switch_tenant.open_scenario(time_skipping, switching, fault_plan) as switch:
        handle = await switch.start()
        await switch.harness.end_of(handle)
        of_a_switch = await deadlines(handle)
    (processing := tmp_path / "process").mkdir()
    async with test_process_file.open_scenario(time_skipping, processing, FaultPlan()) as process:
        handle = await process.harness.start(ProcessFile.run, process.command, test_process_file.KIND)
        await handle.result()
        of_a_file = await deadlines(handle)
    (welcoming := tmp_path / "onboard").mkdir()
    async with onboarding.open_scenario(time_skipping, welcoming, FaultPlan()) as onboard:
        handle = await onboard.start()
        await handle.result()
        of_a_letter = await deadlines(handle)

    undos = set(test_switch_tenant.UNDO_OF.values())
    assert {of_a_switch[name] for name in undos} == {(10, 0, 10)}
    assert {of_a_switch[name] for name in of_a_switch.keys() - undos} == {(10, 0, 1)}
    assert of_a_file == {
        "verify_checksum": (3600, 5, 5),
        "extract_metadata": (3600, 5, 5),
        "publish_metadata": (10, 0, 1),
    }
    assert of_a_letter["send_welcome_email"] == (30, 0, 1)
