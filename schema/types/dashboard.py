"""The dashboard, each field from its own source."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import strawberry
from strawberry import Parent

from contracts import files, operations, tenants, users
from resolvers import dashboard as gathered
from schema.fields import field
from schema.types.files import File
from schema.types.operations import Operation
from schema.types.tenants import Tenant
from schema.types.users import User

DashboardParent: TypeAlias = Parent[gathered.Dashboard]

_DASHBOARD = """
Gathered side by side. A source that is down or slow leaves its own field null, with an UPSTREAM_UNAVAILABLE or
TIMEOUT error on that field's path, and holds up nothing else.
""".strip()


@strawberry.type(description=_DASHBOARD)
class Dashboard:
    @field(User | None)
    @staticmethod
    async def profile(dashboard: DashboardParent) -> users.User:
        return await dashboard.profile()

    @field(Tenant | None)
    @staticmethod
    async def tenant(dashboard: DashboardParent) -> tenants.Tenant:
        return await dashboard.tenant()

    @field(list[File] | None, "The ten newest that the viewer sees in the current tenant, newest first.")
    @staticmethod
    async def recent_files(dashboard: DashboardParent) -> list[files.File]:
        return await dashboard.recent_files()

    @field(
        list[Operation] | None,
        "The viewer's in the current tenant that have not closed, newest first; the fifty newest where there are more.",
    )
    @staticmethod
    async def active_operations(dashboard: DashboardParent) -> list[operations.Operation]:
        return await dashboard.active_operations()

    @field(datetime, "When the oldest of what is shown was fetched: thirty seconds ago at most.")
    @staticmethod
    async def last_updated(dashboard: DashboardParent) -> datetime:
        return await dashboard.last_updated()
