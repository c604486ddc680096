"""Tables of the workspaces service."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord


class Workspace(Model):
    """A user's workspace in a tenant."""

    id = fields.CharField(max_length=40, primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    user_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=250)
    created_at = fields.DatetimeField()

    class Meta:
        table = "workspaces_workspace"


class WorkspacesIdempotencyRecord(IdempotencyRecord):
    """Idempotency record of a step of the workspaces service."""

    class Meta:
        table = "workspaces_idempotency_record"
