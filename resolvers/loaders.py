"""What one execution loads, each thing once and many in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias, TypeVar

from strawberry.dataloader import DataLoader

from contracts.calls import Caller
from contracts.files import File
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.known_users import KnownUsers

_AT_ONCE = 200

Thing = TypeVar("Thing")

Loader: TypeAlias = DataLoader[str, Thing]


class Loaders:
    """For one caller and one execution, so that nothing goes stale on a socket. What is absent or hidden is None."""

    def __init__(
        self,
        caller: Caller,
        users: KnownUsers,
        tenants: TenantsClient,
        files: FilesClient,
        workspaces: WorkspacesClient,
    ) -> None:
        self._caller = caller
        self._users = users
        self._tenants = tenants
        self._files = files
        self._workspaces = workspaces
        self.user: DataLoader[str, User | None] = DataLoader(self._load_users, max_batch_size=_AT_ONCE)
        self.tenant: DataLoader[str, Tenant | None] = DataLoader(self._load_tenants, max_batch_size=_AT_ONCE)
        self.file: DataLoader[str, File | None] = DataLoader(self._load_files, max_batch_size=_AT_ONCE)
        self.workspace: DataLoader[str, Workspace | None] = DataLoader(self._load_workspaces, max_batch_size=_AT_ONCE)

    async def _load_users(self, ids: list[str]) -> list[User | None]:
        found = {user.id: user for user in await self._users.users(self._caller, ids)}
        return [found.get(id) for id in ids]

    async def _load_tenants(self, ids: list[str]) -> list[Tenant | None]:
        found = {tenant.id: tenant for tenant in await self._tenants.tenants(self._caller, ids)}
        return [found.get(id) for id in ids]

    async def _load_files(self, ids: list[str]) -> list[File | None]:
        found = {file.id: file for file in await self._files.files(self._caller, ids)}
        return [found.get(id) for id in ids]

    async def _load_workspaces(self, ids: list[str]) -> list[Workspace | None]:
        found = {workspace.id: workspace for workspace in await self._workspaces.workspaces(self._caller, ids)}
        return [found.get(id) for id in ids]


def lack(loader: Loader[Thing], ids: Iterable[str], error: Exception) -> None:
    """Have the loader answer with the error at once, where nothing was asked of it about these yet."""
    for id in ids:
        if loader.cache_map.get(id) is None:
            future: asyncio.Future[Thing] = loader.loop.create_future()
            future.set_exception(error)
            future.exception()  # nobody need ask
            loader.cache_map.set(id, future)
