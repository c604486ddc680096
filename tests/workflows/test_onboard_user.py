"""Onboarding a user: what it makes, that whatever befalls it leaves nothing behind, and that no letter fails it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtplib import SMTPServerDisconnected
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.notifications.mail import Mail, SmtpMail, SmtpServer
from activities.tenants import models as tenants
from activities.users import models as users
from activities.workspaces import models as workspaces
from contracts.auth import Credentials, MfaMethod, Redemption, Role
from contracts.base import new_id, utc_now
from contracts.errors import AddressRefused, FieldError, OperationErrorCode
from contracts.operations import STEPS, OperationKind, OperationState, OperationStatus, StepStatus, UserOnboarded
from contracts.passwords import Passwords
from contracts.users import OnboardUserCommand
from tests.mail_server import running_mail_server
from tests.workflows.staging import ANSWER, Script, Stage, When, staged, state_of
from workflows.onboard_user import OnboardUser

KIND = OperationKind.USER_ONBOARDING
PASSWORD = "correct horse battery"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ACTIVITY_OF = {
    "create_user": "create_user",
    "set_up_authentication": "set_up_authentication",
    "assign_to_tenant": "assign_user_to_tenant",
    "create_workspace": "create_user_workspace",
    "send_welcome_email": "send_welcome_email",
}
UNDO_OF = {
    "create_user": "delete_user",
    "set_up_authentication": "clean_up_authentication",
    "assign_to_tenant": "remove_user_from_tenant",
    "create_workspace": "delete_workspace",
}
LETTER = "send_welcome_email"
UNDOABLE = list(UNDO_OF)


class KeptMail:
    """Keeps the letters."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []

    async def send(self, letter: EmailMessage) -> None:
        self.letters.append(letter)


class Scene(NamedTuple):
    stage: Stage
    command: OnboardUserCommand

    async def play(self, **changes: object) -> OperationState:
        return await self.stage.end_of(await self.start(**changes))

    async def start(self, **changes: object) -> WorkflowHandle[Any, Any]:
        return await self.stage.start(OnboardUser.run, self.command.model_copy(update=changes), KIND)


async def things() -> list[Any]:
    """All that an onboarding may touch."""
    tables = (
        users.User,
        users.Affiliation,
        users.Preferences,
        auth.Credential,
        auth.OneTimeReference,
        auth.Session,
        auth.SignIn,
        tenants.Membership,
        workspaces.Workspace,
    )
    return [sorted(await table.all().values(), key=str) for table in tables]


ONE_USER = [1, 1, 0, 1, 0, 0, 0, 1, 1]
"""What an onboarding adds to each of them."""


async def added_to(before: list[Any]) -> list[int]:
    return [len(now) - len(then) for now, then in zip(await things(), before, strict=True)]


@asynccontextmanager
async def scene(
    environment: WorkflowEnvironment,
    folder: Path,
    script: Script,
    *,
    starter: str = "ada",
    role: Role = Role.ADMIN,
    mail: Mail | None = None,
) -> AsyncIterator[Scene]:
    """Ada is signed in to Acme, which she administers, and onboards Linus."""
    async with staged(environment.client, folder, script, mail) as stage:
        user = await users.User.get(email=f"{starter}@example.com")
        session = await auth.Session.create(
            id=new_id("ses"),
            user_id=user.id,
            tenant_id=user.tenant_id,
            role=role,
            token_hash="a" * 64,
            active=True,
            created_at=utc_now(),
            expires_at=utc_now().replace(year=utc_now().year + 1),
        )
        yield Scene(
            stage,
            OnboardUserCommand(
                user_id=user.id,
                session_id=session.id,
                tenant_id=user.tenant_id,
                new_user_id=new_id("usr"),
                email=" Linus@Example.com ",
                name="Linus Pauling",
                role=Role.MEMBER,
                password_hash=await hashed(PASSWORD),
            ),
        )


async def hashed(password: str) -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def expected_undos(failing: str) -> list[str]:
    """Newest first, the failing step's own included: it may have acted."""
    return [UNDO_OF[step] for step in reversed(UNDOABLE[: UNDOABLE.index(failing) + 1])]


def undos_in(ran: list[str]) -> list[str]:
    return [name for name in ran if name in UNDO_OF.values()]


def letter_of(state: OperationState) -> tuple[StepStatus, bool]:
    """How its step ended, and what the result says of it."""
    assert state.status is OperationStatus.COMPLETED
    assert state.failure is None
    assert isinstance(state.result, UserOnboarded)
    assert [step.status for step in state.steps[:4]] == [StepStatus.COMPLETED] * 4
    return state.steps[4].status, state.result.welcome_email_sent


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
        assert (user.email, user.name, user.mfa_enabled) == ("linus@example.com", "Linus Pauling", False)
        assert await users.Affiliation.exists(user_id=user.id, tenant_id=command.tenant_id)
        membership = await tenants.Membership.get(user_id=user.id)
        assert (membership.tenant_id, membership.role) == (command.tenant_id, Role.GUEST)
        workspace = await workspaces.Workspace.get(id=state.result.workspace_id)
        assert (workspace.user_id, workspace.tenant_id) == (user.id, command.tenant_id)
        assert workspace.name == "Linus Pauling's workspace"
        credentials = Credentials.model_validate({"email": "linus@example.com", "password": PASSWORD})
        verified = await stage.auth.verify_credentials(credentials)
        assert verified.user_id == user.id
        assert [letter["To"] for letter in mail.letters] == ["Linus Pauling <linus@example.com>"]
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
        auth_service = playing.stage.auth
        credentials = Credentials.model_validate({"email": "linus@example.com", "password": PASSWORD})
        verified = await auth_service.verify_credentials(credentials)
        identity = await auth_service.redeem_reference(Redemption(key="a", reference=verified.reference))

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

    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.PERMISSION_DENIED, "assign_to_tenant")
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
