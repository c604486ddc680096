"""Which change set the tenant that a user works in, so that only that one is taken back."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("users", "0001_initial")]

    operations = [
        ops.AddField(model_name="User", name="tenant_change", field=fields.CharField(null=True, max_length=200)),
    ]
