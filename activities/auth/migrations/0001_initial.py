"""Create the tables of the auth service."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from contracts.auth import Role


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="AuthIdempotencyRecord",
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
                "table": "auth_idempotency_record",
                "app": "auth",
                "pk_attr": "key",
                "table_description": "Idempotency record of a step of the auth service.",
            },
            bases=["IdempotencyRecord"],
        ),
        ops.CreateModel(
            name="Credential",
            fields=[
                ("user_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("email", fields.CharField(unique=True, max_length=320)),
                ("email_key", fields.CharField(null=True, unique=True, max_length=320)),
                ("password_hash", fields.CharField(max_length=200)),
                ("totp_secret", fields.CharField(null=True, max_length=255)),
                ("last_totp_step", fields.BigIntField(null=True)),
            ],
            options={
                "table": "auth_credential",
                "app": "auth",
                "pk_attr": "user_id",
                "table_description": "The e-mail address, password hash and second factor with which a user signs in.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OneTimeReference",
            fields=[
                ("hash", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("user_id", fields.CharField(db_index=True, max_length=40)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("redeemed_by_step", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "auth_one_time_reference",
                "app": "auth",
                "pk_attr": "hash",
                "table_description": "A short-lived proof that a user's password was verified, which one login redeems.",
            },
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
                ("is_active", fields.BooleanField(default=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("last_seen_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ended_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ended_by_step", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "auth_session",
                "app": "auth",
                "pk_attr": "id",
                "table_description": "A session of a user in a tenant, valid while it is active, not ended, not expired and not idle too long.",
            },
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
            options={
                "table": "auth_sign_in",
                "app": "auth",
                "pk_attr": "session_id",
                "table_description": "A completed sign-in and the session that it opened.",
            },
            bases=["Model"],
        ),
    ]
