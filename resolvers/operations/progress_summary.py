"""An operation's steps summed up: how far it is, and how long the rest will take."""

from __future__ import annotations

from typing import NamedTuple

from contracts.operations import Operation, OperationStatus, Step, StepStatus
from resolvers.operations.step_durations import Durations

_BEHIND = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_UNDER_WAY = (StepStatus.RUNNING, StepStatus.RETRYING)


class Progress(NamedTuple):
    """``fraction`` is 0 to 1; ``completed_steps`` counts the skipped ones, for they too lie behind."""

    current_step: str | None
    completed_steps: int
    total_steps: int
    fraction: float
    estimated_seconds_remaining: float | None
    steps: tuple[Step, ...]


def progress(operation: Operation, durations: Durations) -> Progress:
    steps, completed, under_way = operation.state.steps, 0, None
    for step in steps:
        if step.status in _BEHIND:
            completed += 1
        elif under_way is None and step.status in _UNDER_WAY:
            under_way = step
    if operation.state.status.is_closed:
        under_way = None
    done = completed + (under_way.fraction or 0.0 if under_way else 0.0)
    return Progress(
        current_step=under_way.name if under_way else None,
        completed_steps=completed,
        total_steps=len(steps),
        fraction=1.0 if operation.state.status is OperationStatus.COMPLETED else min(1.0, done / len(steps)),
        estimated_seconds_remaining=durations.remaining(operation),
        steps=steps,
    )
