"""Tenants: who they are, what they pay for, and who belongs to them."""

from __future__ import annotations

from enum import StrEnum

from contracts.auth import Role
from contracts.base import Contract


class SubscriptionTier(StrEnum):
    FREE = "FREE"
    PROFESSIONAL = "PROFESSIONAL"
    ENTERPRISE = "ENTERPRISE"


class FeatureFlag(Contract):
    name: str
    enabled: bool


class Tenant(Contract):
    """A tenant as one of its members sees it: ``role`` is that member's."""

    id: str
    name: str
    slug: str
    subscription_tier: SubscriptionTier
    feature_flags: tuple[FeatureFlag, ...]
    role: Role | None


class Membership(Contract):
    user_id: str
    tenant_id: str
    role: Role


class AccessRequest(Contract):
    """May this user work in this tenant?"""

    user_id: str
    tenant_id: str


class Assignment(Contract):
    """Make this user a member, in a role that ``assigned_by`` may give there. ``key`` makes the step idempotent and
    names it to its undo."""

    key: str
    user_id: str
    tenant_id: str
    role: Role
    assigned_by: str


class RoleChange(Contract):
    """A change of a member's role, by a member who may grant that role."""

    user_id: str
    tenant_id: str
    role: Role
    changed_by: str


class MemberRemoval(Contract):
    """End a membership, which ``removed_by`` may do there; everybody may end their own."""

    user_id: str
    tenant_id: str
    removed_by: str


class SwitchTenantCommand(Contract):
    """Input of the workflow SwitchTenant. ``token_hash``: lower-case hex SHA-256 of the new session's token."""

    user_id: str
    from_tenant_id: str
    to_tenant_id: str
    session_id: str
    token_hash: str
