"""The first tables of files."""

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
                ("content_type", fields.CharField(default="application/octet-stream", max_length=127)),
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
                "table_description": "A file. Nobody sees it until ``uploaded_at`` is set, by the last step of its upload.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="FilesEffect",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("undone", fields.BooleanField(default=False)),
                (
                    "answer",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={"table": "files_effect", "app": "files", "pk_attr": "key"},
            bases=["Effect"],
        ),
        ops.CreateModel(
            name="Upload",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40)),
                ("tenant_id", fields.CharField(max_length=40)),
                ("user_id", fields.CharField(max_length=40)),
                ("name", fields.CharField(max_length=255)),
                ("content_type", fields.CharField(max_length=127)),
                ("size", fields.BigIntField()),
                ("checksum", fields.CharField(null=True, max_length=64)),
                ("access_level", fields.CharField(max_length=16)),
                ("tier", fields.CharField(max_length=16)),
                ("file_id", fields.CharField(null=True, unique=True, max_length=40)),
                ("expires_at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "files_upload",
                "app": "files",
                "indexes": [Index(fields=["tenant_id", "file_id"])],
                "pk_attr": "id",
                "table_description": "Bytes that a client may send. ``file_id`` is set while an operation makes a file of them, and once one has.",
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
                "table_description": "How many bytes a tenant's files take, those that are being made included: one row to compare and set.",
            },
            bases=["Model"],
        ),
    ]
