"""The first tables of auth."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from contracts.auth import Role


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="AuthEffect",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("undone", fields.BooleanField(default=False)),
                (
                    "answer",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={"table": "auth_effect", "app": "auth", "pk_attr": "key"},
            bases=["Effect"],
        ),
        ops.CreateModel(
            name="Credential",
            fields=[
                ("user_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("email", fields.CharField(unique=True, max_length=320)),
                ("password_hash", fields.CharField(max_length=200)),
                ("totp_secret", fields.CharField(null=True, max_length=64)),
                ("last_totp_step", fields.BigIntField(null=True)),
            ],
            options={"table": "auth_credential", "app": "auth", "pk_attr": "user_id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OneTimeReference",
            fields=[
                ("hash", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("user_id", fields.CharField(db_index=True, max_length=40)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("redeemed_by", fields.CharField(null=True, max_length=200)),
            ],
            options={"table": "auth_one_time_reference", "app": "auth", "pk_attr": "hash"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Session",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("user_id", fields.CharField(db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                (
                    "role",
                    fields.CharEnumField(
                        description="OWNER: owner\nADMIN: admin\nMEMBER: member\nGUEST: guest",
                        enum_type=Role,
                        max_length=16,
                    ),
                ),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                ("active", fields.BooleanField(default=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("ended_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ended_by", fields.CharField(null=True, max_length=200)),
            ],
            options={"table": "auth_session", "app": "auth", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="SignIn",
            fields=[
                ("session_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("user_id", fields.CharField(db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("signed_in_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={"table": "auth_sign_in", "app": "auth", "pk_attr": "session_id"},
            bases=["Model"],
        ),
    ]
