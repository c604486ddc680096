"""Somebody new: the operation that takes them in, and the place they get."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeAlias

import strawberry
from strawberry import Parent

from contracts import workspaces
from resolvers import details
from schema.fields import Info, field
from schema.node import Node
from schema.operations import Operation, Shown
from schema.users import User

Seen: TypeAlias = Parent[workspaces.Workspace]


@strawberry.type
class Workspace(Node):
    name: str

    @field(str, "Contains the tenant's slug.")
    @staticmethod
    async def url(workspace: Seen, info: Info) -> str:
        return await details.workspace_link(info.context, workspace)

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, workspaces.Workspace)


@strawberry.type
class UserOnboardingResult:
    user: User
    workspace: Workspace
    welcome_email_sent: bool


@strawberry.type
class UserOnboarding(Operation):
    @field(UserOnboardingResult | None)
    @staticmethod
    def result(operation: Shown, info: Info) -> Awaitable[details.OnboardingOutcome | None] | None:
        return details.onboarding_outcome(info.context, operation) if operation.state.result else None
