"""Somebody new: the operation that takes them in, and the place they get."""

from __future__ import annotations

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

    @field(str)
    @staticmethod
    def url(workspace: Seen, info: Info) -> str:
        return details.workspace_url(info.context, workspace)

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
    async def result(operation: Shown, info: Info) -> details.OnboardingOutcome | None:
        return await details.onboarding_outcome(info.context, operation)
