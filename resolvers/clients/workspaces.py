"""Client of the workspaces service: the workspaces of users in a tenant."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.callers import Caller
from contracts.workspaces import Workspace
from resolvers.clients.base import ServiceClient

_WORKSPACES = TypeAdapter(tuple[Workspace, ...])


class WorkspacesClient:
    """Calls the workspaces service."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def get_workspaces(self, caller: Caller, ids: Sequence[str]) -> tuple[Workspace, ...]:
        """Return the workspaces with these ids that the caller may see; at most 500 ids."""
        return await self._service.call("get_workspaces", caller, Ids(ids=tuple(ids)).model_dump_json(), _WORKSPACES)
