"""Create the tables of the workspaces service."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Workspace",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("user_id", fields.CharField(max_length=40)),
                ("name", fields.CharField(max_length=250)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "workspaces_workspace",
                "app": "workspaces",
                "pk_attr": "id",
                "table_description": "A user's workspace in a tenant.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="WorkspacesIdempotencyRecord",
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
                "table": "workspaces_idempotency_record",
                "app": "workspaces",
                "pk_attr": "key",
                "table_description": "Idempotency record of a step of the workspaces service.",
            },
            bases=["IdempotencyRecord"],
        ),
    ]
