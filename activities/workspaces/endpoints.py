"""HTTP endpoints of the workspaces service, for requests that need no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.http import endpoint
from activities.workspaces.service import WorkspacesService
from contracts.base import Ids
from contracts.callers import Caller
from contracts.workspaces import Workspace
from infrastructure.signing.service_tokens import ServiceTokenSigner


def routes(service: WorkspacesService, signer: ServiceTokenSigner) -> list[Route]:
    async def get_workspaces(caller: Caller, requested: Ids) -> list[Workspace]:
        return await service.get_workspaces(caller, requested.ids)

    return [endpoint("/workspaces/get_workspaces", signer, Ids, get_workspaces)]
