"""The tables of users."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.users import Theme


class User(Model):
    id = fields.CharField(max_length=40, primary_key=True)
    email = fields.CharField(max_length=320, unique=True)  # as its owner writes it
    email_key = fields.CharField(max_length=320, null=True, unique=True)  # contracts.email_addresses.email_key
    name = fields.CharField(max_length=200)
    mfa_enabled = fields.BooleanField(default=False)
    tenant_id = fields.CharField(max_length=40)  # the one they work in now
    tenant_change = fields.CharField(max_length=200, null=True)  # the key of the change that set it, where one did
    created_at = fields.DatetimeField()

    class Meta:
        table = "users_user"


class Affiliation(Model):
    # Decides whose profiles a user may see. Roles are the tenants' own matter.
    id = fields.BigIntField(primary_key=True)
    user_id = fields.CharField(max_length=40)
    tenant_id = fields.CharField(max_length=40)

    class Meta:
        table = "users_affiliation"
        unique_together = (("tenant_id", "user_id"),)


class Preferences(Model):
    user_id = fields.CharField(max_length=40, primary_key=True)
    language = fields.CharField(max_length=35)
    timezone = fields.CharField(max_length=64)
    theme = fields.CharEnumField(Theme, max_length=16)
    email_notifications = fields.BooleanField()

    class Meta:
        table = "users_preferences"


class UsersEffect(IdempotencyRecord):
    class Meta:
        table = "users_effect"
