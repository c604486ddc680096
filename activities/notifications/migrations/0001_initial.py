"""Create the tables of the notifications service."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="EmailDelivery",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("message_id", fields.CharField(max_length=400)),
                ("delivered_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "notifications_email_delivery",
                "app": "notifications",
                "pk_attr": "key",
                "table_description": "An e-mail that the mail server has accepted, without its address and its text.",
            },
            bases=["Model"],
        ),
    ]
