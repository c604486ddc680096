"""The type Dashboard, whose fields come from independent sources."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import strawberry
from strawberry import Parent

from contracts import files, operations, tenants, users
from resolvers.dashboard import DashboardResolver
from schema.fields import field
from schema.types.files import File
from schema.types.operations import Operation
from schema.types.tenants import Tenant
from schema.types.users import User

DashboardParent: TypeAlias = Parent[DashboardResolver]

_DASHBOARD = """
Loaded concurrently. A source that is down or slow makes only its own field null, with an UPSTREAM_UNAVAILABLE or
TIMEOUT error at that field's path.
""".strip()


@strawberry.type(description=_DASHBOARD)
class Dashboard:
    @field(User | None, "The viewer's user.")
    @staticmethod
    async def profile(dashboard: DashboardParent) -> users.User:
        return await dashboard.profile()

    @field(Tenant | None, "The current tenant.")
    @staticmethod
    async def tenant(dashboard: DashboardParent) -> tenants.Tenant:
        return await dashboard.tenant()

    @field(list[File] | None, "The ten newest files that the viewer may see in the current tenant, newest first.")
    @staticmethod
    async def recent_files(dashboard: DashboardParent) -> list[files.File]:
        return await dashboard.recent_files()

    @field(
        list[Operation] | None,
        "The viewer's operations in the current tenant that have not closed, newest first; at most the fifty newest.",
    )
    @staticmethod
    async def active_operations(dashboard: DashboardParent) -> list[operations.Operation]:
        return await dashboard.active_operations()

    @field(
        datetime,
        "When the oldest data of the dashboard was read from its source, at most thirty seconds ago.",
    )
    @staticmethod
    async def last_updated(dashboard: DashboardParent) -> datetime:
        return await dashboard.last_updated()
