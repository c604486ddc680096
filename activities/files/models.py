"""Tables of the files service: uploads, files and storage usage."""

from __future__ import annotations

from pydantic import JsonValue
from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from activities.idempotency import IdempotencyRecord


class Upload(Model):
    """An announced upload of bytes, from which one operation creates a file.

    ``file_id`` is set once an operation has created the record of the file. The tenant's storage is reserved for the
    upload until ``reserved_until``, and without that limit after its bytes have arrived (``received_at``).
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
    """A file of a tenant, invisible until the last step of its upload sets ``uploaded_at``.

    ``chunk_checksums`` are the SHA-256 digests of consecutive chunks of ``chunk_bytes`` bytes (the last chunk is
    shorter), computed while the SHA-256 of the whole file (``checksum``) was verified. ``metadata_key`` is the
    idempotency key of the step that published ``metadata``.
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
    """The number of bytes that a tenant's files occupy, including files that an operation is creating."""

    tenant_id = fields.CharField(max_length=40, primary_key=True)
    bytes = fields.BigIntField(default=0)

    class Meta:
        table = "files_usage"


class FilesIdempotencyRecord(IdempotencyRecord):
    """Idempotency record of a step of the files service."""

    class Meta:
        table = "files_idempotency_record"
