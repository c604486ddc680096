"""The workspaces service: creation and visibility of workspaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import JsonValue

from activities.idempotency import run_once, undo_once
from activities.workspaces import models
from contracts.base import is_id, new_id, utc_now
from contracts.callers import Caller
from contracts.errors import NotSignedIn
from contracts.workspaces import NewWorkspace, Workspace

_MAX_NAME_LENGTH = 250


class WorkspacesService:
    """Manages workspaces. A workspace is visible to its user and to administrators, in its tenant only."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    async def create_user_workspace(self, new: NewWorkspace) -> Workspace:
        """Create a workspace; its name is cut off after 250 characters."""

        async def create() -> JsonValue:
            row = await models.Workspace.create(
                id=new_id("wsp"),
                tenant_id=new.tenant_id,
                user_id=new.user_id,
                name=new.name[:_MAX_NAME_LENGTH],
                created_at=self._clock(),
            )
            return _workspace(row).model_dump()

        return Workspace.model_validate(await run_once(models.WorkspacesIdempotencyRecord, new.key, create))

    async def undo_create_user_workspace(self, key: str) -> None:
        """Delete the workspace that the step of this key created."""

        async def delete(answer: JsonValue) -> None:
            await models.Workspace.filter(id=Workspace.model_validate(answer).id).delete()

        await undo_once(models.WorkspacesIdempotencyRecord, key, delete)

    async def get_workspaces(self, caller: Caller, ids: Iterable[str]) -> list[Workspace]:
        """Return the workspaces that the caller may see, in the requested order.

        Raises:
            NotSignedIn: the caller has no user or no tenant.
        """
        if caller.user_id is None or caller.tenant_id is None:
            raise NotSignedIn()
        requested = [each for each in dict.fromkeys(ids) if is_id(each, "wsp")]
        visible = models.Workspace.filter(tenant_id=caller.tenant_id, id__in=requested)
        if "operations:administer" not in caller.permissions:
            visible = visible.filter(user_id=caller.user_id)
        rows = {row.id: row for row in await visible}
        return [_workspace(rows[each]) for each in requested if each in rows]


def _workspace(row: models.Workspace) -> Workspace:
    return Workspace(id=row.id, name=row.name, tenant_id=row.tenant_id, user_id=row.user_id)
