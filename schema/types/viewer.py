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
from resolvers.operations.records import OperationPage
from schema.fields import field
from schema.inputs import OperationFilter, checked, given
from schema.types.connections import (
    Connection,
    FileConnection,
    OperationConnection,
    connection,
)
from schema.types.dashboard import Dashboard
from schema.types.enums import OperationOrder
from schema.types.tenants import Tenant, TenantOverview
from schema.types.users import User, UserPreferences

SessionParent: TypeAlias = Parent[seen.ViewerSession]
ViewerParent: TypeAlias = Parent[seen.Viewer]


@strawberry.type
class Session:
    @field(ID)
    @staticmethod
    def id(shown: SessionParent) -> str:
        return shown.session.id

    @field(datetime)
    @staticmethod
    def created_at(shown: SessionParent) -> datetime:
        return shown.session.created_at

    @field(datetime)
    @staticmethod
    def expires_at(shown: SessionParent) -> datetime:
        return shown.session.expires_at

    @field(Tenant)
    @staticmethod
    async def tenant(shown: SessionParent) -> tenants.Tenant:
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
    async def user(viewer: ViewerParent) -> users.User:
        return await viewer.user()

    @field(Session)
    @staticmethod
    def session(viewer: ViewerParent) -> seen.ViewerSession:
        return viewer.session()

    @field(list[Session])
    @staticmethod
    async def sessions(viewer: ViewerParent) -> list[seen.ViewerSession]:
        return await viewer.sessions()

    @field(UserPreferences)
    @staticmethod
    async def preferences(viewer: ViewerParent) -> users.Preferences:
        return await viewer.preferences()

    @field(Dashboard)
    @staticmethod
    def dashboard(viewer: ViewerParent) -> gathered.Dashboard:
        return viewer.dashboard()

    @field(TenantOverview)
    @staticmethod
    async def tenant_overview(viewer: ViewerParent) -> seen.TenantOverview:
        return await viewer.tenant_overview()

    @field(FileConnection, "In the current tenant, newest first.")
    @staticmethod
    async def files(viewer: ViewerParent, first: int | None = 20, after: str | None = UNSET) -> Connection[File]:
        page = inputs.PageInput.check(given(first=first, after=after))
        return connection(await viewer.files(page), after=page.after)

    @field(OperationConnection, "In the current tenant, newest first; one that was just started is already in it.")
    @staticmethod
    async def operations(
        viewer: ViewerParent,
        first: int | None = 20,
        after: str | None = UNSET,
        filter: OperationFilter | None = UNSET,
        order_by: OperationOrder | None = OperationOrder.STARTED_AT_DESC,
    ) -> OperationPage:
        page = inputs.OperationPageInput.check(given(first=first, after=after, order_by=order_by))
        wanted = checked(RecordFilter, filter, argument="filter")
        return await viewer.operations(page, wanted)
