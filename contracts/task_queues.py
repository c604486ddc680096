"""The names of Temporal's task queues."""

from __future__ import annotations

from enum import StrEnum


class TaskQueue(StrEnum):
    """Task queues: workflows run on ``operations``, and the activities of each domain on a queue of their own."""

    OPERATIONS = "operations"
    AUTH = "auth"
    USERS = "users"
    TENANTS = "tenants"
    FILES = "files"
    WORKSPACES = "workspaces"
    NOTIFICATIONS = "notifications"
