"""Workspaces: the place that a user has in a tenant."""

from __future__ import annotations

from contracts.base import Contract


class Workspace(Contract):
    """``url``: absolute where the worker knows the product's address, else a path from the gateway's."""

    id: str
    name: str
    url: str
    tenant_id: str
    user_id: str


class NewWorkspace(Contract):
    """A workspace to create for this user. ``key`` makes the step idempotent and names it to its undo."""

    key: str
    tenant_id: str
    user_id: str
    name: str
