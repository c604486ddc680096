"""Tenants, as one of their members sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry
from strawberry import UNSET, Parent

from contracts import operation_statistics, tenants
from contracts.operation_records import RecordFilter
from resolvers import inputs
from resolvers import tenants as administration
from resolvers.operations.records import OperationPage
from schema.fields import Info, field
from schema.inputs import OperationFilter, checked, given
from schema.types.enums import OperationOrder, StatisticsInterval, SubscriptionTier
from schema.types.node import Node
from schema.types.statistics import OperationStatistics

if TYPE_CHECKING:
    from schema.types.connections import OperationConnection

TenantParent: TypeAlias = Parent[tenants.Tenant]


@strawberry.type
class FeatureFlag:
    name: str
    enabled: bool


@strawberry.type
class Tenant(Node):
    name: str
    slug: str
    subscription_tier: SubscriptionTier
    feature_flags: list[FeatureFlag]
    role: str | None = strawberry.field(description="The viewer's role in it.")

    @field(
        Annotated["OperationConnection", strawberry.lazy("schema.types.connections")] | None,
        "Operations of all members. Requires operations:administer, and that this is the viewer's current tenant. "
        "Includes operations that were just started and operations that Temporal no longer retains.",
    )
    @staticmethod
    async def operations(
        tenant: TenantParent,
        info: Info,
        first: int | None = 20,
        after: str | None = UNSET,
        filter: OperationFilter | None = UNSET,
        order_by: OperationOrder | None = OperationOrder.STARTED_AT_DESC,
    ) -> OperationPage:
        page = inputs.OperationPageInput.check(given(first=first, after=after, order_by=order_by))
        wanted = checked(RecordFilter, filter, argument="filter")
        return await administration.operations(info.context, tenant, page, wanted)

    @field(OperationStatistics | None, "Statistics of the operations of all members. Requires operations:administer.")
    @staticmethod
    async def operation_statistics(
        tenant: TenantParent,
        info: Info,
        filter: OperationFilter | None = UNSET,
        interval: StatisticsInterval | None = StatisticsInterval.DAY,
        time_zone: str | None = "UTC",
    ) -> operation_statistics.OperationStatistics:
        wanted = checked(RecordFilter, filter, argument="filter")
        input = inputs.StatisticsInput.check(given(interval=interval, time_zone=time_zone))
        return await administration.operation_statistics(info.context, tenant, wanted, input)

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, tenants.Tenant)


@strawberry.type
class TenantOverview:
    available_tenants: list[Tenant]
    current_tenant: Tenant
    permissions: list[str]
