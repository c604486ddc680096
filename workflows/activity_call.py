"""Call an activity by its typed method, on the task queue of its domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import workflow

from contracts.task_queues import TaskQueue
from workflows.options import DATABASE, ActivityOptions

Domain = TypeVar("Domain")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

Activity = Callable[[Domain, Argument], Awaitable[Result]]
"""An activity as an unbound method of its class, such as ``Users.update_user_tenant``."""


async def call(
    activity: Activity[Domain, Argument, Result], argument: Argument, options: ActivityOptions = DATABASE
) -> Result:
    """Execute the activity on the task queue of its domain and return its result.

    If the workflow is cancelled, the call waits until the running attempt has ended, because an undo must not overtake
    the step that it undoes. The attempt may still return a result: check ``workflow.cancellation_reason()`` afterwards.

    Raises:
        ActivityError: the activity failed, timed out or was cancelled.
    """
    return await workflow.execute_activity_method(
        activity,
        argument,
        task_queue=_task_queue(activity),
        start_to_close_timeout=options.start_to_close,
        heartbeat_timeout=options.heartbeat,
        retry_policy=options.retry,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def _task_queue(activity: Activity[Domain, Argument, Result]) -> TaskQueue:
    domain, _, _ = activity.__qualname__.partition(".")
    return TaskQueue(domain.lower())
