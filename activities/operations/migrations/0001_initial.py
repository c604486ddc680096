"""Create the tables of the record of operations."""

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops
from tortoise.migrations.schema_editor.base import BaseSchemaEditor

# An index of the substrings of 1 to 3 characters. The extension pg_trgm would serve, but not every server has it.
_SEARCH = """
CREATE FUNCTION operations_ngrams(label text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(DISTINCT substr(label, start, size))
    FROM generate_series(1, 3) size, generate_series(1, length(label) - size + 1) start
$$;
CREATE INDEX operations_record_search ON operations_record USING gin (operations_ngrams(search_key));
CREATE INDEX operations_record_statistics ON operations_record (tenant_id, started_at)
    INCLUDE (kind, status, failed_step, duration_class) WHERE deleted_at IS NULL;
"""


async def _create_search_indexes(_apps: object, editor: BaseSchemaEditor) -> None:
    """Create the indexes on PostgreSQL; SQLite, which serves a single developer, searches by a table scan."""
    if editor.client.capabilities.dialect == "postgres":
        await editor.client.execute_script(_SEARCH)


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="OperationRecord",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=80)),
                ("kind", fields.CharField(max_length=32)),
                ("status", fields.CharField(max_length=16)),
                ("version", fields.CharField(max_length=64)),
                ("user_id", fields.CharField(max_length=40)),
                ("tenant_id", fields.CharField(default="", max_length=40)),
                ("other_tenant_id", fields.CharField(default="", max_length=40)),
                ("subject", fields.CharField(null=True, max_length=320)),
                ("search_key", fields.CharField(null=True, max_length=640)),
                ("is_private", fields.BooleanField(null=True)),
                ("target_id", fields.CharField(null=True, max_length=40)),
                ("retry_of", fields.CharField(null=True, max_length=80)),
                ("started_at", fields.BigIntField()),
                ("closed_at", fields.BigIntField(default=0)),
                ("duration_ms", fields.BigIntField(default=-1)),
                ("duration_class", fields.IntField(default=-1)),
                ("failed_step", fields.CharField(default="", max_length=60)),
                ("run_id", fields.CharField(default="", max_length=40)),
                ("needs_repair", fields.BooleanField(default=False)),
                ("written_at", fields.BigIntField()),
                ("confirmed_at", fields.BigIntField(default=0)),
                ("missing_since", fields.BigIntField(null=True)),
                ("deleted_at", fields.BigIntField(null=True)),
            ],
            options={
                "table": "operations_record",
                "app": "operations",
                "indexes": [
                    Index(fields=["tenant_id", "started_at", "id"]),
                    Index(fields=["tenant_id", "closed_at", "id"]),
                    Index(fields=["tenant_id", "duration_ms", "id"]),
                    Index(fields=["tenant_id", "kind", "started_at", "id"]),
                    Index(fields=["tenant_id", "status", "started_at", "id"]),
                    Index(fields=["tenant_id", "user_id", "started_at", "id"]),
                    Index(fields=["user_id", "started_at", "id"]),
                    Index(fields=["user_id", "closed_at", "id"]),
                    Index(fields=["user_id", "duration_ms", "id"]),
                    Index(fields=["target_id", "started_at", "id"]),
                    Index(fields=["retry_of"]),
                    Index(fields=["closed_at", "confirmed_at"]),
                    Index(fields=["needs_repair", "closed_at"]),
                ],
                "pk_attr": "id",
                "table_description": "One operation. Times are whole microseconds since 1970 (UTC), so that both databases order them alike.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OperationStateRow",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=80)),
                ("version", fields.CharField(max_length=64)),
                ("operation", fields.TextField(unique=False)),
            ],
            options={
                "table": "operations_state",
                "app": "operations",
                "pk_attr": "id",
                "table_description": "The state of one operation: the contract ``Operation`` as JSON text, at the version that ``version`` names.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="RepairProgress",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, default=1, unique=True, db_index=True)),
                ("leased_until", fields.BigIntField(default=0)),
                ("watermark", fields.BigIntField(default=0)),
            ],
            options={
                "table": "operations_repair_progress",
                "app": "operations",
                "pk_attr": "id",
                "table_description": "The lease and the progress of the record's repair, in one row.",
            },
            bases=["Model"],
        ),
        ops.RunPython(_create_search_indexes),
    ]
