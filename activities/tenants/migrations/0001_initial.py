"""Create the tables of the tenants service."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from contracts.auth import Role
from contracts.tenants import SubscriptionTier


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="FeatureFlag",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("name", fields.CharField(max_length=64)),
                ("enabled", fields.BooleanField()),
            ],
            options={
                "table": "tenants_feature_flag",
                "app": "tenants",
                "unique_together": (("tenant_id", "name"),),
                "pk_attr": "id",
                "table_description": "A feature that is enabled or disabled for one tenant.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Membership",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("user_id", fields.CharField(max_length=40)),
                ("tenant_id", fields.CharField(db_index=True, max_length=40)),
                (
                    "role",
                    fields.CharEnumField(
                        description="OWNER: owner\nADMIN: admin\nMEMBER: member\nGUEST: guest",
                        enum_type=Role,
                        max_length=16,
                    ),
                ),
            ],
            options={
                "table": "tenants_membership",
                "app": "tenants",
                "unique_together": (("user_id", "tenant_id"),),
                "pk_attr": "id",
                "table_description": "The role of a user in a tenant.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Tenant",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("name", fields.CharField(max_length=200)),
                ("slug", fields.CharField(unique=True, max_length=64)),
                (
                    "subscription_tier",
                    fields.CharEnumField(
                        description="FREE: FREE\nPROFESSIONAL: PROFESSIONAL\nENTERPRISE: ENTERPRISE",
                        enum_type=SubscriptionTier,
                        max_length=16,
                    ),
                ),
            ],
            options={
                "table": "tenants_tenant",
                "app": "tenants",
                "pk_attr": "id",
                "table_description": "An organization whose members share files, workspaces and operations.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="TenantsIdempotencyRecord",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("is_undone", fields.BooleanField(default=False)),
                (
                    "result",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={
                "table": "tenants_idempotency_record",
                "app": "tenants",
                "pk_attr": "key",
                "table_description": "Idempotency record of a step of the tenants service.",
            },
            bases=["IdempotencyRecord"],
        ),
    ]
