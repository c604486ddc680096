"""Notifications: what users are told by e-mail."""

from __future__ import annotations

from contracts.base import Contract


class WelcomeEmail(Contract):
    """Tell a new user that there is an account for them. ``key`` makes the step idempotent.

    ``workspace_url``: as in Workspace; the e-mail shows an absolute one only.
    """

    key: str
    email: str
    name: str
    tenant_name: str
    workspace_url: str
