"""Onboarding a user: what it makes, and that whatever befalls it leaves nothing behind."""

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
    LETTER,
    ONE_USER,
    PASSWORD,
    TOTP_SECRET,
    UNDOABLE,
    KeptMail,
    added_to,
    expected_undos,
    letter_of,
    scene,
    things,
    undos_in,
)
from tests.workflows.saga_harness import (
    ANSWER,
    Script,
    When,
    assert_undone_in_spite_of_a_cancellation,
    cancelling_an_undo,
)
from workflows.onboard_user import OnboardUser


async def test_makes_a_user_who_can_sign_in_and_has_a_place_and_is_told_so(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    mail = KeptMail()
    async with scene(time_skipping, tmp_path, Script(), mail=mail) as playing:
        state = await playing.play(role=Role.GUEST)
        command, stage = playing.command, playing.stage

        assert letter_of(state) == (StepStatus.COMPLETED, True)
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
        verified = await stage.credentials.verify_credentials(credentials)
        assert verified.user_id == user.id
        assert [letter["To"] for letter in mail.letters] == ["Linus Pauling <Linus@Example.com>"]
        assert mail.letters[0]["Subject"] == "Welcome to Acme"

    assert stage.script.ran == [
        "check_permissions",
        "create_user",
        "set_up_authentication",
        "assign_user_to_tenant",
        "create_user_workspace",
        "load_tenant_data",
        "send_welcome_email",
    ]


async def test_a_user_with_a_second_factor_is_asked_for_it(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        await playing.play(totp_secret=TOTP_SECRET)
        service = playing.stage.credentials
        credentials = Credentials.model_validate({"email": "linus@example.com", "password": PASSWORD})
        verified = await service.verify_credentials(credentials)
        identity = await service.redeem_reference(Redemption(key="a", reference=verified.reference))

        assert identity.mfa_method is MfaMethod.TOTP
        assert (await users.User.get(id=identity.user_id)).mfa_enabled


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UNDOABLE)
async def test_a_failure_at_any_step_before_the_letter_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    mail, script = KeptMail(), Script.failing(when, ACTIVITY_OF[step])
    async with scene(time_skipping, tmp_path, script, mail=mail) as playing:
        before = await things()
        state = await playing.play(totp_secret=TOTP_SECRET)
        assert await things() == before

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(script.ran) == expected_undos(step)
    place = STEPS[KIND].index(step)
    statuses = [each.status for each in state.steps]
    assert statuses[:place] == [StepStatus.COMPENSATED] * place
    assert statuses[place:] == [StepStatus.FAILED] + [StepStatus.PENDING] * (4 - place)
    assert mail.letters == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UNDOABLE)
async def test_a_cancellation_at_any_step_before_the_letter_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: When
) -> None:
    mail, script = KeptMail(), Script.cancelling(when, ACTIVITY_OF[step])
    async with scene(time_skipping, tmp_path, script, mail=mail) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(script.ran) == expected_undos(step)
    assert StepStatus.COMPLETED not in {each.status for each in state.steps}
    assert mail.letters == []


@pytest.mark.parametrize("undo", expected_undos(UNDOABLE[-1]))
async def test_a_cancellation_while_a_failed_onboarding_is_undone_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    script = cancelling_an_undo(ACTIVITY_OF[UNDOABLE[-1]], undo)
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert_undone_in_spite_of_a_cancellation(script, state, expected_undos(UNDOABLE[-1]))


@pytest.mark.parametrize("step", UNDOABLE)
async def test_a_step_whose_answer_is_lost_is_done_once(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str
) -> None:
    script = Script(after={ACTIVITY_OF[step]: ConnectionError()}, times={ACTIVITY_OF[step]: 1})
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await things()
        state = await playing.play()
        assert await added_to(before) == ONE_USER

    assert letter_of(state) == (StepStatus.COMPLETED, True)
    assert state.steps[UNDOABLE.index(step)].attempt == 2


async def test_a_permission_that_is_refused_stops_it_before_anything_is_done(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script(), starter="grace", role=Role.MEMBER) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert playing.stage.script.ran == ["check_permissions"]
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
    assert (state.failure.step, state.failure.compensated) == ("create_user", True)


