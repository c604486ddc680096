"""The letter at the end of an onboarding: tried for a while, sent once, and no reason to fail anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiosmtplib import SMTPServerDisconnected
from temporalio.testing import WorkflowEnvironment

from activities.notifications.mailer import SmtpMail, SmtpServer
from contracts.errors import AddressRefused
from contracts.operations import StepStatus
from tests.mail_server import running_mail_server
from tests.workflows.onboarding import LETTER, ONE_USER, KeptMail, added_to, letter_of, scene, things, undos_in
from tests.workflows.saga_harness import ANSWER, Script, When, state_of


async def test_a_letter_that_no_server_takes_is_tried_for_a_while_and_fails_nothing(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={LETTER: SMTPServerDisconnected("10.0.0.7 hung up")})
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await added_to(before) == ONE_USER

    assert letter_of(state) == (StepStatus.FAILED, False)
    assert state.steps[4].attempt == 5
    assert state.steps[4].last_error == "The mail server does not take e-mail now."
    assert state.steps[4].completed_at is not None
    assert undos_in(script.ran) == []
    assert "10.0.0.7" not in state.model_dump_json()


async def test_a_letter_that_a_server_takes_at_last_is_sent(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with running_mail_server() as server:
        server.rcpt_says.extend(["451 Greylisted"] * 3)
        mail = SmtpMail(SmtpServer.parse(server.url))
        async with scene(time_skipping, tmp_path, Script(), mail=mail) as playing:
            state = await playing.play()

    assert letter_of(state) == (StepStatus.COMPLETED, True)
    assert state.steps[4].attempt == 4
    assert len(server.letters) == 1


async def test_a_letter_whose_answer_is_lost_is_sent_once(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    mail, script = KeptMail(), Script(after={LETTER: ConnectionError()}, times={LETTER: 1})
    async with scene(time_skipping, tmp_path, script, mail=mail) as playing:
        state = await playing.play()

    assert letter_of(state) == (StepStatus.COMPLETED, True)
    assert len(mail.letters) == 1


@pytest.mark.parametrize("error", [AddressRefused(), ANSWER])
async def test_an_answer_to_the_letter_is_final_and_fails_nothing(
    time_skipping: WorkflowEnvironment, tmp_path: Path, error: AddressRefused
) -> None:
    script = Script(before={LETTER: error})
    async with scene(time_skipping, tmp_path, script) as playing:
        state = await playing.play()

    assert letter_of(state) == (StepStatus.FAILED, False)
    assert (state.steps[4].attempt, state.steps[4].last_error) == (1, error.message)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancellation_while_the_letter_is_sent_comes_too_late(
    time_skipping: WorkflowEnvironment, tmp_path: Path, when: When
) -> None:
    mail, script = KeptMail(), Script.cancelling(when, LETTER)
    async with scene(time_skipping, tmp_path, script, mail=mail) as playing:
        handle = await playing.start()
        state = await playing.stage.end_of(handle)
        description = await handle.describe()

    assert letter_of(state) == (StepStatus.COMPLETED, True)
    assert description.status is not None
    assert description.status.name == "COMPLETED"
    assert len(mail.letters) == 1
    assert undos_in(script.ran) == []


async def test_a_cancellation_while_the_letter_is_sent_in_vain_ends_the_trying(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={LETTER: SMTPServerDisconnected("")}, cancel_before=LETTER)
    async with scene(time_skipping, tmp_path, script) as playing:
        state = await playing.play()

    assert letter_of(state) == (StepStatus.FAILED, False)
    assert script.ran.count(LETTER) == 1


async def test_a_cancellation_between_two_tries_of_the_letter_ends_the_trying(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={LETTER: SMTPServerDisconnected("")})
    async with scene(time_skipping, tmp_path, script) as playing:
        handle = await playing.start()
        while (await state_of(handle)).steps[4].status is not StepStatus.RETRYING:
            pass
        await handle.cancel()
        state = await playing.stage.end_of(handle)

    assert letter_of(state) == (StepStatus.FAILED, False)
    assert script.ran.count(LETTER) == 1
    assert state.steps[4].last_error == "It was cancelled."
