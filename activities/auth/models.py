"""Tables of the auth service: credentials, one-time references, sessions and sign-ins.

Tortoise copies the first line of a model's docstring into the database as the table's comment: changing that line
requires a migration.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.auth import Role


class Credential(Model):
    """The e-mail address, password hash and second factor with which a user signs in."""

    user_id = fields.CharField(max_length=40, primary_key=True)
    email = fields.CharField(max_length=320, unique=True)  # as the user entered it
    email_key = fields.CharField(max_length=320, null=True, unique=True)  # contracts.email_addresses.email_key
    password_hash = fields.CharField(max_length=200)
    totp_secret = fields.CharField(max_length=255, null=True)  # encrypted by SecretCipher, or in clear without keys
    last_totp_step = fields.BigIntField(null=True)  # the newest 30-second time step whose code was accepted

    class Meta:
        table = "auth_credential"


class OneTimeReference(Model):
    """A short-lived proof that a user's password was verified, which one login redeems."""

    hash = fields.CharField(max_length=64, primary_key=True)  # SHA-256 of the reference
    user_id = fields.CharField(max_length=40, db_index=True)
    expires_at = fields.DatetimeField()
    redeemed_by_step = fields.CharField(max_length=200, null=True)  # idempotency key of the step that redeemed it

    class Meta:
        table = "auth_one_time_reference"


class Session(Model):
    """A session of a user in a tenant, valid while it is active, not ended, not expired and not idle too long."""

    id = fields.CharField(max_length=40, primary_key=True)
    user_id = fields.CharField(max_length=40, db_index=True)
    tenant_id = fields.CharField(max_length=40)
    role = fields.CharEnumField(Role, max_length=16)  # at creation; the membership's current role decides access
    token_hash = fields.CharField(max_length=64, unique=True)
    is_active = fields.BooleanField(default=False)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    last_seen_at = fields.DatetimeField(null=True)  # time of the last use, with a precision of minutes
    ended_at = fields.DatetimeField(null=True)
    # Idempotency key of the step that replaced the session; null for a revoked session, which an undo never restores.
    ended_by_step = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "auth_session"


class SignIn(Model):
    """A completed sign-in and the session that it opened."""

    session_id = fields.CharField(max_length=40, primary_key=True)
    user_id = fields.CharField(max_length=40, db_index=True)
    tenant_id = fields.CharField(max_length=40)
    signed_in_at = fields.DatetimeField()

    class Meta:
        table = "auth_sign_in"


class AuthIdempotencyRecord(IdempotencyRecord):
    """Idempotency record of a step of the auth service."""

    class Meta:
        table = "auth_idempotency_record"
