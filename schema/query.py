"""What can be asked."""

from __future__ import annotations

import strawberry
from strawberry import ID

from contracts import operations
from contracts.errors import DomainError
from resolvers import inputs
from resolvers import nodes as things
from resolvers import viewer as seen
from resolvers.nodes import Thing
from schema.fields import Info, field
from schema.types.node import Node
from schema.types.operations import Operation
from schema.types.viewer import Viewer


@strawberry.type
class Query:
    @field(Viewer | None, "Who is asking; null without a session.")
    @staticmethod
    async def viewer(info: Info) -> seen.Viewer | None:
        return await seen.viewer(info.context)

    @field(
        Operation,
        "NOT_FOUND unless the viewer started it or administers its tenant. For logins see Login.",
    )
    @staticmethod
    async def operation(info: Info, id: ID) -> operations.Operation:
        return await things.operation(info.context, inputs.IdInput.check({"id": id}).id)

    @field(Node | None)
    @staticmethod
    async def node(info: Info, id: ID) -> Thing:
        return await things.node(info.context, inputs.IdInput.check({"id": id}).id)

    @field(list[Node | None])
    @staticmethod
    async def nodes(info: Info, ids: list[ID]) -> list[Thing | DomainError]:
        return await things.nodes(info.context, inputs.IdsInput.check({"ids": ids}).ids)
