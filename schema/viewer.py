"""Who is signed in, and what they see of themselves."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import strawberry
from strawberry import ID, UNSET, Parent

from contracts import tenants, users
from contracts.files import File
from contracts.operation_records import RecordFilter
from resolvers import dashboard as gathered
from resolvers import inputs
from resolvers import viewer as seen
from resolvers.operation_records import OperationPage
from schema.connections import (
    Connection,
    FileConnection,
    OperationConnection,
    connection,
)
from schema.dashboard import Dashboard
from schema.enums import OperationOrder
from schema.fields import field
from schema.inputs import OperationFilter, checked, given
from schema.tenants import Tenant, TenantOverview
from schema.users import User, UserPreferences

Seen: TypeAlias = Parent[seen.ShownSession]
Asking: TypeAlias = Parent[seen.Viewer]


@strawberry.type
class Session:
    @field(ID)
    @staticmethod
    def id(shown: Seen) -> str:
        return shown.session.id

    @field(datetime)
    @staticmethod
    def created_at(shown: Seen) -> datetime:
        return shown.session.created_at

    @field(datetime)
    @staticmethod
    def expires_at(shown: Seen) -> datetime:
        return shown.session.expires_at

    @field(Tenant)
    @staticmethod
    async def tenant(shown: Seen) -> tenants.Tenant:
        return await shown.tenant()

    current: bool


@strawberry.type
class Viewer:
    id: ID = strawberry.field(
        description="Identifies the user in the current tenant, so that normalized caches merge several queries and do "
        "not mix tenants.\nNever equal to a User id."
    )

    @field(User)
    @staticmethod
    async def user(viewer: Asking) -> users.User:
        return await viewer.user()

    @field(Session)
    @staticmethod
    def session(viewer: Asking) -> seen.ShownSession:
        return viewer.session()

    @field(list[Session])
    @staticmethod
    async def sessions(viewer: Asking) -> list[seen.ShownSession]:
        return await viewer.sessions()

    @field(UserPreferences)
    @staticmethod
    async def preferences(viewer: Asking) -> users.Preferences:
        return await viewer.preferences()

    @field(Dashboard)
    @staticmethod
    def dashboard(viewer: Asking) -> gathered.Dashboard:
        return viewer.dashboard()

    @field(TenantOverview)
    @staticmethod
    async def tenant_overview(viewer: Asking) -> seen.TenantOverview:
        return await viewer.tenant_overview()

    @field(FileConnection, "In the current tenant, newest first.")
    @staticmethod
    async def files(viewer: Asking, first: int | None = 20, after: str | None = UNSET) -> Connection[File]:
        page = inputs.PageInput.check(given(first=first, after=after))
        return connection(await viewer.files(page), after=page.after)

    @field(OperationConnection, "In the current tenant, newest first; one that was just started is already in it.")
    @staticmethod
    async def operations(
        viewer: Asking,
        first: int | None = 20,
        after: str | None = UNSET,
        filter: OperationFilter | None = UNSET,
        order_by: OperationOrder | None = OperationOrder.STARTED_AT_DESC,
    ) -> OperationPage:
        page = inputs.OperationPageInput.check(given(first=first, after=after, order_by=order_by))
        wanted = checked(RecordFilter, filter, argument="filter")
        return await viewer.operations(page, wanted)
