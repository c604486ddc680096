"""When a session was last in use, and room for a second factor's secret as it is sealed."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("auth", "0001_initial")]

    operations = [
        ops.AddField(
            model_name="Session",
            name="last_seen_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AlterField(model_name="Credential", name="totp_secret", field=fields.CharField(null=True, max_length=255)),
    ]
