"""Tables of the record of operations: a narrow table for lists and filters, and a table of the complete states."""

from __future__ import annotations

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model


class OperationRecord(Model):
    """One operation. Times are whole microseconds since 1970 (UTC), so that both databases order them alike.

    ``tenant_id`` is the tenant that the operation belongs to and ``other_tenant_id`` the one that a switch leads to;
    both are empty for a login whose user is not identified. ``closed_at`` and ``duration_ms`` are 0 and -1 until the
    operation closes: as sort keys they then come last. ``duration_class`` is the class of the duration in histograms,
    without the time spent waiting for a person; -1 until the operation closes. ``search_key`` is the subject,
    case-folded. ``missing_since`` is set while Temporal does not know an operation that has not closed.
    ``confirmed_at`` is when the repair last found that Temporal has what the record has. ``needs_repair`` is set while
    an operation that failed has not undone all that it had done. ``deleted_at`` marks a deleted operation.
    """

    id = fields.CharField(max_length=80, primary_key=True)
    kind = fields.CharField(max_length=32)
    status = fields.CharField(max_length=16)
    version = fields.CharField(max_length=64)
    user_id = fields.CharField(max_length=40)
    tenant_id = fields.CharField(max_length=40, default="")
    other_tenant_id = fields.CharField(max_length=40, default="")
    subject = fields.CharField(max_length=320, null=True)
    search_key = fields.CharField(max_length=640, null=True)
    is_private = fields.BooleanField(null=True)
    target_id = fields.CharField(max_length=40, null=True)
    retry_of = fields.CharField(max_length=80, null=True)
    started_at = fields.BigIntField()
    closed_at = fields.BigIntField(default=0)
    duration_ms = fields.BigIntField(default=-1)
    duration_class = fields.IntField(default=-1)
    failed_step = fields.CharField(max_length=60, default="")
    run_id = fields.CharField(max_length=40, default="")
    needs_repair = fields.BooleanField(default=False)
    written_at = fields.BigIntField()
    confirmed_at = fields.BigIntField(default=0)
    missing_since = fields.BigIntField(null=True)
    deleted_at = fields.BigIntField(null=True)

    class Meta:
        table = "operations_record"
        indexes = (
            Index(fields=("tenant_id", "started_at", "id")),
            Index(fields=("tenant_id", "closed_at", "id")),
            Index(fields=("tenant_id", "duration_ms", "id")),
            Index(fields=("tenant_id", "kind", "started_at", "id")),
            Index(fields=("tenant_id", "status", "started_at", "id")),
            Index(fields=("tenant_id", "user_id", "started_at", "id")),
            Index(fields=("user_id", "started_at", "id")),
            Index(fields=("user_id", "closed_at", "id")),
            Index(fields=("user_id", "duration_ms", "id")),
            Index(fields=("target_id", "started_at", "id")),
            Index(fields=("retry_of",)),
            Index(fields=("closed_at", "confirmed_at")),
            Index(fields=("needs_repair", "closed_at")),
        )


class OperationStateRow(Model):
    """The state of one operation: the contract ``Operation`` as JSON text, at the version that ``version`` names."""

    id = fields.CharField(max_length=80, primary_key=True)
    version = fields.CharField(max_length=64)
    operation = fields.TextField()

    class Meta:
        table = "operations_state"


class RepairProgress(Model):
    """The lease and the progress of the record's repair, in one row.

    ``leased_until`` is the end of the lease of the process that repairs, ``watermark`` the begin of the last complete
    round, both in microseconds since 1970. The row is in the database of the record, so that a record restored from a
    backup is repaired from the time of the backup on.
    """

    id = fields.IntField(primary_key=True, default=1)
    leased_until = fields.BigIntField(default=0)
    watermark = fields.BigIntField(default=0)

    class Meta:
        table = "operations_repair_progress"
