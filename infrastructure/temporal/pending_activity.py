"""What history does not contain: the retries of a step that Temporal itself makes, and the heartbeats of the step."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from contracts.operations import Operation, Position, Step, StepHeartbeat, StepStatus

_UNDER_WAY = (StepStatus.RUNNING, StepStatus.RETRYING)
"""States of a step that its pending activity says more about."""
_SILENT = "What works on this step fell silent; it is tried again."


async def with_pending_activity(
    operation: Operation, pending: Iterable[PendingActivityInfo], converter: DataConverter
) -> Operation:
    """Return the operation with the attempts and heartbeat of its current step, at a position of its own."""
    step = current_step(operation)
    activity = next(iter(pending), None)
    if operation.is_closed or step is None or activity is None:
        return operation
    tried = await _tried(step, activity, converter)
    if tried == step:
        return operation
    steps = tuple(tried if each.name == step.name else each for each in operation.state.steps)
    return operation.model_copy(
        update={
            "state": operation.state.model_copy(update={"steps": steps}),
            "position": Position(
                run=operation.position.run,
                revision=operation.position.revision,
                attempt=max(0, activity.attempt - 1),
                permille=round((tried.fraction or 0.0) * 1000),
            ),
        }
    )


def current_step(operation: Operation) -> Step | None:
    """Return the step that is running or being retried."""
    return next((step for step in operation.state.steps if step.status in _UNDER_WAY), None)


def with_monotonic_progress(operation: Operation, before: Operation) -> Operation:
    """Keep the fraction of a step from falling below the one delivered before: a retry may start from the beginning."""
    delivered = {step.name: step.fraction for step in before.state.steps if step.fraction is not None}
    if not delivered or operation.position.run != before.position.run:  # another run starts its steps anew
        return operation
    steps = tuple(
        step.model_copy(update={"fraction": max(step.fraction or 0.0, delivered[step.name])})
        if step.status in _UNDER_WAY and step.name in delivered
        else step
        for step in operation.state.steps
    )
    return operation.model_copy(update={"state": operation.state.model_copy(update={"steps": steps})})


async def _tried(step: Step, activity: PendingActivityInfo, converter: DataConverter) -> Step:
    changes: dict[str, object] = {}
    if activity.HasField("heartbeat_details"):
        (heartbeat,) = await converter.decode(activity.heartbeat_details.payloads[:1], [StepHeartbeat])
        changes["fraction"] = min(1.0, max(0.0, heartbeat.fraction))
    if activity.attempt > 1:
        next_at = activity.next_attempt_schedule_time
        changes |= {
            "status": StepStatus.RETRYING,
            "attempt": step.attempt + activity.attempt - 1,
            "last_error": await _words(activity.last_failure, converter),
            "next_attempt_at": next_at.ToDatetime(tzinfo=UTC) if next_at.seconds else None,
        }
    return step.model_copy(update=changes)


async def _words(failure: Failure, converter: DataConverter) -> str:
    """Return the message of an error of ours, which is written for users; Temporal's own messages are not."""
    error = await converter.decode_failure(failure)
    return error.message if isinstance(error, ApplicationError) and error.type else _SILENT
