"""People."""

from __future__ import annotations

from datetime import datetime

import strawberry

from contracts import users
from schema.types.enums import Theme
from schema.types.node import Node


@strawberry.type
class User(Node):
    email: str
    name: str
    mfa_enabled: bool | None = strawberry.field(
        description="Null unless the user is the viewer or a member of a tenant that the viewer administers."
    )
    created_at: datetime

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, users.User)


@strawberry.type
class UserPreferences:
    id: strawberry.ID = strawberry.field(
        description="Identifies the preferences of one user, so that normalized caches merge several queries."
    )
    language: str
    timezone: str
    theme: Theme
    email_notifications: bool
