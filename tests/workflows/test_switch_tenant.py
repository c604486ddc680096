"""Switching tenants: what a switch does, and that whatever befalls one leaves user and sessions as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.users import models as users
from contracts.base import new_id, utc_now
from contracts.errors import OperationErrorCode
from contracts.operations import STEPS, OperationKind, OperationState, OperationStatus, StepStatus
from contracts.tenants import SwitchTenantCommand
from infrastructure.temporal.operation_history import TENANTS_ATTRIBUTE
from tests.workflows.saga_harness import (
    FINAL_ERROR,
    FaultPlan,
    SagaHarness,
    When,
    assert_compensated_despite_cancellation,
    cancel_during_undo,
    open_saga_harness,
    open_session,
)
from workflows.switch_tenant import SwitchTenant

KIND = OperationKind.TENANT_SWITCH
TOKEN_HASH = "b" * 64
ACTIVITY_OF = {
    "check_access": "check_access",
    "load_session": "get_session",
    "set_tenant": "update_user_tenant",
    "create_session": "create_session",
    "load_tenant": "load_tenant_data",
    "end_old_session": "replace_session",
}
UNDO_OF = {
    "set_tenant": "undo_update_user_tenant",
    "create_session": "undo_create_session",
    "end_old_session": "undo_replace_session",
}


class Scenario(NamedTuple):
    harness: SagaHarness
    command: SwitchTenantCommand

    async def run(self) -> OperationState:
        return await self.harness.run(SwitchTenant.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.harness.start(SwitchTenant.run, self.command, KIND)


async def snapshot() -> list[Any]:
    """All that a switch may touch."""
    return [
        await users.User.all().order_by("id").values("id", "tenant_id"),
        await auth.Session.all()
        .order_by("id")
        .values("id", "user_id", "tenant_id", "is_active", "ended_at", "token_hash"),
        await auth.SignIn.all().values(),
    ]


@asynccontextmanager
async def open_scenario(
    environment: WorkflowEnvironment, folder: Path, fault_plan: FaultPlan, to: str = "globex"
) -> AsyncIterator[Scenario]:
    """Ada is signed in to Acme and switches."""
    async with open_saga_harness(environment.client, folder, fault_plan) as harness:
        session = await open_session("ada")
        target = await tenants.Tenant.get_or_none(slug=to)
        yield Scenario(
            harness,
            SwitchTenantCommand(
                user_id=session.user_id,
                from_tenant_id=session.tenant_id,
                to_tenant_id=target.id if target else new_id("ten"),
                session_id=session.id,
                token_hash=TOKEN_HASH,
            ),
        )


def expected_undos(failing: str) -> list[str]:
    """Newest first, the failing step's own included: it may have acted."""
    steps = list(STEPS[KIND])
    begun = steps[: steps.index(failing) + 1]
    return [UNDO_OF[step] for step in reversed(begun) if step in UNDO_OF]


def undos_in(attempted: list[str]) -> list[str]:
    return [name for name in attempted if name in UNDO_OF.values()]


