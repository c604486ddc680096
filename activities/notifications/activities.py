"""Activities of the notifications service. The service documents what they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.notifications import WelcomeEmail

if TYPE_CHECKING:
    from activities.notifications.service import NotificationsService


class Notifications:
    """Activities that workflows call on the task queue ``notifications``."""

    def __init__(self, service: NotificationsService) -> None:
        self._service = service

    @activity.defn
    async def send_welcome_email(self, welcome: WelcomeEmail) -> None:
        await self._service.send_welcome_email(welcome)
