"""The tables of notifications."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Delivery(Model):
    # A letter that was handed over. Neither address nor words are kept.
    key = fields.CharField(max_length=200, primary_key=True)  # the step that sent it
    message_id = fields.CharField(max_length=400)  # as the mail server's log has it
    delivered_at = fields.DatetimeField()

    class Meta:
        table = "notifications_delivery"
