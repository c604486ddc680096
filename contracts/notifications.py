"""Types for notifications, which users receive by e-mail."""

from __future__ import annotations

from contracts.base import Contract


class WelcomeEmail(Contract):
    """Input of the step that sends the welcome e-mail to a new user.

    ``key``: idempotency key of the step; ``workspace_url``: the path of the user's workspace in the product.
    """

    key: str
    email: str
    name: str
    tenant_name: str
    workspace_url: str
