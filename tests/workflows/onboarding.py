"""The onboarding scenario: Ada onboards Linus, with snapshots of the tables and checks of the welcome e-mail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.notifications.mailer import Mailer
from activities.tenants import models as tenants
from activities.users import models as users
from activities.workspaces import models as workspaces
from contracts.auth import Role
from contracts.base import new_id
from contracts.operations import OperationKind, OperationState, OperationStatus, StepStatus, UserOnboarded
from contracts.users import OnboardUserCommand
from infrastructure.passwords import Passwords
from tests.workflows.saga_harness import FaultPlan, SagaHarness, open_saga_harness, open_session
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
    "create_user": "undo_create_user",
    "set_up_authentication": "undo_set_up_authentication",
    "assign_to_tenant": "undo_assign_user_to_tenant",
    "create_workspace": "undo_create_user_workspace",
}
WELCOME_EMAIL = "send_welcome_email"
STEPS_WITH_UNDO = list(UNDO_OF)


class RecordingMailer:
    """A mailer that keeps the e-mails instead of sending them."""

    def __init__(self) -> None:
        self.emails: list[EmailMessage] = []

    async def send(self, email: EmailMessage) -> None:
        self.emails.append(email)


class Scenario(NamedTuple):
    harness: SagaHarness
    command: OnboardUserCommand

    async def run(self, **changes: object) -> OperationState:
        return await self.harness.end_of(await self.start(**changes))

    async def start(self, **changes: object) -> WorkflowHandle[Any, Any]:
        return await self.harness.start(OnboardUser.run, self.command.model_copy(update=changes), KIND)


async def snapshot() -> list[Any]:
    """Return the rows of all tables that an onboarding may change."""
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
"""Number of rows that one onboarding adds to each table of the snapshot."""


async def rows_added_since(before: list[Any]) -> list[int]:
    return [len(now) - len(then) for now, then in zip(await snapshot(), before, strict=True)]


@asynccontextmanager
async def open_scenario(
    environment: WorkflowEnvironment,
    folder: Path,
    fault_plan: FaultPlan,
    *,
    starter: str = "ada",
    role: Role = Role.ADMIN,
    mailer: Mailer | None = None,
) -> AsyncIterator[Scenario]:
    """Yield the scenario in which Ada, who is signed in to Acme and administers it, onboards Linus."""
    async with open_saga_harness(environment.client, folder, fault_plan, mailer) as harness:
        session = await open_session(starter, role)
        yield Scenario(
            harness,
            OnboardUserCommand(
                user_id=session.user_id,
                session_id=session.id,
                tenant_id=session.tenant_id,
                new_user_id=new_id("usr"),
                email=" Linus@Example.com ",
                name="Linus Pauling",
                role=Role.MEMBER,
                password_hash=await hash_password(PASSWORD),
            ),
        )


async def hash_password(password: str) -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def expected_undos(failing: str) -> list[str]:
    """Return the undos after a failure at this step, newest first. The failing step is undone too."""
    return [UNDO_OF[step] for step in reversed(STEPS_WITH_UNDO[: STEPS_WITH_UNDO.index(failing) + 1])]


def undos_in(attempted: list[str]) -> list[str]:
    return [name for name in attempted if name in UNDO_OF.values()]


def email_outcome(state: OperationState) -> tuple[StepStatus, bool]:
    """Return the status of the e-mail's step and ``welcome_email_sent`` of the result of a completed onboarding."""
    assert state.status is OperationStatus.COMPLETED
    assert state.failure is None
    assert isinstance(state.result, UserOnboarded)
    assert [step.status for step in state.steps[:4]] == [StepStatus.COMPLETED] * 4
    return state.steps[4].status, state.result.welcome_email_sent
