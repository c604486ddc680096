"""Ada onboards Linus, on a stage: what it makes and undoes, and how its letter fared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.auth import models as auth
from activities.notifications.mailer import Mail
from activities.tenants import models as tenants
from activities.users import models as users
from activities.workspaces import models as workspaces
from contracts.auth import Role
from contracts.base import new_id
from contracts.operations import OperationKind, OperationState, OperationStatus, StepStatus, UserOnboarded
from contracts.users import OnboardUserCommand
from infrastructure.passwords import Passwords
from tests.workflows.saga_harness import Script, Stage, open_session, staged
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
        session = await open_session(starter, role)
        yield Scene(
            stage,
            OnboardUserCommand(
                user_id=session.user_id,
                session_id=session.id,
                tenant_id=session.tenant_id,
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
