"""The files service's tables."""

from __future__ import annotations

from pydantic import JsonValue
from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord


class Upload(Model):
    """Bytes that a client may send. ``file_id`` is set while an operation makes a file of them, and once one has.

    The tenant keeps room for them until ``reserved_until``, and longer once they have arrived (``received_at``).
    """

    id = fields.CharField(max_length=40, primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    user_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=255)
    content_type = fields.CharField(max_length=255)
    size = fields.BigIntField()
    checksum = fields.CharField(max_length=64, null=True)
    access_level = fields.CharField(max_length=16)
    tier = fields.CharField(max_length=16)
    file_id = fields.CharField(max_length=40, null=True, unique=True)
    expires_at = fields.DatetimeField(db_index=True)
    reserved_until = fields.DatetimeField(null=True)
    received_at = fields.DatetimeField(null=True)

    class Meta:
        table = "files_upload"
        indexes = (Index(fields=("tenant_id", "file_id")),)


class File(Model):
    """A file. Nobody sees it until ``uploaded_at`` is set, by the last step of its upload.

    ``chunk_checksums`` are the SHA-256 of its bytes, ``chunk_bytes`` at a time (the last is shorter), taken in the pass
    in which the whole was found to have ``checksum``. ``metadata_key`` is the step that published ``metadata``.
    """

    id = fields.CharField(max_length=40, primary_key=True)
    tenant_id = fields.CharField(max_length=40)
    owner_id = fields.CharField(max_length=40)
    upload_id = fields.CharField(max_length=40)
    name = fields.CharField(max_length=255, default="")
    content_type = fields.CharField(max_length=255, default="application/octet-stream")
    size = fields.BigIntField()
    checksum = fields.CharField(max_length=64)
    access_level = fields.CharField(max_length=16, default="PRIVATE")
    chunk_bytes = fields.IntField(default=0)
    chunk_checksums: JsonValue = fields.JSONField(default=list)
    metadata: JsonValue = fields.JSONField(null=True)
    metadata_key = fields.CharField(max_length=200, null=True)
    created_at = fields.DatetimeField()
    uploaded_at = fields.DatetimeField(null=True)

    class Meta:
        table = "files_file"
        indexes = (Index(fields=("tenant_id", "uploaded_at", "id")), Index(fields=("created_at",)))


class Usage(Model):
    """How many bytes a tenant's files take, those that are being made included: one row to compare and set."""

    tenant_id = fields.CharField(max_length=40, primary_key=True)
    bytes = fields.BigIntField(default=0)

    class Meta:
        table = "files_usage"


class FilesEffect(IdempotencyRecord):
    class Meta:
        table = "files_effect"
