"""Take back what an operation did that was terminated or timed out, or whose own undo did not succeed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.auth.activities import Auth
from activities.files.activities import Files
from activities.operations.activities import Operations
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from activities.workspaces.activities import Workspaces
from contracts.files import StoredFile
from contracts.repairs import Effect, EndedOperation
from workflows.call import call
from workflows.options import UNDO

_LOOK_INTERVAL = timedelta(seconds=1)
_LOOKS = 300
"""At a run that is cancelled, until it has closed: its undos are tried again for minutes while a service is away."""

Undo = Callable[[], Awaitable[None]]

BY_KEY: dict[str, Callable[..., Awaitable[None]]] = {
    Auth.create_session.__name__: Auth.rollback_session_creation,
    Auth.record_sign_in.__name__: Auth.forget_sign_in,
    Auth.hand_over_session.__name__: Auth.restore_previous_session,
    Auth.set_up_authentication.__name__: Auth.clean_up_authentication,
    Users.update_user_tenant.__name__: Users.restore_user_tenant,
    Users.create_user.__name__: Users.delete_user,
    Tenants.assign_user_to_tenant.__name__: Tenants.remove_user_from_tenant,
    Workspaces.create_user_workspace.__name__: Workspaces.delete_workspace,
    Files.create_file_record.__name__: Files.delete_file_record,
    Files.update_file_metadata.__name__: Files.restore_file_metadata,
    Files.set_file_permissions.__name__: Files.restore_file_permissions,
    Files.publish_metadata.__name__: Files.withdraw_metadata,
}
"""The undo of each step, as the sagas write it down, by the name of its activity."""


@workflow.defn
class RepairOperation:
    """Newest first, as the operation itself would have done. The ledger makes it harmless to undo what is undone.

    If a reset has begun another run of the operation, it leaves that run alone. If it has undone a part by then, it
    cancels that run and goes on.
    """

    @workflow.run
    async def run(self, ended: EndedOperation) -> None:
        done = await call(Operations.effects_of, ended, UNDO)
        failed: list[str] = []
        undos = [(undo, effect) for effect in reversed(done.effects) if (undo := undo_of(effect)) is not None]
        if not undos or await call(Operations.is_superseded, ended, UNDO):
            return
        for undo, effect in undos:
            try:
                await undo()
            except ActivityError as error:
                workflow.logger.error("An undo failed", exc_info=error)
                failed.append(effect.activity)
            await self._end_other_run(ended)
        if failed:
            raise ApplicationError(f"Not undone: {', '.join(failed)}", non_retryable=True)

    async def _end_other_run(self, ended: EndedOperation) -> None:
        """Cancel a run that a reset has begun since, for a part of what it builds on is undone; wait for its end."""
        if not await call(Operations.is_superseded, ended, UNDO):
            return
        for _ in range(_LOOKS):
            if await call(Operations.cancel_current_run, ended, UNDO):
                return
            await workflow.sleep(_LOOK_INTERVAL)
        workflow.logger.error("A run goes on of which a part has been undone")


def undo_of(effect: Effect) -> Undo | None:
    """How to take the call back; None where there is nothing to take back."""
    if effect.activity == Files.upload_to_storage.__name__:
        stored = StoredFile.model_validate(effect.model_dump())
        return lambda: call(Files.remove_from_storage, stored, UNDO)
    if (activity := BY_KEY.get(effect.activity)) is None:
        return None
    return lambda: call(activity, effect.key, UNDO)
