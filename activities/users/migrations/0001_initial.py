"""The first tables of users."""

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
            options={"table": "users_preferences", "app": "users", "pk_attr": "user_id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="User",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("email", fields.CharField(unique=True, max_length=320)),
                ("name", fields.CharField(max_length=200)),
                ("mfa_enabled", fields.BooleanField(default=False)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={"table": "users_user", "app": "users", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="UsersEffect",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("undone", fields.BooleanField(default=False)),
                (
                    "answer",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={"table": "users_effect", "app": "users", "pk_attr": "key"},
            bases=["Effect"],
        ),
    ]
