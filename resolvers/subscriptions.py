"""The states of operations that a client subscribes to.

Before each state is yielded, the loaders are reset, so that each result shows the current data of related objects.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from contracts.operation_records import RecordFilter
from contracts.operations import Operation
from resolvers.context import Context
from resolvers.inputs import FollowInput
from resolvers.nodes import access_to_operation


async def follow_operation(context: Context, input: FollowInput) -> AsyncGenerator[Operation]:
    """Yield the current state of one operation, then each newer state until the operation closes.

    Raises:
        NotSignedIn: the client has no session and the id is not that of a login.
        OperationNotFound: the operation does not exist, or the client may not see it.
        InvalidCursor: ``input.after`` is not a cursor of this operation.
    """
    subscription = context.subscription
    with subscription.following(input.id) as on_state:  # before the first await: the session may end during it
        access = await access_to_operation(context, input.id)
        after = subscription.last_event_id or input.after
        states = context.backend.operations.follow(access, input.id, after=after)
        async with aclosing(states):
            async for state in states:
                context.reset_loaders()
                context.delivery = context.backend.operations.delivery(input.id)
                on_state(state)
                yield state


async def follow_operations(context: Context, input: RecordFilter) -> AsyncGenerator[Operation]:
    """Yield the viewer's active operations, then each change of any operation of the viewer that matches the filter.

    Raises:
        NotSignedIn: the client has no session.
    """
    context.subscription.mark_started()
    viewer = await context.require_viewer()
    states = context.backend.operations.follow_feed(viewer, input)
    async with aclosing(states):
        async for state in states:
            context.reset_loaders()
            yield state
