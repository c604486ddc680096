"""The welcome e-mail at the end of an onboarding: it is retried, sent once, and its failure fails no operation."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiosmtplib import SMTPServerDisconnected
from temporalio.testing import WorkflowEnvironment

from activities.notifications.mailer import SmtpMailer, SmtpServer
from contracts.errors import AddressRefused
from contracts.operations import StepStatus
from tests.mail_server import running_mail_server
from tests.workflows.onboarding import (
    ONE_USER,
    WELCOME_EMAIL,
    RecordingMailer,
    email_outcome,
    open_scenario,
    rows_added_since,
    snapshot,
    undos_in,
)
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan, When, state_of


async def test_unsendable_email_is_retried_and_does_not_fail_the_operation(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={WELCOME_EMAIL: SMTPServerDisconnected("10.0.0.7 hung up")})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await snapshot()
        state = await scenario.run()
        assert await rows_added_since(before) == ONE_USER

    assert email_outcome(state) == (StepStatus.FAILED, False)
    assert state.steps[4].attempt == 5
    assert state.steps[4].last_error == "The mail server does not take e-mail now."
    assert state.steps[4].completed_at is not None
    assert undos_in(fault_plan.attempted) == []
    assert "10.0.0.7" not in state.model_dump_json()


async def test_email_is_sent_after_temporary_refusals(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with running_mail_server() as server:
        server.rcpt_responses.extend(["451 Greylisted"] * 3)
        mailer = SmtpMailer(SmtpServer.parse(server.url))
        async with open_scenario(time_skipping, tmp_path, FaultPlan(), mailer=mailer) as scenario:
            state = await scenario.run()

    assert email_outcome(state) == (StepStatus.COMPLETED, True)
    assert state.steps[4].attempt == 4
    assert len(server.emails) == 1


async def test_email_with_a_lost_result_is_sent_once(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    mailer, fault_plan = (
        RecordingMailer(),
        FaultPlan(after={WELCOME_EMAIL: ConnectionError()}, max_faults={WELCOME_EMAIL: 1}),
    )
    async with open_scenario(time_skipping, tmp_path, fault_plan, mailer=mailer) as scenario:
        state = await scenario.run()

    assert email_outcome(state) == (StepStatus.COMPLETED, True)
    assert len(mailer.emails) == 1


@pytest.mark.parametrize("error", [AddressRefused(), FINAL_ERROR])
async def test_refused_address_is_final_and_does_not_fail_the_operation(
    time_skipping: WorkflowEnvironment, tmp_path: Path, error: AddressRefused
) -> None:
    fault_plan = FaultPlan(before={WELCOME_EMAIL: error})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()

    assert email_outcome(state) == (StepStatus.FAILED, False)
    assert (state.steps[4].attempt, state.steps[4].last_error) == (1, error.message)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_cancellation_during_the_email_has_no_effect(
    time_skipping: WorkflowEnvironment, tmp_path: Path, when: When
) -> None:
    mailer, fault_plan = RecordingMailer(), FaultPlan.cancelling(when, WELCOME_EMAIL)
    async with open_scenario(time_skipping, tmp_path, fault_plan, mailer=mailer) as scenario:
        handle = await scenario.start()
        state = await scenario.harness.end_of(handle)
        description = await handle.describe()

    assert email_outcome(state) == (StepStatus.COMPLETED, True)
    assert description.status is not None
    assert description.status.name == "COMPLETED"
    assert len(mailer.emails) == 1
    assert undos_in(fault_plan.attempted) == []


async def test_cancellation_during_a_failing_email_ends_the_retries(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={WELCOME_EMAIL: SMTPServerDisconnected("")}, cancel_before=WELCOME_EMAIL)
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()

    assert email_outcome(state) == (StepStatus.FAILED, False)
    assert fault_plan.attempted.count(WELCOME_EMAIL) == 1


async def test_cancellation_between_email_attempts_ends_the_retries(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = FaultPlan(before={WELCOME_EMAIL: SMTPServerDisconnected("")})
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        handle = await scenario.start()
        while (await state_of(handle)).steps[4].status is not StepStatus.RETRYING:
            pass
        await handle.cancel()
        state = await scenario.harness.end_of(handle)

    assert email_outcome(state) == (StepStatus.FAILED, False)
    assert fault_plan.attempted.count(WELCOME_EMAIL) == 1
    assert state.steps[4].last_error == "It was cancelled."
