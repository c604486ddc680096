"""The tables of workspaces."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord


class Workspace(Model):
    id = fields.CharField(max_length=40, primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    user_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=250)
    created_at = fields.DatetimeField()

    class Meta:
        table = "workspaces_workspace"


class WorkspacesEffect(IdempotencyRecord):
    class Meta:
        table = "workspaces_effect"
