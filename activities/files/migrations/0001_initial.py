"""Create the tables of the files service."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="File",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("owner_id", fields.CharField(max_length=40)),
                ("upload_id", fields.CharField(max_length=40)),
                ("name", fields.CharField(default="", max_length=255)),
                ("content_type", fields.CharField(default="application/octet-stream", max_length=255)),
                ("size", fields.BigIntField()),
                ("checksum", fields.CharField(max_length=64)),
                ("access_level", fields.CharField(default="PRIVATE", max_length=16)),
                ("chunk_bytes", fields.IntField(default=0)),
                (
                    "chunk_checksums",
                    fields.JSONField(
                        default=list, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                (
                    "metadata",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("metadata_key", fields.CharField(null=True, max_length=200)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("uploaded_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "files_file",
                "app": "files",
                "indexes": [Index(fields=["tenant_id", "uploaded_at", "id"]), Index(fields=["created_at"])],
                "pk_attr": "id",
                "table_description": "A file of a tenant, invisible until the last step of its upload sets ``uploaded_at``.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="FilesIdempotencyRecord",
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
                "table": "files_idempotency_record",
                "app": "files",
                "pk_attr": "key",
                "table_description": "Idempotency record of a step of the files service.",
            },
            bases=["IdempotencyRecord"],
        ),
        ops.CreateModel(
            name="Upload",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("user_id", fields.CharField(max_length=40)),
                ("name", fields.CharField(max_length=255)),
                ("content_type", fields.CharField(max_length=255)),
                ("size", fields.BigIntField()),
                ("checksum", fields.CharField(null=True, max_length=64)),
                ("access_level", fields.CharField(max_length=16)),
                ("tier", fields.CharField(max_length=16)),
                ("file_id", fields.CharField(null=True, unique=True, max_length=40)),
                ("expires_at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=False)),
                ("reserved_until", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("received_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "files_upload",
                "app": "files",
                "indexes": [Index(fields=["tenant_id", "file_id"])],
                "pk_attr": "id",
                "table_description": "An announced upload of bytes, from which one operation creates a file.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Usage",
            fields=[
                ("tenant_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("bytes", fields.BigIntField(default=0)),
            ],
            options={
                "table": "files_usage",
                "app": "files",
                "pk_attr": "tenant_id",
                "table_description": "The number of bytes that a tenant's files occupy, including files that an operation is creating.",
            },
            bases=["Model"],
        ),
    ]
