"""The tables of signing in.

Tables carry comments instead of docstrings: Tortoise copies a docstring into the database, so that each change would
be a migration.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.auth import Role


class Credential(Model):
    user_id = fields.CharField(max_length=40, primary_key=True)
    email = fields.CharField(max_length=320, unique=True)  # as its owner writes it
    email_key = fields.CharField(max_length=320, null=True, unique=True)  # contracts.email_addresses.email_key
    password_hash = fields.CharField(max_length=200)
    totp_secret = fields.CharField(max_length=255, null=True)  # as SecretSeal writes it; an old one in clear
    last_totp_step = fields.BigIntField(null=True)  # the newest 30-second step whose code was accepted

    class Meta:
        table = "auth_credential"


class OneTimeReference(Model):
    hash = fields.CharField(max_length=64, primary_key=True)  # SHA-256 of the reference
    user_id = fields.CharField(max_length=40, db_index=True)
    expires_at = fields.DatetimeField()
    redeemed_by = fields.CharField(max_length=200, null=True)  # the key of the step that redeemed it

    class Meta:
        table = "auth_one_time_reference"


class Session(Model):
    id = fields.CharField(max_length=40, primary_key=True)
    user_id = fields.CharField(max_length=40, db_index=True)
    tenant_id = fields.CharField(max_length=40)
    role = fields.CharEnumField(Role, max_length=16)  # as it began; what it may do is the membership's role's to say
    token_hash = fields.CharField(max_length=64, unique=True)
    active = fields.BooleanField(default=False)  # it opens things while it is active, not ended and not expired
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    last_seen_at = fields.DatetimeField(null=True)  # to within minutes; null where nobody has looked since it is kept
    ended_at = fields.DatetimeField(null=True)
    # The key of the handover that ended it, and null where somebody revoked it: only the former is taken back.
    ended_by = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "auth_session"


class SignIn(Model):
    session_id = fields.CharField(max_length=40, primary_key=True)
    user_id = fields.CharField(max_length=40, db_index=True)
    tenant_id = fields.CharField(max_length=40)
    signed_in_at = fields.DatetimeField()

    class Meta:
        table = "auth_sign_in"


class AuthEffect(IdempotencyRecord):
    class Meta:
        table = "auth_effect"
