"""Data loaders of one execution: each object is loaded once, and many objects in one call."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.callers import Caller
from contracts.files import File
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace
from infrastructure.caching.batching import DataLoader
from infrastructure.caching.single_flight import Once
from resolvers.clients.auth import AuthClient
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.user_cache import CachedUsersClient

MAX_BATCH_SIZE = 200


class Loaders:
    """The data loaders of one principal for one execution.

    A loader returns None for an object that does not exist or that the principal may not see. Loaders live only as long
    as one execution, so that results on a websocket are never outdated.
    """

    def __init__(
        self,
        caller: Caller,
        users: CachedUsersClient,
        tenants: TenantsClient,
        files: FilesClient,
        workspaces: WorkspacesClient,
        auth: AuthClient,
    ) -> None:
        async def load_users(ids: Sequence[str]) -> dict[str, User]:
            return {user.id: user for user in await users.get_users(caller, ids)}

        async def load_tenants(ids: Sequence[str]) -> dict[str, Tenant]:
            return {tenant.id: tenant for tenant in await tenants.get_tenants(caller, ids)}

        async def load_files(ids: Sequence[str]) -> dict[str, File]:
            return {file.id: file for file in await files.get_files(caller, ids)}

        async def load_workspaces(ids: Sequence[str]) -> dict[str, Workspace]:
            return {workspace.id: workspace for workspace in await workspaces.get_workspaces(caller, ids)}

        self.user = DataLoader(load_users, max_batch_size=MAX_BATCH_SIZE)
        self.tenant = DataLoader(load_tenants, max_batch_size=MAX_BATCH_SIZE)
        self.file = DataLoader(load_files, max_batch_size=MAX_BATCH_SIZE)
        self.workspace = DataLoader(load_workspaces, max_batch_size=MAX_BATCH_SIZE)
        self.sessions = Once(lambda: auth.list_sessions(caller))
        """The principal's open sessions, newest first."""
        self.preferences = Once(lambda: users.get_preferences(caller))
        """The principal's preferences."""
        self.memberships = Once(lambda: tenants.list_tenants(caller))
        """All tenants of which the principal is a member."""
