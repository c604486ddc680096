"""Until when room is kept for an upload, and when its bytes have arrived."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("files", "0002_media_types")]

    operations = [
        ops.AddField(
            model_name="Upload",
            name="reserved_until",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="Upload",
            name="received_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
    ]
