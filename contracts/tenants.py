"""Types for tenants: their subscription tier, feature flags and memberships."""

from __future__ import annotations

from enum import StrEnum

from contracts.auth import Role
from contracts.base import Contract


class SubscriptionTier(StrEnum):
    """The plan of a tenant, which determines its rate limits and quotas."""

    FREE = "FREE"
    PROFESSIONAL = "PROFESSIONAL"
    ENTERPRISE = "ENTERPRISE"


class FeatureFlag(Contract):
    """A feature that is enabled or disabled for a tenant."""

    name: str
    enabled: bool


class Tenant(Contract):
    """A tenant as one of its members sees it. ``role``: the role of this member."""

    id: str
    name: str
    slug: str
    subscription_tier: SubscriptionTier
    feature_flags: tuple[FeatureFlag, ...]
    role: Role | None


class Membership(Contract):
    """The role of a user in a tenant."""

    user_id: str
    tenant_id: str
    role: Role


class AccessRequest(Contract):
    """A request to check that a user is a member of a tenant."""

    user_id: str
    tenant_id: str


class Assignment(Contract):
    """Input of the step that adds a user to a tenant, and of its undo.

    ``key``: idempotency key of the step; ``assigned_by``: the member who grants the role and must be allowed to.
    """

    key: str
    user_id: str
    tenant_id: str
    role: Role
    assigned_by: str


class RoleChange(Contract):
    """A change of a member's role. ``changed_by``: the member who grants the role and must be allowed to."""

    user_id: str
    tenant_id: str
    role: Role
    changed_by: str


class MemberRemoval(Contract):
    """The end of a membership. ``removed_by``: the member who ends it; members may end their own membership."""

    user_id: str
    tenant_id: str
    removed_by: str


class SwitchTenantCommand(Contract):
    """Input of the workflow SwitchTenant. ``token_hash``: SHA-256 of the new session's token in lower-case hex."""

    user_id: str
    from_tenant_id: str
    to_tenant_id: str
    session_id: str
    token_hash: str
