"""Workspaces: the place that a user has in a tenant."""

from __future__ import annotations

from contracts.base import Contract


class Workspace(Contract):
    id: str
    name: str
    tenant_id: str
    user_id: str


class NewWorkspace(Contract):
    """A workspace to create for this user. ``key`` makes the step idempotent and names it to its undo."""

    key: str
    tenant_id: str
    user_id: str
    name: str


def workspace_path(tenant_slug: str, workspace_id: str) -> str:
    """Where people open the workspace, below the address of the product."""
    return f"/{tenant_slug}/workspaces/{workspace_id}"


def in_product(app_url: str, path: str) -> str:
    """The address of a page of the product; a path where the address of the product is unknown."""
    return f"{app_url.rstrip('/')}{path}"
