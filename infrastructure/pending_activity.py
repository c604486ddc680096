"""What history does not tell: the tries that Temporal itself makes of a step, and what its heartbeats say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from contracts.operations import Operation, Position, Step, StepHeartbeat, StepStatus

_UNDER_WAY = (StepStatus.RUNNING, StepStatus.RETRYING)
"""Of such a step alone Temporal itself has something to tell."""
_SILENT = "What works on this step fell silent; it is tried again."


async def with_pending(
    operation: Operation, pending: Iterable[PendingActivityInfo], converter: DataConverter
) -> Operation:
    """The operation with what its pending activity tells of the step under way, at a position of its own."""
    step = under_way(operation)
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


def under_way(operation: Operation) -> Step | None:
    """The step that is being carried out or tried again."""
    return next((step for step in operation.state.steps if step.status in _UNDER_WAY), None)


def never_falling(operation: Operation, before: Operation) -> Operation:
    """A step that is tried again begins at its last heartbeat or anew; what was told as done is not taken back."""
    told = {step.name: step.fraction for step in before.state.steps if step.fraction is not None}
    if not told or operation.position.run != before.position.run:  # another run begins its steps anew
        return operation
    steps = tuple(
        step.model_copy(update={"fraction": max(step.fraction or 0.0, told[step.name])})
        if step.status in _UNDER_WAY and step.name in told
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
    """Our own failures speak in words for a user; Temporal's, of a worker that died, do not."""
    error = await converter.decode_failure(failure)
    return error.message if isinstance(error, ApplicationError) and error.type else _SILENT
