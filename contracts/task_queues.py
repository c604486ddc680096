"""Name the task queues of Temporal."""

from __future__ import annotations

from enum import StrEnum


class TaskQueue(StrEnum):
    """The sagas run on ``operations``; each domain's activities on its own queue."""

    OPERATIONS = "operations"
    AUTH = "auth"
    USERS = "users"
    TENANTS = "tenants"
    FILES = "files"
    WORKSPACES = "workspaces"
    NOTIFICATIONS = "notifications"
