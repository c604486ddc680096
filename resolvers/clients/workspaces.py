"""The workspaces service as the edge calls it: the places that users have in a tenant."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.service_tokens import Caller
from contracts.workspaces import Workspace
from resolvers.clients.base import ServiceClient

_WORKSPACES = TypeAdapter(tuple[Workspace, ...])


class WorkspacesClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls

    async def workspaces(self, caller: Caller, ids: Sequence[str]) -> tuple[Workspace, ...]:
        """Those of them that the caller may see; at most 500 ids."""
        return await self._calls.call("get_workspaces", caller, Ids(ids=tuple(ids)).model_dump_json(), _WORKSPACES)