async def test_replaces_session_by_one_in_the_new_tenant(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as (harness, command):
        state = await harness.run(SwitchTenant.run, command, KIND)

        assert state.status is OperationStatus.COMPLETED
        assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 6
        assert harness.fault_plan.attempted == list(ACTIVITY_OF.values())
        assert (await users.User.get(id=command.user_id)).tenant_id == command.to_tenant_id
        old = await auth.Session.get(id=command.session_id)
        assert old.ended_at is not None
        new = await auth.Session.get(token_hash=TOKEN_HASH)
        assert new.is_active
        assert new.tenant_id == command.to_tenant_id


async def test_switch_belongs_to_previous_tenant_and_is_listed_in_both(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    """The first of the tenants is the one whose administrators may see and cancel it."""
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as (harness, command):
        handle = await harness.start(SwitchTenant.run, command, KIND)
        await handle.result()
        attributes = (await handle.describe()).typed_search_attributes
        assert attributes[TENANTS_ATTRIBUTE] == [command.from_tenant_id, command.to_tenant_id]


async def test_switch_to_current_tenant_changes_nothing(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), to="acme") as (harness, command):
        assert command.from_tenant_id == command.to_tenant_id
        before = await snapshot()
        state = await harness.run(SwitchTenant.run, command, KIND)
        assert await snapshot() == before

    assert state.status is OperationStatus.COMPLETED
    assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 2 + [StepStatus.SKIPPED] * 4
    assert harness.fault_plan.attempted == ["check_access", "get_session"]


async def test_new_session_expires_no_later_than_the_old_one(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as (harness, command):
        soon = utc_now() + timedelta(seconds=60)
        await auth.Session.filter(id=command.session_id).update(expires_at=soon)
        await harness.run(SwitchTenant.run, command, KIND)
        assert (await auth.Session.get(token_hash=TOKEN_HASH)).expires_at == soon


async def test_foreign_and_unknown_tenants_fail_with_the_same_error(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), to="nowhere") as (harness, command):
        before = await snapshot()
        grace = await users.User.get(email="grace@example.com")
        globex = await tenants.Tenant.get(slug="globex")
        absent = await harness.run(SwitchTenant.run, command, KIND)
        foreign = await harness.run(
            SwitchTenant.run, command.model_copy(update={"user_id": grace.id, "to_tenant_id": globex.id}), KIND
        )
        assert await snapshot() == before

    for state in (absent, foreign):
        assert state.status is OperationStatus.FAILED
        assert state.failure == absent.failure
        assert state.failure is not None
        assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
        assert state.failure.step == "check_access"
        assert state.failure.compensated


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_failure_at_any_step_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    fault_plan = FaultPlan.failing(when, ACTIVITY_OF[step])
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)
    statuses = dict(zip(STEPS[KIND], [each.status for each in state.steps], strict=True))
    place = STEPS[KIND].index(step)
    assert {statuses[name] for name in STEPS[KIND][:place]} <= {StepStatus.COMPENSATED}
    assert statuses[step] is StepStatus.FAILED
    assert {statuses[name] for name in STEPS[KIND][place + 1 :]} <= {StepStatus.PENDING}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_cancellation_at_any_step_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    fault_plan = FaultPlan.cancelling(when, ACTIVITY_OF[step])
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)
    assert StepStatus.COMPLETED not in {each.status for each in state.steps}


@pytest.mark.parametrize("undo", list(UNDO_OF.values()))
async def test_cancellation_during_compensation_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    fault_plan = cancel_during_undo("replace_session", undo)
    async with open_scenario(time_skipping, tmp_path, fault_plan) as (harness, command):
        before = await snapshot()
        handle = await harness.start(SwitchTenant.run, command, KIND)
        state = await harness.end_of(handle)
        described = await handle.describe()
        assert await snapshot() == before

    assert_compensated_despite_cancellation(fault_plan, state, expected_undos("end_old_session"))
    assert described.status is WorkflowExecutionStatus.FAILED


@pytest.mark.parametrize("when", ["before", "after"])
async def test_undo_begins_after_the_cancelled_attempt_has_ended(
    time_skipping: WorkflowEnvironment, tmp_path: Path, when: When
) -> None:
    fault_plan = FaultPlan.cancelling(when, "update_user_tenant")
    had_ended: list[bool] = []

    async def look(name: str) -> None:
        if name == "undo_update_user_tenant":
            had_ended.append("update_user_tenant" in fault_plan.ended_attempts)

    fault_plan.on_attempt = look
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        await scenario.run()

    assert had_ended == [True]


async def test_cancelled_switch_closes_as_cancelled_workflow(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan.cancelling("before", "load_tenant_data")) as (
        harness,
        command,
    ):
        handle = await harness.start(SwitchTenant.run, command, KIND)
        await harness.end_of(handle)
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_persistent_fault_fails_the_switch_after_the_last_attempt(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={"load_tenant_data": ConnectionError("10.0.0.7 refused")})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert fault_plan.attempted.count("load_tenant_data") == 3
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    assert state.failure.retryable
    assert "10.0.0.7" not in state.model_dump_json()


async def test_failed_undo_is_reported_and_the_others_run(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={"replace_session": FINAL_ERROR, "undo_create_session": FINAL_ERROR})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as (harness, command):
        state = await harness.run(SwitchTenant.run, command, KIND)
        assert (await users.User.get(id=command.user_id)).tenant_id == command.from_tenant_id

    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.COMPENSATION_FAILED
    assert not state.failure.compensated
    assert [step.status for step in state.steps] == [
        StepStatus.COMPENSATED,
        StepStatus.COMPENSATED,
        StepStatus.COMPENSATED,
        StepStatus.COMPENSATION_FAILED,
        StepStatus.COMPENSATED,
        StepStatus.FAILED,
    ]


async def test_memo_is_smaller_than_two_kilobytes(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={"replace_session": ConnectionError()})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as (harness, command):
        handle = await harness.start(SwitchTenant.run, command, KIND)
        await harness.end_of(handle)
        description = await handle.describe()

    assert description.raw_description.workflow_execution_info.memo.ByteSize() < 2048
