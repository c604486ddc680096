"""The root type Query."""

from __future__ import annotations

from typing import Annotated

import strawberry
from strawberry import ID

from contracts import operations
from contracts.errors import DomainError
from resolvers.inputs import IdInput, IdsInput
from resolvers.nodes import NodeObject, load_node, load_nodes, load_operation
from resolvers.viewer import ViewerResolver, find_viewer
from schema.fields import Info, field
from schema.types.node import Node
from schema.types.operations import Operation
from schema.types.viewer import Viewer


@strawberry.type(description="Root type of queries.")
class Query:
    @field(Viewer | None, "The signed-in user. Null without a session.")
    @staticmethod
    async def viewer(info: Info) -> ViewerResolver | None:
        return await find_viewer(info.context)

    @field(
        Operation,
        "NOT_FOUND unless the viewer started the operation or administers its tenant. For logins see Login.",
    )
    @staticmethod
    async def operation(
        info: Info, id: Annotated[ID, strawberry.argument(description="Id of the operation.")]
    ) -> operations.Operation:
        return await load_operation(info.context, IdInput.check({"id": id}).id)

    @field(
        Node | None,
        "The object with this id. Null with a NOT_FOUND error if it does not exist or the viewer may not see it.",
    )
    @staticmethod
    async def node(info: Info, id: Annotated[ID, strawberry.argument(description="Id of the object.")]) -> NodeObject:
        return await load_node(info.context, IdInput.check({"id": id}).id)

    @field(
        list[Node | None],
        "The objects with these ids, in the same order. An object that does not exist or that the viewer may not see "
        "is null, with a NOT_FOUND error at its path. Duplicate ids are loaded once.",
    )
    @staticmethod
    async def nodes(
        info: Info, ids: Annotated[list[ID], strawberry.argument(description="At most 100 ids.")]
    ) -> list[NodeObject | DomainError]:
        return await load_nodes(info.context, IdsInput.check({"ids": ids}).ids)