async def test_a_session_of_somebody_else_of_another_tenant_or_of_nobody_is_refused(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        grace = await users.User.get(email="grace@example.com")
        globex = await tenants.Tenant.get(slug="globex")
        before = await things()
        states = [
            await playing.play(user_id=grace.id),
            await playing.play(tenant_id=globex.id),
            await playing.play(session_id=new_id("ses")),
        ]
        assert await things() == before

    for state in states:
        assert state.failure is not None
        assert state.failure.code is OperationErrorCode.PERMISSION_DENIED
    assert playing.stage.script.ran == ["check_permissions"] * 3


async def test_who_was_demoted_since_they_signed_in_gives_no_role(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script(), starter="grace", role=Role.ADMIN) as playing:
        before = await things()
        state = await playing.play()
        assert await things() == before

    assert playing.stage.script.ran == ["check_permissions"]
    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.PERMISSION_DENIED, "create_user")
    assert state.failure.compensated


async def test_nobody_gives_a_role_above_their_own(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        before = await things()
        state = await playing.play(role=Role.OWNER)
        assert await things() == before

    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.PERMISSION_DENIED, True)


async def test_an_address_in_use_is_told_with_its_field_and_its_user_stays(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        before = await things()
        state = await playing.play(email="GRACE@example.com")
        assert await things() == before

    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.VALIDATION_FAILED
    assert state.failure.user_recoverable
    assert state.failure.fields == (FieldError(path=("email",), message="This e-mail address is in use."),)


async def test_of_two_for_the_same_address_one_wins_and_the_other_leaves_nothing(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        before = await things()
        handles = [await playing.start(), await playing.start(new_user_id=new_id("usr"))]
        states = [await playing.stage.end_of(handle) for handle in handles]
        assert await added_to(before) == ONE_USER

    assert sorted(state.status for state in states) == [OperationStatus.COMPLETED, OperationStatus.FAILED]


async def test_the_same_operation_is_not_started_twice(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        handle = await playing.start()
        with pytest.raises(WorkflowAlreadyStartedError):
            await playing.stage.client.start_workflow(
                OnboardUser.run, playing.command, id=handle.id, task_queue="operations"
            )
        await playing.stage.end_of(handle)
        assert await users.User.all().count() == 4


async def test_a_cancellation_at_any_moment_leaves_all_or_nothing(temporal_client: Client, tmp_path: Path) -> None:
    moments, ends = random.Random(7), set()
    async with scene(WorkflowEnvironment.from_client(temporal_client), tmp_path, Script()) as playing:
        for number in range(20):
            before = await things()
            handle = await playing.start(new_user_id=new_id("usr"), email=f"linus{number}@example.com")
            await asyncio.sleep(moments.uniform(0, 0.25))
            with suppress(RPCError):  # it has closed
                await handle.cancel()
            state = await playing.stage.end_of(handle)
            ends.add(state.status)
            if state.status is OperationStatus.COMPLETED:
                assert await added_to(before) == ONE_USER
            else:
                assert await things() == before

    assert ends <= {OperationStatus.COMPLETED, OperationStatus.CANCELLED}


async def test_an_undo_that_fails_is_told_and_the_others_go_on(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={"create_user_workspace": ANSWER, "remove_user_from_tenant": ANSWER})
    async with scene(time_skipping, tmp_path, script) as playing:
        state = await playing.play()
        assert await users.User.all().count() == 3
        assert await auth.Credential.all().count() == 3

    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.COMPENSATION_FAILED, False)
    assert state.steps[2].status is StepStatus.COMPENSATION_FAILED


async def test_the_memo_is_small_and_says_nothing_of_the_new_user(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    script = Script(before={LETTER: SMTPServerDisconnected("linus@example.com")})
    async with scene(time_skipping, tmp_path, script) as playing:
        handle = await playing.start(totp_secret=TOTP_SECRET)
        state = await playing.stage.end_of(handle)
        info = (await handle.describe()).raw_description.workflow_execution_info

    assert info.memo.ByteSize() < 2048
    told = f"{state.model_dump_json()}{info.execution.workflow_id}{info.search_attributes}"
    for secret in ("inus", TOTP_SECRET, "argon2"):
        assert secret not in told
