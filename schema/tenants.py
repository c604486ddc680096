"""Tenants, as one of their members sees them."""

from __future__ import annotations

import strawberry

from contracts import tenants
from schema.enums import SubscriptionTier
from schema.node import Node


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

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, tenants.Tenant)


@strawberry.type
class TenantOverview:
    available_tenants: list[Tenant]
    current_tenant: Tenant
    permissions: list[str]
