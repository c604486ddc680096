"""Types for workspaces; a workspace belongs to one user within one tenant."""

from __future__ import annotations

from contracts.base import Contract


class Workspace(Contract):
    """The workspace of a user in a tenant."""

    id: str
    name: str
    tenant_id: str
    user_id: str


class NewWorkspace(Contract):
    """Input of the step that creates a workspace for a user, and of its undo. ``key``: idempotency key of the step."""

    key: str
    tenant_id: str
    user_id: str
    name: str


def workspace_path(tenant_slug: str, workspace_id: str) -> str:
    """Return the path of the workspace's page in the product."""
    return f"/{tenant_slug}/workspaces/{workspace_id}"


def product_url(app_url: str, path: str) -> str:
    """Return the URL of a page of the product; only the path if ``app_url`` is empty."""
    return f"{app_url.rstrip('/')}{path}"
