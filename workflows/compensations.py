"""How each step is undone: one table, which operations and their repair use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from activities.auth.activities import Auth
from activities.files.activities import Files
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from activities.workspaces.activities import Workspaces
from contracts.compensation_repair import RecordedCall
from contracts.files import StoredFile
from workflows.activity_call import call
from workflows.options import COMPENSATION

Undo = Callable[[], Awaitable[None]]

COMPENSATIONS: dict[str, Callable[..., Awaitable[None]]] = {
    Auth.create_session.__name__: Auth.rollback_session_creation,
    Auth.record_sign_in.__name__: Auth.forget_sign_in,
    Auth.hand_over_session.__name__: Auth.restore_previous_session,
    Auth.set_up_authentication.__name__: Auth.clean_up_authentication,
    Users.update_user_tenant.__name__: Users.restore_user_tenant,
    Users.create_user.__name__: Users.delete_user,
    Tenants.assign_user_to_tenant.__name__: Tenants.remove_user_from_tenant,
    Workspaces.create_user_workspace.__name__: Workspaces.delete_workspace,
    Files.create_file_record.__name__: Files.delete_file_record,
    Files.upload_to_storage.__name__: Files.remove_from_storage,
    Files.update_file_metadata.__name__: Files.restore_file_metadata,
    Files.set_file_permissions.__name__: Files.restore_file_permissions,
    Files.publish_metadata.__name__: Files.withdraw_metadata,
}
"""The activity that undoes each activity with an effect, by the name of the latter."""


def undo_of(effect: RecordedCall) -> Undo | None:
    """Return how to undo the call; None if it has no effect."""
    activity = COMPENSATIONS.get(effect.activity)
    if activity is None:
        return None
    is_stored = effect.activity == Files.upload_to_storage.__name__  # objects in a store are found by their file
    argument = StoredFile.model_validate(effect.model_dump()) if is_stored else effect.key
    return lambda: call(activity, argument, COMPENSATION)


@dataclass(frozen=True)
class Compensation:
    step: str
    undo: Undo


class CompensationStack:
    """The undos of the steps so far, in the order of the calls."""

    def __init__(self) -> None:
        self._compensations: list[Compensation] = []

    def push(self, step: str, undo: Undo) -> None:
        self._compensations.append(Compensation(step, undo))

    def pop(self) -> Compensation | None:
        """Remove and return the newest one; None if none is left."""
        return self._compensations.pop() if self._compensations else None

    def __bool__(self) -> bool:
        return bool(self._compensations)

    @property
    def newest_step(self) -> str | None:
        """The step that is undone next."""
        return self._compensations[-1].step if self._compensations else None
