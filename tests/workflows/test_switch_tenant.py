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
from infrastructure.temporal.operation_history import TENANTS
from tests.workflows.saga_harness import (
    ANSWER,
    Script,
    Stage,
    When,
    assert_undone_in_spite_of_a_cancellation,
    cancelling_an_undo,
    open_session,
    staged,
)
from workflows.switch_tenant import SwitchTenant

KIND = OperationKind.TENANT_SWITCH
TOKEN_HASH = "b" * 64
ACTIVITY_OF = {
    "check_access": "check_access",
    "note_session": "get_session",
    "set_tenant": "update_user_tenant",
    "create_session": "create_session",
    "load_tenant": "load_tenant_data",
    "end_old_session": "hand_over_session",
}
UNDO_OF = {
    "set_tenant": "restore_user_tenant",
    "create_session": "rollback_session_creation",
    "end_old_session": "restore_previous_session",
}


class Scene(NamedTuple):
    stage: Stage
    command: SwitchTenantCommand

    async def play(self) -> OperationState:
        return await self.stage.play(SwitchTenant.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.stage.start(SwitchTenant.run, self.command, KIND)


async def things() -> list[Any]:
    """All that a switch may touch."""
    return [
        await users.User.all().order_by("id").values("id", "tenant_id"),
        await auth.Session.all()
        .order_by("id")
        .values("id", "user_id", "tenant_id", "active", "ended_at", "token_hash"),
        await auth.SignIn.all().values(),
    ]


@asynccontextmanager
async def scene(
    environment: WorkflowEnvironment, folder: Path, script: Script, to: str = "globex"
) -> AsyncIterator[Scene]:
    """Ada is signed in to Acme and switches."""
    async with staged(environment.client, folder, script) as stage:
        session = await open_session("ada")
        target = await tenants.Tenant.get_or_none(slug=to)
        yield Scene(
            stage,
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


def undos_in(ran: list[str]) -> list[str]:
    return [name for name in ran if name in UNDO_OF.values()]


async def test_ends_the_old_session_and_opens_one_in_the_new_tenant(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as (stage, command):
        state = await stage.play(SwitchTenant.run, command, KIND)

        assert state.status is OperationStatus.COMPLETED
        assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 6
        assert stage.script.ran == list(ACTIVITY_OF.values())
        assert (await users.User.get(id=command.user_id)).tenant_id == command.to_tenant_id
        old = await auth.Session.get(id=command.session_id)
        assert old.ended_at is not None
        new = await auth.Session.get(token_hash=TOKEN_HASH)
        assert new.active
        assert new.tenant_id == command.to_tenant_id


async def test_a_switch_belongs_to_the_tenant_that_it_leaves_and_is_listed_in_that_which_it_leads_to(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    """The first of the tenants is the one whose administrators may see and cancel it."""
    async with scene(time_skipping, tmp_path, Script()) as (stage, command):
        handle = await stage.start(SwitchTenant.run, command, KIND)
        await handle.result()
        attributes = (await handle.describe()).typed_search_attributes
        assert attributes[TENANTS] == [command.from_tenant_id, command.to_tenant_id]


async def test_a_switch_to_the_current_tenant_changes_nothing(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script(), to="acme") as (stage, command):
        assert command.from_tenant_id == command.to_tenant_id
        before = await things()
        state = await stage.play(SwitchTenant.run, command, KIND)
        assert await things() == before

    assert state.status is OperationStatus.COMPLETED
    assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 2 + [StepStatus.SKIPPED] * 4
    assert stage.script.ran == ["check_access", "get_session"]


async def test_the_new_session_ends_when_the_old_one_would_have(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as (stage, command):
        soon = utc_now() + timedelta(seconds=60)
        await auth.Session.filter(id=command.session_id).update(expires_at=soon)
        await stage.play(SwitchTenant.run, command, KIND)
        assert (await auth.Session.get(token_hash=TOKEN_HASH)).expires_at == soon


async def test_a_tenant_of_others_and_one_that_is_not_there_are_refused_alike(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script(), to="nowhere") as (stage, command):
        before = await things()
        grace = await users.User.get(email="grace@example.com")
        globex = await tenants.Tenant.get(slug="globex")
        absent = await stage.play(SwitchTenant.run, command, KIND)
        foreign = await stage.play(
            SwitchTenant.run, command.model_copy(update={"user_id": grace.id, "to_tenant_id": globex.id}), KIND
        )
        assert await things() == before

    for state in (absent, foreign):
        assert state.status is OperationStatus.FAILED
        assert state.failure == absent.failure
        assert state.failure is not None
        assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
        assert state.failure.step == "check_access"
        assert state.failure.compensated


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_a_failure_at_any_step_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    script = Script.failing(when, ACTIVITY_OF[step])
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(script.ran) == expected_undos(step)
    statuses = dict(zip(STEPS[KIND], [each.status for each in state.steps], strict=True))
    place = STEPS[KIND].index(step)
    assert {statuses[name] for name in STEPS[KIND][:place]} <= {StepStatus.COMPENSATED}
    assert statuses[step] is StepStatus.FAILED
    assert {statuses[name] for name in STEPS[KIND][place + 1 :]} <= {StepStatus.PENDING}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_a_cancellation_at_any_step_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    script = Script.cancelling(when, ACTIVITY_OF[step])
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(script.ran) == expected_undos(step)
    assert StepStatus.COMPLETED not in {each.status for each in state.steps}


@pytest.mark.parametrize("undo", list(UNDO_OF.values()))
async def test_a_cancellation_while_a_failed_switch_is_undone_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    script = cancelling_an_undo("hand_over_session", undo)
    async with scene(time_skipping, tmp_path, script) as (stage, command):
        before = await things()
        handle = await stage.start(SwitchTenant.run, command, KIND)
        state = await stage.end_of(handle)
        described = await handle.describe()
        assert await things() == before

    assert_undone_in_spite_of_a_cancellation(script, state, expected_undos("end_old_session"))
    assert described.status is WorkflowExecutionStatus.FAILED


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_undo_of_a_step_begins_only_when_its_cancelled_try_has_ended(
    time_skipping: WorkflowEnvironment, tmp_path: Path, when: When
) -> None:
    script = Script.cancelling(when, "update_user_tenant")
    had_ended: list[bool] = []

    async def look(name: str) -> None:
        if name == "restore_user_tenant":
            had_ended.append("update_user_tenant" in script.ended)

    script.watch = look
    async with scene(time_skipping, tmp_path, script) as playing:
        await playing.play()

    assert had_ended == [True]


async def test_a_switch_that_is_cancelled_is_closed_as_cancelled(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script.cancelling("before", "load_tenant_data")) as (stage, command):
        handle = await stage.start(SwitchTenant.run, command, KIND)
        await stage.end_of(handle)
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_trouble_that_lasts_fails_the_switch_once_its_tries_are_used_up(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={"load_tenant_data": ConnectionError("10.0.0.7 refused")})
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert script.ran.count("load_tenant_data") == 3
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    assert state.failure.retryable
    assert "10.0.0.7" not in state.model_dump_json()


async def test_an_undo_that_fails_is_told_and_the_others_go_on(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={"hand_over_session": ANSWER, "rollback_session_creation": ANSWER})
    async with scene(time_skipping, tmp_path, script) as (stage, command):
        state = await stage.play(SwitchTenant.run, command, KIND)
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


async def test_the_memo_stays_under_two_kilobytes(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    script = Script(before={"hand_over_session": ConnectionError()})
    async with scene(time_skipping, tmp_path, script) as (stage, command):
        handle = await stage.start(SwitchTenant.run, command, KIND)
        await stage.end_of(handle)
        description = await handle.describe()

    assert description.raw_description.workflow_execution_info.memo.ByteSize() < 2048
