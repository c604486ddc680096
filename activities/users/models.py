"""Tables of the users service: profiles, affiliations with tenants, and preferences."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord
from contracts.users import Theme


class User(Model):
    """The profile of a user and the tenant in which the user works."""

    id = fields.CharField(max_length=40, primary_key=True)
    email = fields.CharField(max_length=320, unique=True)  # as the user entered it
    email_key = fields.CharField(max_length=320, null=True, unique=True)  # contracts.email_addresses.email_key
    name = fields.CharField(max_length=200)
    mfa_enabled = fields.BooleanField(default=False)
    tenant_id = fields.CharField(max_length=40)  # the current tenant
    tenant_change_key = fields.CharField(max_length=200, null=True)  # idempotency key of the step that set tenant_id
    created_at = fields.DatetimeField()

    class Meta:
        table = "users_user"


class Affiliation(Model):
    """A user who belongs to a tenant: users of one tenant may see each other's profiles. Roles are in tenants."""

    id = fields.BigIntField(primary_key=True)
    user_id = fields.CharField(max_length=40)
    tenant_id = fields.CharField(max_length=40)

    class Meta:
        table = "users_affiliation"
        unique_together = (("tenant_id", "user_id"),)


class Preferences(Model):
    """A user's settings of the user interface and of notifications."""

    user_id = fields.CharField(max_length=40, primary_key=True)
    language = fields.CharField(max_length=35)
    timezone = fields.CharField(max_length=64)
    theme = fields.CharEnumField(Theme, max_length=16)
    email_notifications = fields.BooleanField()

    class Meta:
        table = "users_preferences"


class UsersIdempotencyRecord(IdempotencyRecord):
    """Idempotency record of a step of the users service."""

    class Meta:
        table = "users_idempotency_record"
