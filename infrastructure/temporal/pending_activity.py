"""Attempts and heartbeats of the activity that runs now. A description contains them, the history does not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from contracts.operations import Operation, Position, Step, StepHeartbeat, StepStatus

_ACTIVE_STATUSES = (StepStatus.RUNNING, StepStatus.RETRYING)
"""Statuses of a step that has a pending activity."""
_TIMEOUT_MESSAGE = "The step has stopped responding; it is being retried."


async def with_pending_activity(
    operation: Operation, pending: Iterable[PendingActivityInfo], converter: DataConverter
) -> Operation:
    """Return the operation with the attempts and the heartbeat of its current step, at a later ``Position``."""
    step = current_step(operation)
    activity = next(iter(pending), None)
    if operation.is_closed or step is None or activity is None:
        return operation
    updated = await _with_attempts(step, activity, converter)
    if updated == step:
        return operation
    steps = tuple(updated if each.name == step.name else each for each in operation.state.steps)
    return operation.model_copy(
        update={
            "state": operation.state.model_copy(update={"steps": steps}),
            "position": Position(
                run=operation.position.run,
                revision=operation.position.revision,
                attempt=max(0, activity.attempt - 1),
                permille=round((updated.fraction or 0.0) * 1000),
            ),
        }
    )


def current_step(operation: Operation) -> Step | None:
    """Return the step that is running or being retried; None if there is none."""
    return next((step for step in operation.state.steps if step.status in _ACTIVE_STATUSES), None)


def with_monotonic_progress(operation: Operation, previous: Operation) -> Operation:
    """Return the operation with the fraction of each step not less than in the previous state.

    A retry of a step may start from the beginning, but progress that clients have received does not decrease.
    """
    delivered = {step.name: step.fraction for step in previous.state.steps if step.fraction is not None}
    if not delivered or operation.position.run != previous.position.run:  # another run repeats its steps
        return operation
    steps = tuple(
        step.model_copy(update={"fraction": max(step.fraction or 0.0, delivered[step.name])})
        if step.status in _ACTIVE_STATUSES and step.name in delivered
        else step
        for step in operation.state.steps
    )
    return operation.model_copy(update={"state": operation.state.model_copy(update={"steps": steps})})


async def _with_attempts(step: Step, activity: PendingActivityInfo, converter: DataConverter) -> Step:
    """Return the step with the attempt, the last error and the heartbeat of its activity."""
    changes: dict[str, object] = {}
    if activity.HasField("heartbeat_details"):
        (heartbeat,) = await converter.decode(activity.heartbeat_details.payloads[:1], [StepHeartbeat])
        changes["fraction"] = min(1.0, max(0.0, heartbeat.fraction))
    if activity.attempt > 1:
        next_at = activity.next_attempt_schedule_time
        changes |= {
            "status": StepStatus.RETRYING,
            "attempt": step.attempt + activity.attempt - 1,
            "last_error": await _error_message(activity.last_failure, converter),
            "next_attempt_at": next_at.ToDatetime(tzinfo=UTC) if next_at.seconds else None,
        }
    return step.model_copy(update=changes)


async def _error_message(failure: Failure, converter: DataConverter) -> str:
    """Return the message of an application error, which is written for users, or a general message for timeouts."""
    error = await converter.decode_failure(failure)
    return error.message if isinstance(error, ApplicationError) and error.type else _TIMEOUT_MESSAGE
