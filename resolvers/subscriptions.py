"""What a client follows: each result shows the operation, and whatever belongs to it, as it then is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from contracts.operation_records import RecordFilter
from contracts.operations import Operation
from resolvers.context import Context
from resolvers.inputs import FollowInput
from resolvers.nodes import access


async def operation(context: Context, input: FollowInput) -> AsyncGenerator[Operation]:
    """OperationNotFound where there is none or the viewer may not see it; InvalidCursor."""
    following = context.following
    with following.operation(input.id) as told:  # before anything is awaited: the session may end meanwhile
        granted = await access(context, input.id)
        after = following.last_event_id or input.after
        states = context.backend.operations.follow(granted, input.id, after=after)
        async with aclosing(states):
            async for state in states:
                context.forget()
                context.delivery = context.backend.operations.delivery(input.id)
                told(state)
                yield state


async def operations(context: Context, input: RecordFilter) -> AsyncGenerator[Operation]:
    """NotSignedIn without a session."""
    context.following.settle()
    viewer = await context.signed_in()
    states = context.backend.operations.follow_all(viewer, input)
    async with aclosing(states):
        async for state in states:
            context.forget()
            yield state
