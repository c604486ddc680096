"""Tables of the tenants service: tenants, memberships and feature flags."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.auth import Role
from contracts.tenants import SubscriptionTier


class Tenant(Model):
    """An organization whose members share files, workspaces and operations."""

    id = fields.CharField(max_length=40, primary_key=True)
    name = fields.CharField(max_length=200)
    slug = fields.CharField(max_length=64, unique=True)
    subscription_tier = fields.CharEnumField(SubscriptionTier, max_length=16)

    class Meta:
        table = "tenants_tenant"


class Membership(Model):
    """The role of a user in a tenant."""

    id = fields.BigIntField(primary_key=True)
    user_id = fields.CharField(max_length=40)
    tenant_id = fields.CharField(max_length=40, db_index=True)
    role = fields.CharEnumField(Role, max_length=16)

    class Meta:
        table = "tenants_membership"
        unique_together = (("user_id", "tenant_id"),)


class FeatureFlag(Model):
    """A feature that is enabled or disabled for one tenant."""

    id = fields.BigIntField(primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=64)
    enabled = fields.BooleanField()

    class Meta:
        table = "tenants_feature_flag"
        unique_together = (("tenant_id", "name"),)


class TenantsIdempotencyRecord(IdempotencyRecord):
    """Idempotency record of a step of the tenants service."""

    class Meta:
        table = "tenants_idempotency_record"
