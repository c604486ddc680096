"""Activities of the workspaces service. The service documents what they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.workspaces import NewWorkspace, Workspace

if TYPE_CHECKING:
    from activities.workspaces.service import WorkspacesService


class Workspaces:
    """Activities that workflows call on the task queue ``workspaces``."""

    def __init__(self, service: WorkspacesService) -> None:
        self._service = service

    @activity.defn
    async def create_user_workspace(self, new: NewWorkspace) -> Workspace:
        return await self._service.create_user_workspace(new)

    @activity.defn
    async def undo_create_user_workspace(self, key: str) -> None:
        await self._service.undo_create_user_workspace(key)
