"""The types Tenant, FeatureFlag and TenantOverview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry
from strawberry import UNSET, Parent

from contracts import operation_statistics, tenants
from contracts.operation_records import RecordFilter
from resolvers.inputs import OperationPageInput, StatisticsInput
from resolvers.operations.records import OperationPage
from resolvers.tenants import list_tenant_operations, load_operation_statistics
from schema.descriptions import AFTER, FILTER, FIRST
from schema.fields import Info, field
from schema.inputs import OperationFilter, provided, validated
from schema.types.enums import OperationOrder, StatisticsInterval, SubscriptionTier
from schema.types.node import Node
from schema.types.statistics import OperationStatistics

if TYPE_CHECKING:
    from schema.types.connections import OperationConnection

TenantParent: TypeAlias = Parent[tenants.Tenant]


@strawberry.type(description="A feature that is switched on or off for a tenant.")
class FeatureFlag:
    name: str = strawberry.field(description="Name of the feature.")
    enabled: bool = strawberry.field(description="Whether the feature is switched on.")


@strawberry.type(description="A tenant of which the viewer is a member.")
class Tenant(Node):
    name: str = strawberry.field(description="Display name of the tenant.")
    slug: str = strawberry.field(description="Short unique name of the tenant, for URLs.")
    subscription_tier: SubscriptionTier = strawberry.field(description="Subscription of the tenant.")
    feature_flags: list[FeatureFlag] = strawberry.field(description="Features that are switched on or off.")
    role: str | None = strawberry.field(description="The viewer's role in this tenant.")

    @field(
        Annotated["OperationConnection", strawberry.lazy("schema.types.connections")] | None,
        "Operations of all members. Requires operations:administer, and that this is the viewer's current tenant. "
        "Includes operations that were just started and operations that Temporal no longer retains.",
    )
    @staticmethod
    async def operations(
        tenant: TenantParent,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = 20,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = UNSET,
        filter: Annotated[OperationFilter | None, strawberry.argument(description=FILTER)] = UNSET,
        order_by: Annotated[
            OperationOrder | None, strawberry.argument(description="Sort order.")
        ] = OperationOrder.STARTED_AT_DESC,
    ) -> OperationPage:
        page = OperationPageInput.check(provided(first=first, after=after, order_by=order_by))
        records = validated(RecordFilter, filter, argument="filter")
        return await list_tenant_operations(info.context, tenant, page, records)

    @field(OperationStatistics | None, "Statistics of the operations of all members. Requires operations:administer.")
    @staticmethod
    async def operation_statistics(
        tenant: TenantParent,
        info: Info,
        filter: Annotated[OperationFilter | None, strawberry.argument(description=FILTER)] = UNSET,
        interval: Annotated[
            StatisticsInterval | None, strawberry.argument(description="Length of the intervals of the series.")
        ] = StatisticsInterval.DAY,
        time_zone: Annotated[
            str | None, strawberry.argument(description="IANA name of the time zone in which days begin.")
        ] = "UTC",
    ) -> operation_statistics.OperationStatistics:
        records = validated(RecordFilter, filter, argument="filter")
        input = StatisticsInput.check(provided(interval=interval, time_zone=time_zone))
        return await load_operation_statistics(info.context, tenant, records, input)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, tenants.Tenant)


@strawberry.type(description="The viewer's tenants and permissions.")
class TenantOverview:
    available_tenants: list[Tenant] = strawberry.field(description="All tenants of which the viewer is a member.")
    current_tenant: Tenant = strawberry.field(description="The tenant of the viewer's session.")
    permissions: list[str] = strawberry.field(description="Permissions of the viewer in the current tenant.")
