"""The workflow OnboardUser: its effects, and that a failure or cancellation leaves no changes."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest
from aiosmtplib import SMTPServerDisconnected
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.users import models as users
from activities.workspaces import models as workspaces
from contracts.auth import Credentials, MfaMethod, Redemption, Role
from contracts.base import new_id
from contracts.errors import FieldError, OperationErrorCode
from contracts.operations import STEPS, OperationStatus, StepStatus, UserOnboarded
from tests.workflows.onboarding import (
    ACTIVITY_OF,
    KIND,
    ONE_USER,
    PASSWORD,
    STEPS_WITH_UNDO,
    TOTP_SECRET,
    WELCOME_EMAIL,
    RecordingMailer,
    email_outcome,
    expected_undos,
    open_scenario,
    rows_added_since,
    snapshot,
    undos_in,
)
from tests.workflows.saga_harness import (
    FINAL_ERROR,
    FaultPlan,
    When,
    assert_compensated_despite_cancellation,
    cancel_during_undo,
)
from workflows.onboard_user import OnboardUser


async def test_creates_user_with_credentials_membership_workspace_and_email(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    mailer = RecordingMailer()
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), mailer=mailer) as scenario:
        state = await scenario.run(role=Role.GUEST)
        command, harness = scenario.command, scenario.harness

        assert email_outcome(state) == (StepStatus.COMPLETED, True)
        assert isinstance(state.result, UserOnboarded)
        assert state.result.user_id == command.new_user_id
        user = await users.User.get(id=command.new_user_id)
        assert (user.email, user.name, user.mfa_enabled) == ("Linus@Example.com", "Linus Pauling", False)
        assert await users.Affiliation.exists(user_id=user.id, tenant_id=command.tenant_id)
        membership = await tenants.Membership.get(user_id=user.id)
        assert (membership.tenant_id, membership.role) == (command.tenant_id, Role.GUEST)
        workspace = await workspaces.Workspace.get(id=state.result.workspace_id)
        assert (workspace.user_id, workspace.tenant_id) == (user.id, command.tenant_id)
        assert workspace.name == "Linus Pauling's workspace"
        credentials = Credentials.model_validate({"email": "linus@example.com", "password": PASSWORD})
        verified = await harness.credentials.verify_credentials(credentials)
        assert verified.user_id == user.id
        assert [email["To"] for email in mailer.emails] == ["Linus Pauling <Linus@Example.com>"]
        assert mailer.emails[0]["Subject"] == "Welcome to Acme"

    assert harness.fault_plan.attempted == [
        "check_permissions",
        "create_user",
        "set_up_authentication",
        "assign_user_to_tenant",
        "create_user_workspace",
        "load_tenant_data",
        "send_welcome_email",
    ]


async def test_user_with_totp_secret_must_use_a_second_factor(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        await scenario.run(totp_secret=TOTP_SECRET)
        service = scenario.harness.credentials
        credentials = Credentials.model_validate({"email": "linus@example.com", "password": PASSWORD})
        verified = await service.verify_credentials(credentials)
        identity = await service.redeem_reference(Redemption(key="a", reference=verified.reference))

        assert identity.mfa_method is MfaMethod.TOTP
        assert (await users.User.get(id=identity.user_id)).mfa_enabled


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS_WITH_UNDO)
async def test_failure_before_the_email_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    mailer, fault_plan = RecordingMailer(), FaultPlan.failing(when, ACTIVITY_OF[step])
    async with open_scenario(time_skipping, tmp_path, fault_plan, mailer=mailer) as scenario:
        before = await snapshot()
        state = await scenario.run(totp_secret=TOTP_SECRET)
        assert await snapshot() == before

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)
    place = STEPS[KIND].index(step)
    statuses = [each.status for each in state.steps]
    assert statuses[:place] == [StepStatus.COMPENSATED] * place
    assert statuses[place:] == [StepStatus.FAILED] + [StepStatus.PENDING] * (4 - place)
    assert mailer.emails == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS_WITH_UNDO)
async def test_cancellation_before_the_email_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    mailer, fault_plan = RecordingMailer(), FaultPlan.cancelling(when, ACTIVITY_OF[step])
    async with open_scenario(time_skipping, tmp_path, fault_plan, mailer=mailer) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)
    assert StepStatus.COMPLETED not in {each.status for each in state.steps}
    assert mailer.emails == []


@pytest.mark.parametrize("undo", expected_undos(STEPS_WITH_UNDO[-1]))
async def test_cancellation_during_compensation_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    fault_plan = cancel_during_undo(ACTIVITY_OF[STEPS_WITH_UNDO[-1]], undo)
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert_compensated_despite_cancellation(fault_plan, state, expected_undos(STEPS_WITH_UNDO[-1]))


@pytest.mark.parametrize("step", STEPS_WITH_UNDO)
async def test_step_with_a_lost_result_takes_effect_once(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str
) -> None:
    fault_plan = FaultPlan(after={ACTIVITY_OF[step]: ConnectionError()}, max_faults={ACTIVITY_OF[step]: 1})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await rows_added_since(before) == ONE_USER

    assert email_outcome(state) == (StepStatus.COMPLETED, True)
    assert state.steps[STEPS_WITH_UNDO.index(step)].attempt == 2


async def test_missing_permission_fails_before_any_change(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), starter="grace", role=Role.MEMBER) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert scenario.harness.fault_plan.attempted == ["check_permissions"]
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
    assert (state.failure.step, state.failure.compensated) == ("create_user", True)


async def test_session_of_another_user_or_tenant_or_unknown_is_denied(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        grace = await users.User.get(email="grace@example.com")
        globex = await tenants.Tenant.get(slug="globex")
        before = await snapshot()
        states = [
            await scenario.run(user_id=grace.id),
            await scenario.run(tenant_id=globex.id),
            await scenario.run(session_id=new_id("ses")),
        ]
        assert await snapshot() == before

    for state in states:
        assert state.failure is not None
        assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
    assert scenario.harness.fault_plan.attempted == ["check_permissions"] * 3


async def test_user_demoted_after_sign_in_cannot_onboard(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), starter="grace", role=Role.ADMIN) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await snapshot() == before

    assert scenario.harness.fault_plan.attempted == ["check_permissions"]
    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.PERMISSION_DENIED, "create_user")
    assert state.failure.compensated


async def test_role_above_the_starters_own_is_denied(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        before = await snapshot()
        state = await scenario.run(role=Role.OWNER)
        assert await snapshot() == before

    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.PERMISSION_DENIED, True)


async def test_email_in_use_fails_with_its_field_and_changes_nothing(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        before = await snapshot()
        state = await scenario.run(email="GRACE@example.com")
        assert await snapshot() == before

    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.VALIDATION_FAILED
    assert state.failure.user_recoverable
    assert state.failure.fields == (FieldError(path=("email",), message="This e-mail address is in use."),)


async def test_of_two_concurrent_onboardings_of_one_address_one_completes(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        before = await snapshot()
        handles = [await scenario.start(), await scenario.start(new_user_id=new_id("usr"))]
        states = [await scenario.harness.end_of(handle) for handle in handles]
        assert await rows_added_since(before) == ONE_USER

    assert sorted(state.status for state in states) == [OperationStatus.COMPLETED, OperationStatus.FAILED]


async def test_same_operation_id_cannot_be_started_twice(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        handle = await scenario.start()
        with pytest.raises(WorkflowAlreadyStartedError):
            await scenario.harness.client.start_workflow(
                OnboardUser.run, scenario.command, id=handle.id, task_queue="operations"
            )
        await scenario.harness.end_of(handle)
        assert await users.User.all().count() == 4


async def test_cancellation_at_random_times_leaves_all_or_no_changes(temporal_client: Client, tmp_path: Path) -> None:
    rng, ends = random.Random(7), set()
    async with open_scenario(WorkflowEnvironment.from_client(temporal_client), tmp_path, FaultPlan()) as scenario:
        for number in range(20):
            before = await snapshot()
            handle = await scenario.start(new_user_id=new_id("usr"), email=f"linus{number}@example.com")
            await asyncio.sleep(rng.uniform(0, 0.25))
            with suppress(RPCError):  # it has closed
                await handle.cancel()
            state = await scenario.harness.end_of(handle)
            ends.add(state.status)
            if state.status is OperationStatus.COMPLETED:
                assert await rows_added_since(before) == ONE_USER
            else:
                assert await snapshot() == before

    assert ends <= {OperationStatus.COMPLETED, OperationStatus.CANCELLED}


async def test_failed_undo_is_reported_and_the_others_run(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={"create_user_workspace": FINAL_ERROR, "undo_assign_user_to_tenant": FINAL_ERROR})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()
        assert await users.User.all().count() == 3
        assert await auth.Credential.all().count() == 3

    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.COMPENSATION_FAILED, False)
    assert state.steps[2].status is StepStatus.COMPENSATION_FAILED


async def test_memo_is_small_and_contains_no_personal_data(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={WELCOME_EMAIL: SMTPServerDisconnected("linus@example.com")})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        handle = await scenario.start(totp_secret=TOTP_SECRET)
        state = await scenario.harness.end_of(handle)
        info = (await handle.describe()).raw_description.workflow_execution_info

    assert info.memo.ByteSize() < 2048
    visible = f"{state.model_dump_json()}{info.execution.workflow_id}{info.search_attributes}"
    for secret in ("inus", TOTP_SECRET, "argon2"):
        assert secret not in visible
