"""What can be followed."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import strawberry
from strawberry import ID, UNSET

from contracts import operations as contract
from contracts.operation_records import RecordFilter
from resolvers import inputs
from resolvers import subscriptions as streams
from schema.fields import Info, stream
from schema.inputs import OperationFilter, checked, given
from schema.types.operations import Operation

_OPERATION = """
The operation as it stands (unless `after` is its cursor), then again at each change, then complete once it closes.
A client that lost its connection subscribes again, at any replica, with the last cursor it saw: it hears of the
newest state, which holds every step, so nothing is lost and nothing old is told again. Who follows the very tenant
switch that ends their session is told its final state before their socket closes.
""".strip()

_OPERATIONS = """
Emits the viewer's active operations in the current tenant, then every change of any of the viewer's operations,
whichever client started it. An operation that stops matching the filter is emitted once more in its new state.
""".strip()


@strawberry.type
class Subscription:
    @stream(
        Operation,
        _OPERATION,
    )
    @staticmethod
    async def operation(info: Info, id: ID, after: str | None = UNSET) -> AsyncGenerator[contract.Operation, None]:
        wanted = inputs.FollowInput.check(given(id=id, after=after))
        async for state in streams.operation(info.context, wanted):
            yield state

    @stream(
        Operation,
        _OPERATIONS,
    )
    @staticmethod
    async def operations(
        info: Info, filter: OperationFilter | None = UNSET
    ) -> AsyncGenerator[contract.Operation, None]:
        wanted = checked(RecordFilter, filter, argument="filter")
        async for state in streams.operations(info.context, wanted):
            yield state
