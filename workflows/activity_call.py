"""Calling an activity by its typed method, on the task queue of its domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import workflow

from contracts.task_queues import TaskQueue
from workflows.options import DATABASE, ActivityOptions

Domain = TypeVar("Domain")
Argument = TypeVar("Argument")
Answer = TypeVar("Answer")

Activity = Callable[[Domain, Argument], Awaitable[Answer]]
"""An activity's method, unbound: ``Users.update_user_tenant``."""


async def call(
    activity: Activity[Domain, Argument, Answer], argument: Argument, options: ActivityOptions = DATABASE
) -> Answer:
    """Run the activity on its domain's queue and wait for its answer.

    A cancelled call waits until the try under way has really ended, for an undo must not overtake what it undoes. So a
    cancellation may be answered by a result: whoever calls looks at ``workflow.cancellation_reason()`` afterwards.
    """
    return await workflow.execute_activity_method(
        activity,
        argument,
        task_queue=_queue(activity),
        start_to_close_timeout=options.start_to_close,
        heartbeat_timeout=options.heartbeat,
        retry_policy=options.retry,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def _queue(activity: Activity[Domain, Argument, Answer]) -> TaskQueue:
    domain, _, _ = activity.__qualname__.partition(".")
    return TaskQueue(domain.lower())
