"""The types User and UserPreferences."""

from __future__ import annotations

from datetime import datetime

import strawberry

from contracts import users
from schema.types.enums import Theme
from schema.types.node import Node


@strawberry.type(description="A user.")
class User(Node):
    email: str = strawberry.field(description="E-mail address of the user.")
    name: str = strawberry.field(description="Display name of the user.")
    mfa_enabled: bool | None = strawberry.field(
        description="Null unless the user is the viewer or a member of a tenant that the viewer administers."
    )
    created_at: datetime = strawberry.field(description="When the user was created.")

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, users.User)


@strawberry.type(description="Preferences of a user, the same in all tenants.")
class UserPreferences:
    id: strawberry.ID = strawberry.field(
        description="Identifies the preferences of one user, so that normalized caches merge several queries."
    )
    language: str = strawberry.field(description="Language tag (RFC 5646), for example de-CH.")
    timezone: str = strawberry.field(description="Time zone name of the IANA database, for example Europe/Zurich.")
    theme: Theme = strawberry.field(description="Color theme of the user interface.")
    email_notifications: bool = strawberry.field(description="Whether the user receives notifications by e-mail.")
