"""Workspaces of users."""

from __future__ import annotations

from typing import TypeAlias

import strawberry
from strawberry import Parent

from contracts import workspaces
from resolvers.operations import fields as details
from schema.fields import Info, field
from schema.types.node import Node

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
