"""Room for the parameters of a media type, and for types as long as RFC 6838 lets them be."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("files", "0001_initial")]

    operations = [
        ops.AlterField(model_name="Upload", name="content_type", field=fields.CharField(max_length=255)),
        ops.AlterField(
            model_name="File",
            name="content_type",
            field=fields.CharField(default="application/octet-stream", max_length=255),
        ),
    ]
