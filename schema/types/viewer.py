"""The types Viewer and Session."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry
from strawberry import ID, UNSET, Parent

from contracts import tenants, users
from contracts.files import File
from contracts.operation_records import RecordFilter
from resolvers.dashboard import DashboardResolver
from resolvers.inputs import OperationPageInput, PageInput
from resolvers.operations.records import OperationPage
from resolvers.viewer import ViewerResolver, ViewerSession, ViewerTenants
from schema.descriptions import AFTER, FILTER, FIRST
from schema.fields import field
from schema.inputs import OperationFilter, provided, validated
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

SessionParent: TypeAlias = Parent[ViewerSession]
ViewerParent: TypeAlias = Parent[ViewerResolver]


@strawberry.type(description="A session of the viewer. It belongs to one tenant.")
class Session:
    @field(ID, "Id of the session.")
    @staticmethod
    def id(parent: SessionParent) -> str:
        return parent.session.id

    @field(datetime, "When the user signed in or switched to the tenant.")
    @staticmethod
    def created_at(parent: SessionParent) -> datetime:
        return parent.session.created_at

    @field(datetime, "When the session ends at the latest.")
    @staticmethod
    def expires_at(parent: SessionParent) -> datetime:
        return parent.session.expires_at

    @field(Tenant, "The tenant of the session.")
    @staticmethod
    async def tenant(parent: SessionParent) -> tenants.Tenant:
        return await parent.tenant()

    current: bool = strawberry.field(description="True for the session of this request.")


@strawberry.type(description="The signed-in user in the current tenant.")
class Viewer:
    id: ID = strawberry.field(
        description="Identifies the user in the current tenant, so that normalized caches merge several queries and do "
        "not mix tenants.\nNever equal to a User id."
    )

    @field(User, "The signed-in user.")
    @staticmethod
    async def user(viewer: ViewerParent) -> users.User:
        return await viewer.user()

    @field(Session, "The session of this request, or the session that the mutation created.")
    @staticmethod
    def session(viewer: ViewerParent) -> ViewerSession:
        return viewer.session()

    @field(list[Session], "The user's open sessions in all tenants, newest first.")
    @staticmethod
    async def sessions(viewer: ViewerParent) -> list[ViewerSession]:
        return await viewer.sessions()

    @field(UserPreferences, "Preferences of the user.")
    @staticmethod
    async def preferences(viewer: ViewerParent) -> users.Preferences:
        return await viewer.preferences()

    @field(Dashboard, "Summary of the user's data in the current tenant.")
    @staticmethod
    def dashboard(viewer: ViewerParent) -> DashboardResolver:
        return viewer.dashboard()

    @field(TenantOverview, "The user's tenants and permissions.")
    @staticmethod
    async def tenant_overview(viewer: ViewerParent) -> ViewerTenants:
        return await viewer.tenant_overview()

    @field(FileConnection, "The files that the viewer may see in the current tenant, newest first.")
    @staticmethod
    async def files(
        viewer: ViewerParent,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = 20,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = UNSET,
    ) -> Connection[File]:
        page = PageInput.check(provided(first=first, after=after))
        return connection(await viewer.files(page), after=page.after)

    @field(
        OperationConnection,
        "The viewer's operations in the current tenant, including those that were just started and those that Temporal "
        "no longer retains.",
    )
    @staticmethod
    async def operations(
        viewer: ViewerParent,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = 20,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = UNSET,
        filter: Annotated[OperationFilter | None, strawberry.argument(description=FILTER)] = UNSET,
        order_by: Annotated[
            OperationOrder | None, strawberry.argument(description="Sort order.")
        ] = OperationOrder.STARTED_AT_DESC,
    ) -> OperationPage:
        page = OperationPageInput.check(provided(first=first, after=after, order_by=order_by))
        return await viewer.operations(page, validated(RecordFilter, filter, argument="filter"))
