"""The compensations: which undo activity reverts which activity, in one table for operations and their repair."""

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
    Auth.create_session.__name__: Auth.undo_create_session,
    Auth.record_sign_in.__name__: Auth.undo_record_sign_in,
    Auth.replace_session.__name__: Auth.undo_replace_session,
    Auth.set_up_authentication.__name__: Auth.undo_set_up_authentication,
    Users.update_user_tenant.__name__: Users.undo_update_user_tenant,
    Users.create_user.__name__: Users.undo_create_user,
    Tenants.assign_user_to_tenant.__name__: Tenants.undo_assign_user_to_tenant,
    Workspaces.create_user_workspace.__name__: Workspaces.undo_create_user_workspace,
    Files.create_file_record.__name__: Files.undo_create_file_record,
    Files.upload_to_storage.__name__: Files.undo_upload_to_storage,
    Files.update_file_metadata.__name__: Files.undo_update_file_metadata,
    Files.set_file_permissions.__name__: Files.undo_set_file_permissions,
    Files.publish_metadata.__name__: Files.undo_publish_metadata,
}
"""The undo of each activity that changes data, by the activity's name."""


def undo_of(recorded: RecordedCall) -> Undo | None:
    """Return a function that undoes the recorded call; None if the activity changes nothing."""
    activity = COMPENSATIONS.get(recorded.activity)
    if activity is None:
        return None
    needs_file = recorded.activity == Files.upload_to_storage.__name__  # the undo removes an object that the file names
    argument = StoredFile.model_validate(recorded.model_dump()) if needs_file else recorded.key
    return lambda: call(activity, argument, COMPENSATION)


@dataclass(frozen=True)
class Compensation:
    """The registered undo of one call in a step."""

    step: str
    undo: Undo


class CompensationStack:
    """The compensations of an operation, in the order in which its calls were made."""

    def __init__(self) -> None:
        self._compensations: list[Compensation] = []

    def push(self, step: str, undo: Undo) -> None:
        self._compensations.append(Compensation(step, undo))

    def pop(self) -> Compensation | None:
        """Remove and return the newest compensation; None if the stack is empty."""
        return self._compensations.pop() if self._compensations else None

    def __bool__(self) -> bool:
        return bool(self._compensations)

    @property
    def newest_step(self) -> str | None:
        """The step of the newest compensation, which is undone next."""
        return self._compensations[-1].step if self._compensations else None
