"""The type Workspace."""

from __future__ import annotations

from typing import TypeAlias

import strawberry
from strawberry import Parent

from contracts import workspaces
from resolvers.operations import fields
from schema.fields import Info, field
from schema.types.node import Node

WorkspaceParent: TypeAlias = Parent[workspaces.Workspace]


@strawberry.type(description="The workspace of a user in a tenant.")
class Workspace(Node):
    name: str = strawberry.field(description="Display name of the workspace.")

    @field(str, "URL of the workspace. Contains the tenant's slug.")
    @staticmethod
    async def url(workspace: WorkspaceParent, info: Info) -> str:
        return await fields.workspace_link(info.context, workspace)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, workspaces.Workspace)
