"""Summary of the steps of an operation: the current step, the completed fraction and the estimated remaining time."""

from __future__ import annotations

from typing import NamedTuple

from contracts.operations import Operation, OperationStatus, Step, StepStatus
from resolvers.operations.step_durations import StepDurations

_FINISHED = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_IN_PROGRESS = (StepStatus.RUNNING, StepStatus.RETRYING)


class ProgressSummary(NamedTuple):
    """Progress of an operation; ``fraction`` is between 0 and 1, ``completed_steps`` includes skipped steps."""

    current_step: str | None
    completed_steps: int
    total_steps: int
    fraction: float
    estimated_seconds_remaining: float | None
    steps: tuple[Step, ...]


def summarize_progress(operation: Operation, durations: StepDurations) -> ProgressSummary:
    """Return the progress of the operation, with an estimate from the average durations of its steps."""
    steps, completed, current = operation.state.steps, 0, None
    for step in steps:
        if step.status in _FINISHED:
            completed += 1
        elif current is None and step.status in _IN_PROGRESS:
            current = step
    if operation.state.status.is_closed:
        current = None
    finished = completed + (current.fraction or 0.0 if current else 0.0)
    return ProgressSummary(
        current_step=current.name if current else None,
        completed_steps=completed,
        total_steps=len(steps),
        fraction=1.0 if operation.state.status is OperationStatus.COMPLETED else min(1.0, finished / len(steps)),
        estimated_seconds_remaining=durations.remaining(operation),
        steps=steps,
    )
