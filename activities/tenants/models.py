"""The tables of tenants."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.auth import Role
from contracts.tenants import SubscriptionTier


class Tenant(Model):
    id = fields.CharField(max_length=40, primary_key=True)
    name = fields.CharField(max_length=200)
    slug = fields.CharField(max_length=64, unique=True)
    subscription_tier = fields.CharEnumField(SubscriptionTier, max_length=16)

    class Meta:
        table = "tenants_tenant"


class Membership(Model):
    id = fields.BigIntField(primary_key=True)
    user_id = fields.CharField(max_length=40)
    tenant_id = fields.CharField(max_length=40, db_index=True)
    role = fields.CharEnumField(Role, max_length=16)

    class Meta:
        table = "tenants_membership"
        unique_together = (("user_id", "tenant_id"),)


class FeatureFlag(Model):
    id = fields.BigIntField(primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=64)
    enabled = fields.BooleanField()

    class Meta:
        table = "tenants_feature_flag"
        unique_together = (("tenant_id", "name"),)


class TenantsEffect(IdempotencyRecord):
    class Meta:
        table = "tenants_effect"
