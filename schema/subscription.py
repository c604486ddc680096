"""The root type Subscription."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, TypeAlias

import strawberry
from strawberry import ID, UNSET

from contracts import operations
from contracts.operation_records import RecordFilter
from resolvers.inputs import FollowInput
from resolvers.subscriptions import follow_operation, follow_operations
from schema.descriptions import FILTER
from schema.fields import Info, subscription
from schema.inputs import OperationFilter, provided, validated
from schema.types.operations import Operation

OperationStates: TypeAlias = AsyncGenerator[operations.Operation, None]

_OPERATION = """
Emits the current state (unless `after` is its cursor), then every newer state, and completes when the operation closes.
After a lost connection a client subscribes again, at any replica, with the last cursor it received, and receives the
newest state, which contains all steps. A client that follows the tenant switch that ends its own session receives the
final state before its connection closes.
""".strip()

_OPERATIONS = """
Emits the viewer's active operations in the current tenant, then every change of any of the viewer's operations,
whichever client started it. An operation that stops matching the filter is emitted once more in its new state.
""".strip()


@strawberry.type(description="Root type of subscriptions.")
class Subscription:
    @subscription(Operation, _OPERATION)
    @staticmethod
    async def operation(
        info: Info,
        id: Annotated[ID, strawberry.argument(description="Id of the operation.")],
        after: Annotated[
            str | None, strawberry.argument(description="Cursor of the last state that the client received.")
        ] = UNSET,
    ) -> OperationStates:
        input = FollowInput.check(provided(id=id, after=after))
        async for state in follow_operation(info.context, input):
            yield state

    @subscription(Operation, _OPERATIONS)
    @staticmethod
    async def operations(
        info: Info,
        filter: Annotated[OperationFilter | None, strawberry.argument(description=FILTER)] = UNSET,
    ) -> OperationStates:
        input = validated(RecordFilter, filter, argument="filter")
        async for state in follow_operations(info.context, input):
            yield state
