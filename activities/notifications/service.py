"""The rules of notifications: what is written to whom, and each letter once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from activities.notifications import models
from activities.notifications.emails import EmailHeaders, welcome_letter
from activities.notifications.mailer import Mail
from activities.transactions import atomic
from contracts.base import utc_now
from contracts.notifications import WelcomeEmail
from contracts.workspaces import in_product


class NotificationsService:
    """``sender``: the address that letters come from, ``Name <name@example.com>`` or without a name.

    ``app_url``: where people open the product, for links.
    """

    def __init__(self, mail: Mail, sender: str, app_url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._mail = mail
        self._sender = sender
        self._app_url = app_url
        self._clock = clock

    async def send_welcome_email(self, welcome: WelcomeEmail) -> None:
        """Hand the letter over, unless that is known to be done. Raises AddressRefused.

        Where the mail server takes a letter and its answer is lost, the next try sends it again, under the same
        Message-ID: nobody can know better, and mail programs show it once.
        """
        if await models.Delivery.exists(key=welcome.key):
            return
        head = EmailHeaders(sender=self._sender, message_id=self._message_id(welcome.key), date=self._clock())
        link = in_product(self._app_url, welcome.workspace_url)
        await self._mail.send(welcome_letter(welcome, head, link))

        async def note() -> None:
            await models.Delivery.get_or_create(
                key=welcome.key, defaults={"message_id": head.message_id, "delivered_at": head.date}
            )

        await atomic(note)

    def _message_id(self, key: str) -> str:
        """One for each key, and of our own domain (RFC 5322, 3.6.4)."""
        _, _, domain = self._sender.rstrip("> ").rpartition("@")
        return f"<{hashlib.sha256(key.encode()).hexdigest()}@{domain}>"
