"""The key that decides whether two e-mail addresses are the same; addresses are kept as they were entered."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state_apps import StateApps

from contracts.email_addresses import email_key


async def fill(apps: StateApps, editor: BaseSchemaEditor) -> None:
    rows = apps.get_model("auth", "Credential").all().using_db(editor.client)
    # No row is saved: Tortoise would keep the statements for this table as it is now, beyond the migration.
    for user_id, email in await rows.values_list("user_id", "email"):
        await rows.filter(user_id=user_id).update(email_key=email_key(email)[:320])


class Migration(migrations.Migration):
    dependencies = [("auth", "0002_idle_and_sealed")]

    operations = [
        ops.AddField(model_name="Credential", name="email_key", field=fields.CharField(null=True, max_length=320)),
        ops.RunPython(fill, ops.RunPython.noop),
        ops.AlterField(
            model_name="Credential", name="email_key", field=fields.CharField(null=True, unique=True, max_length=320)
        ),
    ]
