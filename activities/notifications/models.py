"""Tables of the notifications service."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class EmailDelivery(Model):
    """An e-mail that the mail server has accepted, without its address and its text."""

    key = fields.CharField(max_length=200, primary_key=True)  # idempotency key of the step that sent the e-mail
    message_id = fields.CharField(max_length=400)  # the Message-ID header, which mail servers log
    delivered_at = fields.DatetimeField()

    class Meta:
        table = "notifications_email_delivery"
