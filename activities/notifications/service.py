"""The notifications service: sends e-mails, each of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from activities.notifications import models
from activities.notifications.emails import EmailHeaders, welcome_email
from activities.notifications.mailer import Mailer
from activities.transactions import atomic
from contracts.base import utc_now
from contracts.notifications import WelcomeEmail
from contracts.workspaces import product_url


class NotificationsService:
    """Sends e-mails to users.

    Args:
        mailer: sends the e-mails.
        sender: the From address, ``Name <name@example.com>`` or without a name.
        app_url: the address of the product's web page, for links.
        clock: returns the current time.
    """

    def __init__(self, mailer: Mailer, sender: str, app_url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._mailer = mailer
        self._sender = sender
        self._app_url = app_url
        self._clock = clock

    async def send_welcome_email(self, welcome: WelcomeEmail) -> None:
        """Send the welcome e-mail, unless an earlier attempt has recorded its delivery.

        If the mail server accepts the e-mail but its response is lost, the next attempt sends it again under the same
        Message-ID; mail programs then show it once.

        Raises:
            AddressRefused: the recipient's address is not valid, or the mail server refuses it for good.
        """
        if await models.EmailDelivery.exists(key=welcome.key):
            return
        headers = EmailHeaders(sender=self._sender, message_id=self._message_id(welcome.key), date=self._clock())
        link = product_url(self._app_url, welcome.workspace_url)
        await self._mailer.send(welcome_email(welcome, headers, link))

        async def record() -> None:
            await models.EmailDelivery.get_or_create(
                key=welcome.key, defaults={"message_id": headers.message_id, "delivered_at": headers.date}
            )

        await atomic(record)

    def _message_id(self, key: str) -> str:
        """Return the Message-ID for the idempotency key, in the domain of the sender (RFC 5322, 3.6.4)."""
        _, _, domain = self._sender.rstrip("> ").rpartition("@")
        return f"<{hashlib.sha256(key.encode()).hexdigest()}@{domain}>"
