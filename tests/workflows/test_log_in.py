"""Logging in: with and without a second factor, and that a login that fails opens nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtplib import SMTPServerDisconnected
from pydantic import SecretStr
from pyotp.totp import TOTP
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.users import models as users
from contracts.auth import Credentials, LogInCommand
from contracts.errors import ErrorRecord, OperationErrorCode
from contracts.operations import STEPS, OperationKind, OperationState, OperationStatus, StepStatus
from tests.workflows.saga_harness import (
    FaultPlan,
    SagaHarness,
    When,
    assert_compensated_despite_cancellation,
    cancel_during_undo,
    open_saga_harness,
    state_of,
)
from worker.demo import PASSWORD, TOTP_SECRET
from workflows.log_in import LogIn

KIND = OperationKind.LOGIN
TOKEN_HASH = "c" * 64
ACTIVITY_OF = {
    "verify_credentials": "verify_credentials",
    "create_session": "create_session",
    "record_sign_in": "record_sign_in",
}
UNDO_OF = {"create_session": "undo_create_session", "record_sign_in": "undo_record_sign_in"}


class Scenario(NamedTuple):
    harness: SagaHarness
    command: LogInCommand

    async def run(self) -> OperationState:
        return await self.harness.run(LogIn.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.harness.start(LogIn.run, self.command, KIND)


async def snapshot() -> list[Any]:
    return [await auth.Session.all().values(), await auth.SignIn.all().values()]


@asynccontextmanager
async def open_scenario(
    environment: WorkflowEnvironment,
    folder: Path,
    fault_plan: FaultPlan,
    account: str = "ada",
    tenant: str | None = None,
) -> AsyncIterator[Scenario]:
    """Somebody has just given the right password."""
    async with open_saga_harness(environment.client, folder, fault_plan) as harness:
        verified = await harness.credentials.verify_credentials(
            Credentials(email=f"{account}@example.com", password=SecretStr(PASSWORD))
        )
        wanted = tenant and (await tenants.Tenant.get(slug=tenant)).id
        yield Scenario(
            harness,
            LogInCommand(
                reference=verified.reference, user_id=verified.user_id, tenant_id=wanted, token_hash=TOKEN_HASH
            ),
        )


async def waiting(handle: WorkflowHandle[Any, Any]) -> OperationState:
    while (state := await state_of(handle)).status is not OperationStatus.WAITING:  # noqa: ASYNC110 - it is elsewhere
        await asyncio.sleep(0.05)
    return state


async def submit(handle: WorkflowHandle[Any, Any], code: str) -> ErrorRecord | None:
    """What the update answered with, where it failed."""
    try:
        await handle.execute_update(LogIn.submit_mfa_code, code)
    except WorkflowUpdateFailedError as error:
        return ErrorRecord.model_validate(error.cause.details[0] if isinstance(error.cause, ApplicationError) else {})
    return None


def right_code() -> str:
    return TOTP(TOTP_SECRET).now()


def wrong_code() -> str:
    return "000000" if right_code() != "000000" else "111111"


async def test_opens_session_in_the_users_current_tenant(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        state = await scenario.run()
        session = await auth.Session.get(token_hash=TOKEN_HASH)
        ada = await users.User.get(email="ada@example.com")

    assert state.status is OperationStatus.COMPLETED
    assert state.started_by == ada.id
    assert [step.status for step in state.steps] == [
        StepStatus.COMPLETED,
        StepStatus.SKIPPED,
        StepStatus.COMPLETED,
        StepStatus.COMPLETED,
    ]
    assert session.is_active
    assert (session.user_id, session.tenant_id) == (ada.id, ada.tenant_id)


async def test_opens_session_in_the_requested_tenant(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), tenant="globex") as scenario:
        await scenario.run()
        session = await auth.Session.get(token_hash=TOKEN_HASH)
        globex = await tenants.Tenant.get(slug="globex")

    assert session.tenant_id == globex.id


async def test_login_into_a_foreign_tenant_fails_without_session(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), account="grace", tenant="globex") as scenario:
        state = await scenario.run()
        assert await snapshot() == [[], []]

    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.PERMISSION_DENIED


async def test_reference_is_valid_for_one_login_only(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        assert (await scenario.run()).status is OperationStatus.COMPLETED
        again = await scenario.run()

    assert again.failure is not None
    assert again.failure.code is OperationErrorCode.INVALID_CREDENTIALS


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", list(ACTIVITY_OF))
async def test_failure_at_any_step_leaves_no_session(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    fault_plan = FaultPlan.failing(when, ACTIVITY_OF[step])
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()
        assert await snapshot() == [[], []]

    begun = STEPS[KIND][: STEPS[KIND].index(step) + 1]
    assert [name for name in fault_plan.attempted if name in UNDO_OF.values()] == [
        UNDO_OF[name] for name in reversed(begun) if name in UNDO_OF
    ]
    assert state.failure is not None
    assert (state.status, state.failure.compensated) == (OperationStatus.FAILED, True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", list(ACTIVITY_OF))
async def test_cancellation_at_any_step_leaves_no_session(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan.cancelling(when, ACTIVITY_OF[step])) as scenario:
        state = await scenario.run()
        assert await snapshot() == [[], []]

    assert state.status is OperationStatus.CANCELLED


async def test_waits_for_a_code_if_the_user_has_a_second_factor(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), account="alan") as scenario:
        handle = await scenario.start()
        challenged = await waiting(handle)
        assert await snapshot() == [[], []]
        wrong = await submit(handle, wrong_code())
        assert await submit(handle, right_code()) is None
        state = await scenario.harness.end_of(handle)
        with pytest.raises((WorkflowUpdateFailedError, RPCError)):
            await handle.execute_update(LogIn.submit_mfa_code, right_code())

    assert challenged.challenge is not None
    assert challenged.challenge.attempts_left == 5
    assert challenged.started_by is None
    assert wrong is not None
    assert (wrong.name, wrong.attempts_left) == ("InvalidMfaCode", 4)
    assert state.status is OperationStatus.COMPLETED
    assert state.challenge is None


async def test_last_wrong_code_fails_the_login(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        answers = [await submit(handle, wrong_code()) for _ in range(5)]
        state = await scenario.harness.end_of(handle)
        assert await snapshot() == [[], []]

    assert [answer.attempts_left for answer in answers if answer] == [4, 3, 2, 1, 0]
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.INVALID_CREDENTIALS


async def test_five_of_nine_concurrent_wrong_codes_are_checked(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan()
    async with open_scenario(time_skipping, tmp_path, fault_plan, account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        answers = await asyncio.gather(*(submit(handle, wrong_code()) for _ in range(9)))
        state = await scenario.harness.end_of(handle)
        assert await snapshot() == [[], []]

    assert fault_plan.attempted.count("check_totp") == 5
    wrong = [answer.attempts_left for answer in answers if answer and answer.name == "InvalidMfaCode"]
    assert sorted(wrong, key=lambda left: left or 0) == [0, 1, 2, 3, 4]
    assert [answer.name for answer in answers if answer and answer.name != "InvalidMfaCode"] == ["LoginNotWaiting"] * 4
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.INVALID_CREDENTIALS


async def test_one_of_two_concurrent_right_codes_is_checked(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan()
    async with open_scenario(time_skipping, tmp_path, fault_plan, account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        code = right_code()
        answers = await asyncio.gather(submit(handle, code), submit(handle, code))
        state = await scenario.harness.end_of(handle)

    assert sorted(answer.name if answer else "accepted" for answer in answers) == ["LoginNotWaiting", "accepted"]
    assert fault_plan.attempted.count("check_totp") == 1
    assert state.status is OperationStatus.COMPLETED


async def test_memo_shows_attempts_left_while_waiting(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), account="alan") as scenario:
        handle = await scenario.start()
        challenges = [(await waiting(handle)).challenge]
        for _ in range(2):
            await submit(handle, wrong_code())
            challenges.append((await waiting(handle)).challenge)
        await handle.cancel()

    assert [challenge.attempts_left for challenge in challenges if challenge] == [5, 4, 3]
    assert len({challenge.expires_at for challenge in challenges if challenge}) == 1


async def test_check_that_fails_by_a_fault_uses_no_attempt(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(before={"check_totp": ConnectionError()}, max_faults={"check_totp": 3})
    async with open_scenario(time_skipping, tmp_path, fault_plan, account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(LogIn.submit_mfa_code, right_code())
        assert fault_plan.attempted.count("check_totp") == 3
        wrong = await submit(handle, wrong_code())
        await handle.cancel()

    assert wrong is not None
    assert wrong.attempts_left == 4


async def test_times_out_after_five_minutes_without_a_code(
    own_time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(own_time_skipping, tmp_path, FaultPlan(), account="alan") as scenario:
        handle = await scenario.start()
        challenged = await waiting(handle)
        await own_time_skipping.sleep(timedelta(minutes=4, seconds=50))
        assert (await state_of(handle)).status is OperationStatus.WAITING
        await own_time_skipping.sleep(timedelta(seconds=11))
        state = await scenario.harness.end_of(handle)
        described = await handle.describe()

    assert challenged.challenge is not None
    assert challenged.challenge.expires_at == challenged.steps[1].started_at + timedelta(minutes=5)  # type: ignore[operator]
    assert described.close_time is not None
    assert timedelta(minutes=5) <= described.close_time - described.start_time < timedelta(minutes=5, seconds=30)
    assert state.status is OperationStatus.TIMED_OUT
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.TIMEOUT_EXCEEDED


@pytest.mark.parametrize("is_right", [True, False])
async def test_code_under_check_at_the_timeout_still_decides(
    own_time_skipping: WorkflowEnvironment, tmp_path: Path, is_right: bool
) -> None:
    """Each check fails four times, so the fifth begins half a minute after the code came."""
    fault_plan = FaultPlan(before={"check_totp": SMTPServerDisconnected("")}, max_faults={"check_totp": 4})
    async with open_scenario(own_time_skipping, tmp_path, fault_plan, account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        await own_time_skipping.sleep(timedelta(minutes=4, seconds=50))
        submitted = asyncio.create_task(submit(handle, right_code() if is_right else wrong_code()))
        while fault_plan.attempted.count("check_totp") == 0:  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(0.05)
        late = [asyncio.create_task(submit(handle, right_code())) for _ in range(2)]
        state = await scenario.harness.end_of(handle)
        async with asyncio.timeout(20):  # without an answer it would wait for ever
            answer, *others = await asyncio.gather(submitted, *late)

    assert fault_plan.attempted.count("check_totp") == 5
    assert [other.name for other in others if other] == ["LoginNotWaiting"] * 2
    if is_right:
        assert answer is None
        assert state.status is OperationStatus.COMPLETED
    else:
        assert answer is not None
        assert (answer.name, answer.attempts_left) == ("InvalidMfaCode", 4)
        assert state.status is OperationStatus.TIMED_OUT


async def test_cancellation_while_waiting_closes_the_login(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan(), account="alan") as scenario:
        handle = await scenario.start()
        await waiting(handle)
        await handle.cancel()
        state = await scenario.harness.end_of(handle)

    assert state.status is OperationStatus.CANCELLED


@pytest.mark.parametrize("undo", list(UNDO_OF.values()))
async def test_cancellation_during_compensation_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    fault_plan = cancel_during_undo("record_sign_in", undo)
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()
        assert await snapshot() == [[], []]

    assert_compensated_despite_cancellation(fault_plan, state, ["undo_record_sign_in", "undo_create_session"])
