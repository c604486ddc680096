"""Workspaces over HTTP, for what needs no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.calls import endpoint
from activities.workspaces.service import WorkspacesService
from contracts.base import Ids
from contracts.calls import Caller, CallSigner
from contracts.workspaces import Workspace


def routes(service: WorkspacesService, signer: CallSigner) -> list[Route]:
    async def get_workspaces(caller: Caller, wanted: Ids) -> list[Workspace]:
        return await service.get_workspaces(caller, wanted.ids)

    return [endpoint("/workspaces/get_workspaces", signer, Ids, get_workspaces)]
