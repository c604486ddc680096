"""Notifications: what users are told by e-mail."""

from __future__ import annotations

from contracts.base import Contract


class WelcomeEmail(Contract):
    """Tell a new user that there is an account for them. ``key`` makes the step idempotent.

    ``workspace_url``: a path in the product.
    """

    key: str
    email: str
    name: str
    tenant_name: str
    workspace_url: str
