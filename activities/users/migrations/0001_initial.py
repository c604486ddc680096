"""Create the tables of the users service."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from contracts.users import Theme


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Affiliation",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("user_id", fields.CharField(max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
            ],
            options={
                "table": "users_affiliation",
                "app": "users",
                "unique_together": (("tenant_id", "user_id"),),
                "pk_attr": "id",
                "table_description": "A user who belongs to a tenant: users of one tenant may see each other's profiles. Roles are in tenants.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Preferences",
            fields=[
                ("user_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("language", fields.CharField(max_length=35)),
                ("timezone", fields.CharField(max_length=64)),
                (
                    "theme",
                    fields.CharEnumField(
                        description="SYSTEM: SYSTEM\nLIGHT: LIGHT\nDARK: DARK", enum_type=Theme, max_length=16
                    ),
                ),
                ("email_notifications", fields.BooleanField()),
            ],
            options={
                "table": "users_preferences",
                "app": "users",
                "pk_attr": "user_id",
                "table_description": "A user's settings of the user interface and of notifications.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="User",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("email", fields.CharField(unique=True, max_length=320)),
                ("email_key", fields.CharField(null=True, unique=True, max_length=320)),
                ("name", fields.CharField(max_length=200)),
                ("mfa_enabled", fields.BooleanField(default=False)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("tenant_change_key", fields.CharField(null=True, max_length=200)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "users_user",
                "app": "users",
                "pk_attr": "id",
                "table_description": "The profile of a user and the tenant in which the user works.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="UsersIdempotencyRecord",
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
                "table": "users_idempotency_record",
                "app": "users",
                "pk_attr": "key",
                "table_description": "Idempotency record of a step of the users service.",
            },
            bases=["IdempotencyRecord"],
        ),
    ]
