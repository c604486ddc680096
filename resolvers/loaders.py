"""What one execution loads, each thing once and many in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TypeAlias, TypeVar

from strawberry.dataloader import DataLoader

from contracts.auth import Session
from contracts.calls import Caller
from contracts.files import File
from contracts.operation_records import OperationRecord
from contracts.operations import Operation
from contracts.tenants import Tenant
from contracts.users import Preferences, User
from contracts.workspaces import Workspace
from resolvers.clients.auth import AuthClient
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.known_users import KnownUsers

MAX_BATCH_SIZE = 200

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
        auth: AuthClient,
    ) -> None:
        self._caller = caller
        self._users = users
        self._tenants = tenants
        self._files = files
        self._workspaces = workspaces
        self._auth = auth
        self.user: DataLoader[str, User | None] = DataLoader(self._load_users, max_batch_size=MAX_BATCH_SIZE)
        self.tenant: DataLoader[str, Tenant | None] = DataLoader(self._load_tenants, max_batch_size=MAX_BATCH_SIZE)
        self.file: DataLoader[str, File | None] = DataLoader(self._load_files, max_batch_size=MAX_BATCH_SIZE)
        self.workspace: DataLoader[str, Workspace | None] = DataLoader(
            self._load_workspaces, max_batch_size=MAX_BATCH_SIZE
        )

        self._sessions: DataLoader[None, tuple[Session, ...]] = DataLoader(self._load_sessions)
        self._preferences: DataLoader[None, Preferences] = DataLoader(self._load_preferences)
        self._memberships: DataLoader[None, tuple[Tenant, ...]] = DataLoader(self._load_memberships)

    async def sessions(self) -> tuple[Session, ...]:
        """The caller's open sessions, newest first."""
        return await self._sessions.load(None)

    async def preferences(self) -> Preferences:
        """The caller's preferences."""
        return await self._preferences.load(None)

    async def memberships(self) -> tuple[Tenant, ...]:
        """All tenants that the caller is a member of."""
        return await self._memberships.load(None)

    async def _load_sessions(self, _: list[None]) -> list[tuple[Session, ...]]:
        return [await self._auth.sessions(self._caller)]

    async def _load_preferences(self, _: list[None]) -> list[Preferences]:
        return [await self._users.preferences(self._caller)]

    async def _load_memberships(self, _: list[None]) -> list[tuple[Tenant, ...]]:
        return [await self._tenants.memberships(self._caller)]

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


def operation_loader(
    load: Callable[[list[str]], Coroutine[object, object, list[Operation | Exception]]],
) -> Loader[Operation]:
    """Return a loader that asks for each operation once, those of one moment together."""
    return DataLoader(load, max_batch_size=MAX_BATCH_SIZE)


def record_loader(
    load: Callable[[list[str]], Coroutine[object, object, list[OperationRecord | None]]],
) -> Loader[OperationRecord | None]:
    """Return a loader of records of operations, which works alike."""
    return DataLoader(load, max_batch_size=MAX_BATCH_SIZE)


def lack(loader: Loader[Thing], ids: Iterable[str], error: Exception) -> None:
    """Have the loader answer with the error at once, where nothing was asked of it about these yet."""
    for id in ids:
        if loader.cache_map.get(id) is None:
            future: asyncio.Future[Thing] = loader.loop.create_future()
            future.set_exception(error)
            future.exception()  # nobody need ask
            loader.cache_map.set(id, future)
